"""SQL of FAQs, documents and their passages."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chatbot_common.database import ReadSession, WriteSession
from sqlalchemy import ARRAY, ColumnElement, Select, Table, Text, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from chatbot_conversation.paging import windowed
from chatbot_conversation.tables import AnyRow, documents, faqs, passages
from chatbot_conversation.wire import Window

SYNC_LOCK = 0x73656564  # 'seed': one process syncs seeds at a time
MAX_TOPICS = 20
MAX_QUESTIONS = 3

published = faqs.c.status == "published"


async def published_faqs(session: ReadSession, category: str | None, window: Window) -> list[AnyRow]:
    """Published FAQs, most important first."""
    query = select(faqs).where(published)
    if category is not None:
        query = query.where(faqs.c.category == category)
    rows = await session.execute(windowed(query, faqs, (faqs.c.priority, faqs.c.id), window, descending=True))
    return list(rows.all())


async def published_faq(session: ReadSession, faq_id: UUID) -> AnyRow | None:
    return (await session.execute(select(faqs).where(published, faqs.c.id == faq_id))).first()


def _listed(query: Select[Any]) -> ColumnElement[Any]:
    return func.array(query.scalar_subquery(), type_=ARRAY(Text))


_CATEGORIES = select(faqs.c.category).where(published).group_by(faqs.c.category)
_TITLES = select(documents.c.title).distinct().order_by(documents.c.title)
_QUESTIONS = select(faqs.c.question).where(published).order_by(faqs.c.priority.desc(), faqs.c.id)
_ABOUT = select(
    _listed(_CATEGORIES.order_by(func.max(faqs.c.priority).desc(), faqs.c.category).limit(MAX_TOPICS)),
    _listed(_TITLES.limit(MAX_TOPICS)),
    _listed(_QUESTIONS.limit(MAX_QUESTIONS)),
)


async def about(session: ReadSession) -> tuple[list[str], list[str]]:
    """What the knowledge is about, by one statement, as every turn asks: topics and questions, most important first.

    Topics are categories of published FAQs, then titles of documents. Where no question is published, those are for
    the documents.
    """
    categories, titles, questions = (await session.execute(_ABOUT)).one()
    topics = list(dict.fromkeys([*categories, *titles]))[:MAX_TOPICS]
    return topics, questions or [f"What does {title} say?" for title in titles[:MAX_QUESTIONS]]


async def quotable(session: ReadSession, ids: Sequence[UUID]) -> dict[UUID, AnyRow]:
    """What these vectors stand for: `kind, title, text, keywords` by id. Unpublished and vanished ones are missing."""
    as_faqs = select(
        faqs.c.id, text("'faq' AS kind"), faqs.c.question.label("title"), faqs.c.answer.label("text"), faqs.c.keywords
    )
    as_passages = select(
        passages.c.id, text("'document' AS kind"), documents.c.title, passages.c.text, text("'{}'::text[] AS keywords")
    ).join_from(passages, documents, passages.c.document_id == documents.c.id)
    rows = await session.execute(
        as_faqs.where(published, faqs.c.id.in_(ids)).union_all(as_passages.where(passages.c.id.in_(ids)))
    )
    return {row.id: row for row in rows}


async def lock_seeds(session: WriteSession) -> None:
    await session.execute(select(func.pg_advisory_xact_lock(SYNC_LOCK)))


async def hashes(session: ReadSession, table: Table, key: str) -> dict[str, AnyRow]:
    """By `key`: `id, source, content_hash, indexed_as` of every row."""
    columns = (table.c[key].label("key"), table.c.id, table.c.source, table.c.content_hash, table.c.indexed_as)
    return {row.key: row for row in await session.execute(select(*columns))}


async def upsert_seed(session: WriteSession, table: Table, key: str, values: dict[str, Any]) -> None:
    """Insert or replace one seed row; its id stays."""
    changes = {name: value for name, value in values.items() if name != "id"} | {"updated_at": func.now()}
    statement = insert(table).values(**values).on_conflict_do_update(index_elements=[key], set_=changes)
    await session.execute(statement)


async def remove(session: WriteSession, table: Table, ids: Sequence[UUID]) -> None:
    await session.execute(delete(table).where(table.c.id.in_(ids)))


async def find(session: ReadSession, table: Table, row_id: UUID) -> AnyRow | None:
    return (await session.execute(select(table).where(table.c.id == row_id))).first()


async def mark_indexed(session: WriteSession, table: Table, row_id: UUID, content_hash: str, indexed_as: str) -> bool:
    """Note what the vectors were made from. False when the row is gone or has changed meanwhile."""
    statement = (
        update(table)
        .where(table.c.id == row_id, table.c.content_hash == content_hash)
        .values(indexed_as=indexed_as)
        .returning(table.c.id)
    )
    return (await session.execute(statement)).first() is not None


async def passage_ids(session: ReadSession, document_ids: Sequence[UUID]) -> list[UUID]:
    query = select(passages.c.id).where(passages.c.document_id.in_(document_ids))
    return list((await session.execute(query)).scalars())


async def replace_passages(session: WriteSession, document_id: UUID, chunks: dict[UUID, str]) -> None:
    await session.execute(delete(passages).where(passages.c.document_id == document_id))
    if chunks:
        rows = [
            {"id": passage_id, "document_id": document_id, "position": position, "text": chunk}
            for position, (passage_id, chunk) in enumerate(chunks.items())
        ]
        await session.execute(insert(passages), rows)
