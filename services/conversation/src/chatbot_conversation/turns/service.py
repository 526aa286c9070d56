"""The life of a turn: start it or find it, keep it alive, store how it ended, close what nobody finished.

Postgres arbitrates: the unique client message id decides who starts a turn, the locked turn row decides whose reply is
the first terminal state of the current attempt. A process that was frozen and thaws can do neither.

Who answers a turn renews its lease. When the lease has ended, another process of the chat service closes the turn with
the words so far, which are in chat's log; we close it without them only when nobody of chat has done so for a minute.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from chatbot_common.database import Database, ReadSession, WriteSession
from chatbot_common.errors import Conflict, InvalidRequest, NotFound
from chatbot_common.ids import uuid7
from prometheus_client import Counter

from chatbot_conversation.jobs import enqueue
from chatbot_conversation.knowledge.schema import Knowledge
from chatbot_conversation.knowledge.service import KnowledgeService
from chatbot_conversation.tables import AnyRow
from chatbot_conversation.turns import store
from chatbot_conversation.turns.schema import (
    AbandonedTurn,
    HistoryMessage,
    Leases,
    Renewal,
    Reply,
    StartTurn,
    StoredReply,
    StoreReply,
    Turn,
    TurnState,
)

log = structlog.get_logger(__name__)

TURNS = Counter("conversation_turns_total", "Turns by what became of them", ["state"])
TITLE_LENGTH = 60
GRACE = timedelta(minutes=1)
"""How long after a lease's end the turn is left to the chat service, which knows the words so far."""


class TurnService:
    def __init__(self, database: Database, knowledge: KnowledgeService, turn_seconds: int) -> None:
        self._database = database
        self._knowledge = knowledge
        self._allowed = timedelta(seconds=turn_seconds)

    async def start(self, user_id: UUID, request: StartTurn) -> Turn:
        """Start the turn, or say what became of it.

        Raises:
            NotFound: the conversation or the parent message is not this user's.
            InvalidRequest: the same client message id was used for another text.
            Conflict: the message was deleted while this request looked at it.
        """
        knowledge = await self._knowledge.find_for_turn(request.text)
        async with self._database.write() as session:
            turn = await self._start(session, user_id, request, knowledge)
        if turn.state == "started":
            TURNS.labels("started").inc()
        return turn

    async def _start(self, session: WriteSession, user_id: UUID, request: StartTurn, knowledge: Knowledge) -> Turn:
        conversation_id, parent_id = await _place(session, user_id, request)
        new = store.NewTurn(user_id, uuid7(), conversation_id or uuid7(), uuid7(), uuid7())
        inserted = await store.insert_question(
            session,
            new,
            parent_id=parent_id,
            text=request.text,
            parts=request.parts or [{"type": "text", "text": request.text}],
            client_id=request.client_message_id,
        )
        if not inserted:
            return await self._repeat(session, user_id, request, knowledge)
        if conversation_id is None:
            await store.insert_conversation(session, new, title_of(request.text), request.language)
        row = await store.insert_turn(session, new, self._allowed)
        if not await store.touch_conversation(session, new, new.user_message_id, added=1):
            raise NotFound("There is no such conversation.")
        return await _started(session, row, request.text, parent_id, knowledge)

    async def _repeat(self, session: WriteSession, user_id: UUID, request: StartTurn, knowledge: Knowledge) -> Turn:
        row = await store.lock_by_client_id(session, user_id, request.client_message_id)
        if row is None:
            raise Conflict("The message was deleted meanwhile; send it again.")
        _refuse_another(row, request)
        abandoned = row.state == "running" and row.overdue
        if abandoned:
            TURNS.labels("interrupted").inc()
        if abandoned or (request.retry and row.state in ("failed", "cancelled", "interrupted")):
            again = await store.start_again(session, row, self._allowed)
            return await _started(session, again, row.text, row.parent_id, knowledge)
        return await _as_it_stands(session, row)

    async def get(self, user_id: UUID, turn_id: UUID) -> Turn:
        """How a turn stands. Raises `NotFound` when it is not this user's."""
        async with self._database.read() as session:
            row = await store.find(session, user_id, turn_id)
            if row is None:
                raise NotFound("There is no such turn.")
            return await _as_it_stands(session, row)

    async def store_reply(self, turn_id: UUID, reply: StoreReply) -> StoredReply:
        """Store the answer of an attempt: the first terminal state of the current attempt wins.

        Sent again because the response was lost, the same answer gets the same response.

        Raises:
            NotFound: there is no such turn (any more).
            Conflict: the turn has ended in another way, or a newer attempt is running.
        """
        async with self._database.write() as session:
            turn = await store.lock(session, turn_id)
            if turn is None:
                raise NotFound("There is no such turn.")
            stored = StoredReply(state=reply.status, message_id=turn.reply_message_id)
            if await _is_stored(session, turn, reply):
                return stored
            if turn.attempt != reply.attempt or turn.state != "running":
                raise Conflict(f"Attempt {turn.attempt} of this turn is {turn.state}; this reply comes too late.")
            await _close(session, turn, reply)
        TURNS.labels(reply.status).inc()
        return stored

    async def renew(self, request: Renewal) -> Leases:
        """Renew the leases of the caller's attempts. An idle caller only reads."""
        wanted = [(turn.turn_id, turn.attempt) for turn in request.turns]
        if not wanted:
            async with self._database.read() as reading:
                return _leases([], await store.abandoned(reading))
        async with self._database.write() as session:
            running = await store.renew(session, wanted)
            lost = [turn_id for turn_id, attempt in wanted if (turn_id, attempt) not in running]
            return _leases(lost, await store.abandoned(session))

    async def close_overdue(self) -> int:
        """Close every turn that nobody answers or closes any more; returns how many. Safe to run in several places."""
        closed = 0
        while await self._close_one_overdue():
            closed += 1
        return closed

    async def _close_one_overdue(self) -> bool:
        async with self._database.write() as session:
            turn = await store.lock_overdue(session, GRACE)
            if turn is None:
                return False
            await _close(session, turn, _interrupted(turn.attempt))
        TURNS.labels("interrupted").inc()
        log.warning("turn interrupted", turn_id=str(turn.id), attempt=turn.attempt)
        return True


async def _place(session: ReadSession, user_id: UUID, request: StartTurn) -> tuple[UUID | None, UUID | None]:
    """Conversation and parent of the new message; (None, None) starts a conversation."""
    conversation_id, parent_id = request.conversation_id, request.parent_message_id
    if parent_id is not None:
        parent = await store.find_message(session, user_id, parent_id)
        if parent is None or conversation_id not in (None, parent.conversation_id):
            raise NotFound("There is no such parent message in this conversation.")
        return parent.conversation_id, parent_id
    if conversation_id is None:
        return None, None
    if await store.find_conversation(session, user_id, conversation_id) is None:
        raise NotFound("There is no such conversation.")
    return conversation_id, await store.newest_message_id(session, user_id, conversation_id)


def _refuse_another(row: AnyRow, request: StartTurn) -> None:
    """The same name for another message is a mistake. Who repeats may name the place that the first one got."""
    same_place = request.conversation_id in (None, row.conversation_id)
    if row.text != request.text or not same_place:
        other = "text" if row.text != request.text else "conversation"
        raise InvalidRequest(
            f"This client_message_id or Idempotency-Key was already used for another {other}; choose a new one.",
            errors=[{"pointer": "/client_message_id", "detail": f"already used for another {other}"}],
        )


async def _started(session: ReadSession, row: AnyRow, text: str, parent_id: UUID | None, knowledge: Knowledge) -> Turn:
    """The answer for the one caller who runs the attempt."""
    conversation = await store.find_conversation(session, row.user_id, row.conversation_id)
    earlier = await store.history(session, row.user_id, parent_id) if parent_id else []
    return _turn(
        row,
        "started",
        text,
        history=[HistoryMessage.model_validate(message) for message in earlier],
        summary=conversation.summary if conversation else None,
        knowledge=knowledge,
    )


async def _as_it_stands(session: ReadSession, row: AnyRow) -> Turn:
    if row.state == "running":
        return _turn(row, "running", row.text)
    message = await store.find_message(session, row.user_id, row.reply_message_id)
    return _turn(row, row.state, row.text, reply=Reply.model_validate(message) if message else None)


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
        **rest,
    )


def _leases(lost: list[UUID], abandoned: Sequence[AnyRow]) -> Leases:
    return Leases(lost=lost, abandoned=[AbandonedTurn.model_validate(row) for row in abandoned])


async def _is_stored(session: ReadSession, turn: AnyRow, reply: StoreReply) -> bool:
    if (turn.attempt, turn.state) != (reply.attempt, reply.status):
        return False
    message = await store.find_message(session, turn.user_id, turn.reply_message_id)
    return message is not None and message.text == reply.text


async def _close(session: WriteSession, turn: AnyRow, reply: StoreReply) -> None:
    """Give a locked, running turn its terminal state, its reply message, and the jobs that follow."""
    await store.finish(session, turn, reply.status)
    added = await store.put_reply(
        session,
        turn,
        text=reply.text,
        parts=reply.parts,
        citations=reply.citations,
        status=reply.status,
        model=reply.model,
        usage=reply.usage.model_dump() if reply.usage else None,
        error=reply.error,
    )
    tokens = reply.usage.input_tokens + reply.usage.output_tokens if reply.usage else 0
    await store.touch_conversation(session, turn, turn.reply_message_id, added=int(added), tokens=tokens)
    to_index = [turn.user_message_id, *([turn.reply_message_id] if reply.text else [])]
    await enqueue(
        session, "index_message", [{"user_id": turn.user_id, "message_id": message_id} for message_id in to_index]
    )


def _interrupted(attempt: int) -> StoreReply:
    return StoreReply(
        attempt=attempt, status="interrupted", text="", parts=[], citations=[], usage=None, model=None, error=None
    )


def title_of(text: str) -> str:
    """The first words of a text, at most 60 characters."""
    line = " ".join(text.split())
    if len(line) <= TITLE_LENGTH:
        return line or "New conversation"
    head = line[:TITLE_LENGTH].rsplit(" ", 1)[0]
    return head.rstrip(" ,.;:-") + "…"
