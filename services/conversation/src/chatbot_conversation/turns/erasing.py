"""SQL that erases one turn, where the rest of its conversation stays.

Inside the transaction of `TurnService`, with the turn's row locked.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chatbot_common.database import ReadSession, WriteSession
from sqlalchemy import Select, delete, func, select, update

from chatbot_conversation.tables import AnyRow, conversations, feedback, messages, turns
from chatbot_conversation.turns.said import newest_message_id
from chatbot_conversation.turns.starting import title_of
from chatbot_conversation.turns.told import in_conversation, told_with

NOTHING: dict[str, Any] = {
    **{"text": "", "parts": [], "citations": []},
    **dict.fromkeys(("usage", "error", "moderation", "client_message_id", "finish_reason")),
}


async def erase_turn(session: WriteSession, turn: AnyRow) -> bool:
    """Delete its row alone. False when it was the last of its conversation; two at once wait for one another."""
    place = (conversations.c.user_id == turn.user_id) & (conversations.c.id == turn.conversation_id)
    await session.execute(select(conversations.c.id).where(place).with_for_update())
    await session.execute(delete(turns).where(turns.c.user_id == turn.user_id, turns.c.id == turn.id))
    return await _exists(session, select(turns.c.id).where(in_conversation(turns, turn.user_id, turn.conversation_id)))


async def erase_messages(session: WriteSession, turn: AnyRow) -> list[UUID]:
    """Its answer, and its question unless another turn answers it too, with what was told before; returns which.

    A message from which others go on stays in its place, with nothing in it.
    """
    same = (turns.c.user_id == turn.user_id) & (turns.c.user_message_id == turn.user_message_id)
    asked: list[UUID] = []
    if not await _exists(session, select(turns.c.id).where(same)):
        asked = [turn.user_message_id, *await told_with(session, turn, alone=True)]
    await _erase(session, turn.user_id, [turn.reply_message_id])
    if asked:
        await _erase(session, turn.user_id, asked)
        await _title_again(session, turn)
    await _count_again(session, turn)
    return [turn.reply_message_id, *asked]


async def _erase(session: WriteSession, user_id: UUID, chain: Sequence[UUID]) -> None:
    """A chain of messages, the last one first: all of them stay in their places where something follows that one."""
    own = (messages.c.user_id == user_id) & messages.c.id.in_(chain)
    below = select(messages.c.id).where(messages.c.user_id == user_id, messages.c.parent_id == chain[0])
    if await _exists(session, below):
        await session.execute(update(messages).where(own).values(**NOTHING))
        rated = (feedback.c.user_id == user_id) & feedback.c.message_id.in_(chain)
        await session.execute(delete(feedback).where(rated))
    else:
        await session.execute(delete(messages).where(own))


async def _title_again(session: WriteSession, turn: AnyRow) -> None:
    """A title that was made of the question is made of the oldest that is left; another title is the user's own."""
    asked = in_conversation(messages, turn.user_id, turn.conversation_id)
    asked &= (messages.c.role == "user") & (messages.c.text != "")
    oldest = select(messages.c.text).where(asked).order_by(messages.c.id).limit(1)
    left = (await session.execute(oldest)).scalar() or ""
    place = (conversations.c.user_id == turn.user_id) & (conversations.c.id == turn.conversation_id)
    made = place & (conversations.c.title == title_of(turn.text))
    await session.execute(update(conversations).where(made).values(title=title_of(left)))


async def _count_again(session: WriteSession, turn: AnyRow) -> None:
    """How many messages the conversation has, and which is the last. What it was about in short may be of what went."""
    inside = in_conversation(messages, turn.user_id, turn.conversation_id)
    count = select(func.count()).where(inside).scalar_subquery()
    newest = await newest_message_id(session, turn.user_id, turn.conversation_id)
    await session.execute(
        update(conversations)
        .where(conversations.c.user_id == turn.user_id, conversations.c.id == turn.conversation_id)
        .values(message_count=count, last_message_id=newest, summary=None)
    )


async def _exists(session: ReadSession, query: Select[Any]) -> bool:
    return (await session.execute(query.limit(1))).first() is not None
