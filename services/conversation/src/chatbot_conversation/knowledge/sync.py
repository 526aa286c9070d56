"""Bring seeds into Postgres as they stand in the file and the folder, and enqueue what is not indexed as it stands.

That is what is new or changed, and all there is after a change of the model or the loss of the vector store.
"""

import asyncio
from pathlib import Path
from typing import Any

import structlog
from chatbot_common.database import Database, WriteSession
from chatbot_common.ids import uuid7
from sqlalchemy import Table

from chatbot_conversation.jobs import JobName, enqueue
from chatbot_conversation.knowledge import store
from chatbot_conversation.knowledge.indexing import indexed_as
from chatbot_conversation.knowledge.seeds import read_documents, read_faqs
from chatbot_conversation.tables import documents, faqs
from chatbot_conversation.vectors import KNOWLEDGE

log = structlog.get_logger(__name__)


async def sync_faqs(database: Database, path: str | None, model: str, generation: str | None) -> None:
    """Without a generation, because the vector store is away, nothing is enqueued.

    Raises `BadFaqFile` before anything is touched. Without a file, seeds of an earlier one are removed.
    """
    seeds = await asyncio.to_thread(read_faqs, Path(path)) if path else []
    await _sync(database, faqs, "slug", [seed.row() for seed in seeds], "index_faq", model, generation)


async def sync_documents(database: Database, folder: str | None, model: str, generation: str | None) -> None:
    """As `sync_faqs`. Raises `BadDocumentsFolder` before anything is touched."""
    seeds = await asyncio.to_thread(read_documents, Path(folder)) if folder else []
    await _sync(database, documents, "path", [seed.row() for seed in seeds], "index_document", model, generation)


async def _sync(
    database: Database,
    table: Table,
    key: str,
    rows: list[dict[str, Any]],
    job: JobName,
    model: str,
    generation: str | None,
) -> None:
    async with database.write() as session:
        await store.lock_seeds(session)
        present = await store.hashes(session, table, key)
        for row in rows:
            old = present.get(row[key])
            if old is not None and old.source != "seed":
                log.warning("seed left out: an administrator wrote one under the same key", key=row[key])
            elif old is None or old.content_hash != row["content_hash"]:
                await store.upsert_seed(session, table, key, {"id": uuid7()} | row)
        wanted = {row[key] for row in rows}
        vanished = [row.id for name, row in present.items() if row.source == "seed" and name not in wanted]
        await _remove(session, table, vanished)
        to_index = await _stale(session, table, key, model, generation) if generation else []
        await enqueue(session, job, [{"id": row_id} for row_id in to_index])
    log.info("seeds synced", table=table.name, seeds=len(rows), to_index=len(to_index), removed=len(vanished))


async def _stale(session: WriteSession, table: Table, key: str, model: str, generation: str) -> list[Any]:
    """Ids of rows, whoever wrote them, whose vectors are not in the store as they should be."""
    rows = (await store.hashes(session, table, key)).values()
    return [row.id for row in rows if row.indexed_as != indexed_as(model, generation, row.content_hash)]


async def _remove(session: WriteSession, table: Table, ids: list[Any]) -> None:
    if not ids:
        return
    vectors = await store.passage_ids(session, ids) if table is documents else ids
    await store.remove(session, table, ids)
    await enqueue(session, "forget_vectors", [{"collection": KNOWLEDGE, "tenant": None, "ids": vectors}])
