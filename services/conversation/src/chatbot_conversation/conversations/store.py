"""SQL of conversations and their messages."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chatbot_common.database import ReadSession, WriteSession
from sqlalchemy import Select, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from chatbot_conversation.paging import windowed
from chatbot_conversation.tables import AnyRow, conversations, feedback, messages, turns
from chatbot_conversation.wire import Window

PREVIEW = 200


def _with_last_message() -> Select[Any]:
    last = (conversations.c.user_id == messages.c.user_id) & (conversations.c.last_message_id == messages.c.id)
    return select(
        conversations,
        messages.c.role.label("last_role"),
        func.left(messages.c.text, PREVIEW).label("last_text"),
        messages.c.status.label("last_status"),
        messages.c.created_at.label("last_created_at"),
    ).join_from(conversations, messages, last, isouter=True)


async def find(session: ReadSession, user_id: UUID, conversation_id: UUID) -> AnyRow | None:
    query = _with_last_message().where(conversations.c.user_id == user_id, conversations.c.id == conversation_id)
    row: AnyRow | None = (await session.execute(query)).first()
    return row


async def newest(session: ReadSession, user_id: UUID, archived: bool | None, window: Window) -> list[AnyRow]:
    query = _with_last_message().where(conversations.c.user_id == user_id)
    if archived is not None:
        query = query.where(conversations.c.archived == archived)
    order = (conversations.c.updated_at, conversations.c.id)
    rows = await session.execute(windowed(query, conversations, order, window, descending=True, owner=user_id))
    return list(rows.all())


async def create(session: WriteSession, user_id: UUID, conversation_id: UUID, **values: Any) -> None:
    await session.execute(insert(conversations).values(user_id=user_id, id=conversation_id, **values))


async def change(session: WriteSession, user_id: UUID, conversation_id: UUID, values: dict[str, Any]) -> None:
    await session.execute(
        update(conversations)
        .where(conversations.c.user_id == user_id, conversations.c.id == conversation_id)
        .values(**values, updated_at=func.now())
    )


async def remove(session: WriteSession, user_id: UUID, conversation_id: UUID) -> Sequence[UUID] | None:
    """Delete a conversation with its turns and messages.

    Turns are locked first, in the order in which a reply being stored locks, so that the two cannot deadlock.

    Returns:
        Ids of the messages that were in it; None when there is no such conversation.
    """
    inside = (turns.c.user_id == user_id) & (turns.c.conversation_id == conversation_id)
    await session.execute(select(turns.c.id).where(inside).order_by(turns.c.id).with_for_update())
    own = (messages.c.user_id == user_id) & (messages.c.conversation_id == conversation_id)
    ids = (await session.execute(select(messages.c.id).where(own))).scalars().all()
    statement = (
        delete(conversations)
        .where(conversations.c.user_id == user_id, conversations.c.id == conversation_id)
        .returning(conversations.c.id)
    )
    return ids if (await session.execute(statement)).first() else None


async def messages_of(
    session: ReadSession, user_id: UUID, conversation_id: UUID | None, window: Window, *, newest_first: bool
) -> list[AnyRow]:
    """Messages of one conversation, or of all (None), each with its `feedback`."""
    rated = (feedback.c.user_id == messages.c.user_id) & (feedback.c.message_id == messages.c.id)
    given = func.jsonb_build_object("rating", feedback.c.rating, "comment", feedback.c.comment, type_=JSONB)
    query = (
        select(messages, case((feedback.c.rating.is_not(None), given)).label("feedback"))
        .join_from(messages, feedback, rated, isouter=True)
        .where(messages.c.user_id == user_id)
    )
    if conversation_id is not None:
        query = query.where(messages.c.conversation_id == conversation_id)
    rows = await session.execute(
        windowed(query, messages, (messages.c.id,), window, descending=newest_first, owner=user_id)
    )
    return list(rows.all())


async def is_answer(session: ReadSession, user_id: UUID, conversation_id: UUID, message_id: UUID) -> bool | None:
    """None when the user has no such message in this conversation."""
    own = (messages.c.user_id == user_id) & (messages.c.id == message_id)
    query = select(messages.c.role).where(own, messages.c.conversation_id == conversation_id)
    role: str | None = (await session.execute(query)).scalar()
    return None if role is None else role == "assistant"


async def put_feedback(session: WriteSession, user_id: UUID, message_id: UUID, **content: Any) -> AnyRow:
    """In place of what the user thought of it before."""
    statement = insert(feedback).values(user_id=user_id, message_id=message_id, **content)
    changed = {name: statement.excluded[name] for name in content}
    given: AnyRow = (
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=["user_id", "message_id"], set_=changed | {"updated_at": func.now()}
            ).returning(feedback)
        )
    ).one()
    return given
