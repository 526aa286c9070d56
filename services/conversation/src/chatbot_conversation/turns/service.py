"""The life of a turn: start it or find it, keep it alive, store how it ended, close what nobody finished.

Postgres arbitrates: the unique client message id decides who starts a turn, the locked turn row decides whose reply is
the first terminal state of the current attempt. A process that was frozen and thaws can do neither.

Who answers a turn renews its lease. When the lease has ended, another process of the chat service closes the turn with
the words so far, which are in chat's log; we close it without them only when nobody of chat has done so for a minute.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from chatbot_common.database import Database, ReadSession, WriteSession
from chatbot_common.errors import Conflict, NotFound

from chatbot_conversation.conversations import store as conversations
from chatbot_conversation.jobs import enqueue
from chatbot_conversation.knowledge.service import KnowledgeService
from chatbot_conversation.tables import AnyRow
from chatbot_conversation.turns import approving, erasing, said, starting, steps, store, told
from chatbot_conversation.turns.schema import (
    AbandonedTurn,
    Approval,
    Leases,
    Regenerate,
    Renewal,
    StartTurn,
    StoredReply,
    StoreReply,
    Told,
    ToldMessage,
    Turn,
)
from chatbot_conversation.turns.starting import TURNS
from chatbot_conversation.turns.views import turn_as_it_stands
from chatbot_conversation.usage import store as ledger
from chatbot_conversation.vectors import MESSAGES

log = structlog.get_logger(__name__)

GRACE = timedelta(minutes=1)
"""How long after a lease's end the turn is left to the chat service, which knows the words so far."""


class TurnService:
    def __init__(self, database: Database, signs: Database, knowledge: KnowledgeService, turn_seconds: int) -> None:
        self._database = database
        self._signs = signs
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
            turn = await starting.start(session, user_id, request, knowledge, self._allowed)
        return _counted(turn)

    async def regenerate(self, user_id: UUID, request: Regenerate) -> Turn:
        """Answer a question once more, beside the answers it has, or say what became of that.

        Raises:
            NotFound: the message is not this user's, or not in this conversation.
            InvalidRequest: the same client message id was used for another message.
            Conflict: the question is being answered right now.
        """
        async with self._database.read() as reading:
            question = await starting.question_of(reading, user_id, request)
        knowledge = await self._knowledge.find_for_turn(question.text)
        async with self._database.write() as session:
            turn = await starting.regenerate(session, user_id, request, question, knowledge, self._allowed)
        return _counted(turn)

    async def get(self, user_id: UUID, turn_id: UUID) -> Turn:
        """How a turn stands. Raises `NotFound` when it is not this user's."""
        async with self._database.read() as session:
            row = await store.find(session, user_id, turn_id)
            if row is None:
                raise NotFound("There is no such turn.")
            return await turn_as_it_stands(session, row)

    async def latest(self, user_id: UUID, conversation_id: UUID) -> Turn | None:
        """The newest turn of a conversation, if it has any. Raises `NotFound` when that is not this user's."""
        async with self._database.read() as session:
            if await said.find_conversation(session, user_id, conversation_id) is None:
                raise NotFound("There is no such conversation.")
            row = await store.latest(session, user_id, conversation_id)
            return await turn_as_it_stands(session, row) if row else None

    async def told(self, user_id: UUID, turn_id: UUID) -> Told:
        """What a turn was asked with. Raises `NotFound` when it is not this user's."""
        async with self._database.read() as session:
            row = await store.find(session, user_id, turn_id)
            if row is None:
                raise NotFound("There is no such turn.")
            found = await told.told(session, row)
        return Told(messages=[ToldMessage.model_validate(message) for message in found])

    async def delete(self, user_id: UUID, turn_id: UUID) -> None:
        """Erase a turn with what was asked and said; the last one of a conversation takes that along.

        Raises:
            NotFound: it is not this user's.
        """
        async with self._database.write() as session:
            turn = await store.lock_own(session, user_id, turn_id)
            if turn is None:
                raise NotFound("There is no such turn.")
            if await erasing.erase_turn(session, turn):
                erased = await erasing.erase_messages(session, turn)
            else:
                erased = list(await conversations.remove(session, user_id, turn.conversation_id) or ())
            payload = {"collection": MESSAGES, "tenant": user_id, "ids": erased}
            await enqueue(session, "forget_vectors", [payload])

    async def approve(self, user_id: UUID, turn_id: UUID, answer: Approval) -> Turn:
        """Store whether a call of a tool may be made. With the last answer the turn starts its next attempt.

        Raises:
            NotFound: the turn is not this user's, or the call is not one of those that wait.
            Conflict: nothing waits any more, or this call was answered before.
        """
        async with self._database.write() as session:
            turn = await approving.approve(session, user_id, turn_id, answer, self._allowed)
        return _counted(turn)

    async def store_reply(self, turn_id: UUID, reply: StoreReply) -> StoredReply:
        """Store the answer of an attempt: the first terminal state of the current attempt wins.

        One that waits for its user may be cancelled. Sent again because the response was lost, the same answer gets the
        same response.

        Raises:
            NotFound: there is no such turn (any more).
            Conflict: the turn has ended in another way, a newer attempt is running, or it is not abandoned after all.
        """
        async with self._database.write() as session:
            turn = await store.lock(session, turn_id)
            if turn is None:
                raise NotFound("There is no such turn.")
            stored = StoredReply(state=reply.status, message_id=turn.reply_message_id, user_id=turn.user_id)
            if await _is_stored(session, turn, reply):
                return stored
            given_up = turn.state == "requires_action" and reply.status == "cancelled"
            if turn.attempt != reply.attempt or not (turn.state == "running" or given_up):
                raise Conflict(f"Attempt {turn.attempt} of this turn is {turn.state}; this reply comes too late.")
            if reply.abandoned and not turn.overdue:
                raise Conflict("The process that answers this turn has given a sign of life.")
            await _close(session, turn, reply)
        TURNS.labels(reply.status).inc()
        return stored

    async def renew(self, request: Renewal) -> Leases:
        """Renew the leases of the caller's attempts. An idle caller only reads."""
        wanted = [(turn.turn_id, turn.attempt) for turn in request.turns]
        if not wanted:
            async with self._signs.read() as reading:
                return _leases([], await store.abandoned(reading))
        async with self._signs.write() as session:
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


def _counted(turn: Turn) -> Turn:
    if turn.state == "started":
        TURNS.labels("started").inc()
    return turn


def _leases(lost: list[UUID], abandoned: Sequence[AnyRow]) -> Leases:
    return Leases(lost=lost, abandoned=[AbandonedTurn.model_validate(row) for row in abandoned])


async def _is_stored(session: ReadSession, turn: AnyRow, reply: StoreReply) -> bool:
    if (turn.attempt, turn.state) != (reply.attempt, reply.status):
        return False
    message = await said.find_message(session, turn.user_id, turn.reply_message_id)
    # One without text may have left the words of an earlier attempt.
    return message is not None and (not reply.text or message.text == reply.text)


async def _close(session: WriteSession, turn: AnyRow, reply: StoreReply) -> None:
    """Give a locked, running turn its terminal state, its reply, what that has cost, and the jobs that follow."""
    waiting = reply.waiting.model_dump(mode="json") if reply.waiting else None
    tokens = reply.usage.input_tokens + reply.usage.output_tokens if reply.usage else 0
    if turn.attempt == 1 and turn.state == "running":
        await steps.end(session, turn, reply, waiting, tokens)
    else:
        await store.finish(session, turn, reply.status, waiting)
        added = await said.put_reply(session, turn, said.content_of(reply))
        if reply.spent:
            row = {"user_id": turn.user_id, "run_id": turn.id, "attempt": turn.attempt}
            await ledger.enter(session, [row | reply.spent.model_dump()])
        await said.touch_conversation(session, turn, turn.reply_message_id, added=int(added), tokens=tokens)
    to_index = [turn.user_message_id, *([turn.reply_message_id] if reply.text else [])]
    await enqueue(
        session, "index_message", [{"user_id": turn.user_id, "message_id": message_id} for message_id in to_index]
    )


def _interrupted(attempt: int) -> StoreReply:
    return StoreReply(
        attempt=attempt, status="interrupted", text="", parts=[], citations=[], usage=None, model=None, error=None
    )
