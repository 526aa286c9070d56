"""A turn's row as the chat service is told of it."""

from typing import Any
from uuid import UUID

from chatbot_common.database import ReadSession

from chatbot_conversation.knowledge.schema import Knowledge
from chatbot_conversation.tables import AnyRow
from chatbot_conversation.turns import said
from chatbot_conversation.turns.schema import HistoryMessage, Reply, Turn, TurnState, Waiting


async def started_turn(
    session: ReadSession,
    row: AnyRow,
    text: str,
    parent_id: UUID | None,
    knowledge: Knowledge,
    waiting: Waiting | None = None,
    *,
    room: int,
    opens: bool = False,
) -> Turn:
    """The answer for the one caller who runs the attempt.

    Args:
        room: tokens of what was said before.
        opens: the conversation has been made for this turn.
    """
    conversation = None if opens else await said.find_conversation(session, row.user_id, row.conversation_id)
    earlier = await said.history(session, row.user_id, parent_id, room) if parent_id else []
    return _turn(
        row,
        "started",
        text,
        history=[HistoryMessage.model_validate(message) for message in earlier],
        summary=conversation.summary if conversation else None,
        knowledge=knowledge,
        waiting=waiting,
    )


async def turn_as_it_stands(session: ReadSession, row: AnyRow) -> Turn:
    if row.state == "running":
        return _turn(row, "running", row.text)
    message = await said.find_message(session, row.user_id, row.reply_message_id)
    reply = Reply.model_validate(message) if message else None
    return _turn(
        row, row.state, row.text, reply=reply, waiting=Waiting.model_validate(row.waiting) if row.waiting else None
    )


def _turn(row: AnyRow, state: TurnState, text: str, **rest: Any) -> Turn:
    return Turn(
        turn_id=row.id,
        attempt=row.attempt,
        state=state,
        conversation_id=row.conversation_id,
        user_message_id=row.user_message_id,
        reply_message_id=row.reply_message_id,
        deadline=row.deadline,
        text=text,
        options=row.options,
        **rest,
    )
