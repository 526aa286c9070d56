"""Which turn a request means: a new one, one that was started before, or another attempt at it.

Inside the transaction of `TurnService`. The unique names decide between simultaneous requests: a question is stored
under its client message id, a regeneration's turn under its own.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from chatbot_common.database import ReadSession, WriteSession
from chatbot_common.errors import Conflict, InvalidRequest, NotFound
from chatbot_common.ids import uuid7
from prometheus_client import Counter

from chatbot_conversation.jobs import enqueue
from chatbot_conversation.knowledge.schema import Knowledge
from chatbot_conversation.tables import AnyRow
from chatbot_conversation.turns import said, steps, store
from chatbot_conversation.turns.schema import Regenerate, StartTurn, Turn
from chatbot_conversation.turns.views import started_turn, turn_as_it_stands

TURNS = Counter("conversation_turns_total", "Turns by what became of them", ["state"])
TITLE_LENGTH = 60


async def start(
    session: WriteSession, user_id: UUID, request: StartTurn, knowledge: Knowledge, allowed: timedelta
) -> Turn:
    """Raises what `TurnService.start` does."""
    conversation_id, place = await _place(session, user_id, request)
    # Ids are in order of time, and the newest message is the greatest: those of what was said before come first.
    spoken = [(uuid7(), message) for message in request.earlier]
    parent_id = spoken[-1][0] if spoken else place
    new = said.NewTurn(user_id, uuid7(), conversation_id or uuid7(), uuid7(), uuid7())
    added = 1 + len(spoken)
    row = await steps.begin(
        session,
        new,
        _question(request, parent_id),
        None if conversation_id else _conversation(request, added),
        allowed,
        request.options,
    )
    if row is None:
        row = await store.lock_by_client_id(session, user_id, request.client_message_id)
        if row is None:
            raise Conflict("The message was deleted meanwhile; send it again.")
        _refuse_another(row, request, place)
        return await _repeat(session, row, request, knowledge, allowed)
    if spoken:
        await said.insert_earlier(session, new, place, spoken)
        payloads = [{"user_id": user_id, "message_id": message_id} for message_id, _ in spoken]
        await enqueue(session, "index_message", payloads)
    if conversation_id and not await said.touch_conversation(session, new, new.user_message_id, added=added):
        raise NotFound("There is no such conversation.")
    room, opens = request.history_tokens, conversation_id is None
    return await started_turn(session, row, request.text, parent_id, knowledge, room=room, opens=opens)


def _question(request: StartTurn, parent_id: UUID | None) -> dict[str, Any]:
    return {
        "parent_id": parent_id,
        "text": request.text,
        "parts": request.parts or [{"type": "text", "text": request.text}],
        "client_message_id": request.client_message_id,
        "moderation": request.moderation,
    }


def _conversation(request: StartTurn, messages: int) -> dict[str, Any]:
    return {"title": title_of(request.text), "language": request.language, "message_count": messages}


async def regenerate(
    session: WriteSession,
    user_id: UUID,
    request: Regenerate,
    question: AnyRow,
    again: str | None,
    knowledge: Knowledge,
    allowed: timedelta,
) -> Turn:
    """Raises what `TurnService.regenerate` does."""
    new = said.NewTurn(user_id, uuid7(), question.conversation_id, question.id, uuid7())
    row = await store.insert_regeneration(session, new, allowed, request.client_message_id, request.options)
    if row is None:
        row = await store.lock_by_request_id(session, user_id, request.client_message_id)
        if row is None:
            raise Conflict("The message was deleted meanwhile.")
        if row.user_message_id != question.id:
            raise _used_for_another("message")
        return await _repeat(session, row, request, knowledge, allowed, again)
    await _refuse_a_second(session, row)
    room = request.history_tokens
    return await started_turn(session, row, question.text, question.parent_id, knowledge, room=room, again=again)


async def question_of(session: ReadSession, user_id: UUID, request: Regenerate) -> tuple[AnyRow, str | None]:
    """The question whose answer is meant, or which is named itself; and the model that has answered it.

    Raises:
        NotFound: the message is not this user's, or not in this conversation.
    """
    message = await _message(session, user_id, request.message_id, request.conversation_id)
    again = await said.model_of(session, message)
    if message.role == "user":
        return message, again
    return await _message(session, user_id, message.parent_id, request.conversation_id), again


async def _repeat(
    session: WriteSession,
    row: AnyRow,
    request: StartTurn | Regenerate,
    knowledge: Knowledge,
    allowed: timedelta,
    again: str | None = None,
) -> Turn:
    """A turn that was started before: attached to, or tried again where that is wished or nobody answers it."""
    abandoned = row.state == "running" and row.given_up
    if abandoned:
        TURNS.labels("interrupted").inc()
    if abandoned or (request.retry and row.state in ("failed", "cancelled", "interrupted")):
        await _refuse_a_second(session, row)
        begun = await store.start_again(session, row, allowed)
        room = request.history_tokens
        return await started_turn(session, begun, row.text, row.parent_id, knowledge, room=room, again=again)
    return await turn_as_it_stands(session, row)


async def _refuse_a_second(session: WriteSession, turn: AnyRow) -> None:
    """One answer to a question at a time. Raises `Conflict`, `NotFound`."""
    # Locks the conversation: of two simultaneous requests the second sees the turn of the first.
    if not await said.touch_conversation(session, turn, turn.user_message_id, added=0):
        raise NotFound("There is no such conversation.")
    if await store.is_being_answered(session, turn):
        raise Conflict("This question is being answered right now; wait for the answer, or cancel its run first.")


async def _place(session: ReadSession, user_id: UUID, request: StartTurn) -> tuple[UUID | None, UUID | None]:
    """Conversation and parent of the new message; (None, None) starts a conversation."""
    conversation_id, parent_id = request.conversation_id, request.parent_message_id
    if request.edited_message_id is not None:
        edited = await _message(session, user_id, request.edited_message_id, conversation_id)
        if edited.role != "user":
            raise InvalidRequest("Only a question can be edited; an answer can be regenerated.")
        return edited.conversation_id, edited.parent_id
    if parent_id is not None:
        parent = await said.find_message(session, user_id, parent_id)
        if parent is None or conversation_id not in (None, parent.conversation_id):
            raise NotFound("There is no such parent message in this conversation.")
        return parent.conversation_id, parent_id
    if conversation_id is None:
        return None, None
    if await said.find_conversation(session, user_id, conversation_id) is None:
        raise NotFound("There is no such conversation.")
    return conversation_id, await said.newest_message_id(session, user_id, conversation_id)


async def _message(session: ReadSession, user_id: UUID, message_id: UUID, conversation_id: UUID | None) -> AnyRow:
    """A message of the user, in this conversation where one is named."""
    message = await said.find_message(session, user_id, message_id)
    if message is None or conversation_id not in (None, message.conversation_id):
        raise NotFound("There is no such message in this conversation.")
    return message


def _refuse_another(row: AnyRow, request: StartTurn, place: UUID | None) -> None:
    """The same name for another message is a mistake. Who repeats may name the place that the first one got."""
    if row.text != request.text:
        raise _used_for_another("text")
    if request.conversation_id not in (None, row.conversation_id):
        raise _used_for_another("conversation")
    named = request.edited_message_id or request.parent_message_id
    # What was said earlier is stored between the place and the question.
    elsewhere = named is not None and not request.earlier and row.parent_id != place
    if elsewhere or request.edited_message_id == row.user_message_id:
        raise _used_for_another("message")


def _used_for_another(thing: str) -> InvalidRequest:
    return InvalidRequest(
        f"This client_message_id or Idempotency-Key was already used for another {thing}; choose a new one.",
        errors=[{"pointer": "/client_message_id", "detail": f"already used for another {thing}"}],
    )


def title_of(text: str) -> str:
    """The first words of a text, at most 60 characters."""
    line = " ".join(text.split())
    if len(line) <= TITLE_LENGTH:
        return line or "New conversation"
    head = line[:TITLE_LENGTH].rsplit(" ", 1)[0]
    return head.rstrip(" ,.;:-") + "…"
