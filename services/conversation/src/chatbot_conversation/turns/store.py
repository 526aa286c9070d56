"""SQL of turns. Every statement names the user, except where a service finds a turn by its id alone.

What each turn executes is put together once: to do that anew costs as much CPU as to execute it.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from chatbot_common.database import ReadSession, WriteSession
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Interval,
    Select,
    Uuid,
    any_,
    bindparam,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from chatbot_conversation.tables import AnyRow, messages, turns
from chatbot_conversation.turns.said import NewTurn, is_own, own
from chatbot_conversation.wire import Json

LEASE = timedelta(seconds=10)
"""How long a turn is taken for alive after the last sign of the process that answers it; it gives one every 3 s."""
FIRST_LEASE = timedelta(seconds=20)
"""Of an attempt that was started: who was told to run it may have died before it heard of it, or says so late."""
LATEST = timedelta(minutes=1)
"""No lease goes on for longer than this after the turn's deadline: time enough to store what was said until then."""
LEFT_TO_CHAT = timedelta(seconds=20)
"""How long after a lease's end nobody else takes the turn for dead: chat may have to close it yet, with its words."""
ABANDONED_AT_ONCE = 1000

Attempt = tuple[UUID, int]
"""A turn's id, and which of its attempts."""


_FIRST_ATTEMPT = insert(turns).values(
    attempt=1,
    state="running",
    deadline=func.now() + bindparam("allowed", type_=Interval),
    leased_until=func.now() + FIRST_LEASE,
)
_REGENERATION = _FIRST_ATTEMPT.on_conflict_do_nothing(index_elements=["user_id", "request_id"]).returning(turns)


async def insert_regeneration(
    session: WriteSession, turn: NewTurn, allowed: timedelta, request_id: str, options: Json | None
) -> AnyRow | None:
    """Another turn of a question that has one. None when this request has made it; waits for a rival to commit."""
    columns = _columns(turn, allowed, options) | {"request_id": request_id}
    row: AnyRow | None = (await session.execute(_REGENERATION, columns)).first()
    return row


def _columns(turn: NewTurn, allowed: timedelta, options: Json | None) -> dict[str, Any]:
    return {
        "user_id": turn.user_id,
        "id": turn.id,
        "conversation_id": turn.conversation_id,
        "user_message_id": turn.user_message_id,
        "reply_message_id": turn.reply_message_id,
        "allowed": allowed,
        "options": options,
    }


async def start_again(session: WriteSession, turn: AnyRow, allowed: timedelta) -> AnyRow:
    """The next attempt of a turn whose row this transaction has locked."""
    statement = (
        update(turns)
        .where(turns.c.user_id == turn.user_id, turns.c.id == turn.id)
        .values(
            attempt=turn.attempt + 1,
            state="running",
            deadline=func.now() + allowed,
            leased_until=func.now() + FIRST_LEASE,
            finished_at=None,
            waiting=None,
        )
        .returning(turns)
    )
    row: AnyRow = (await session.execute(statement)).one()
    return row


def _overdue(by: timedelta = timedelta(0)) -> ColumnElement[bool]:
    """Whether the process that answers has given no sign of life for longer than it may."""
    return func.coalesce(turns.c.leased_until, turns.c.deadline) <= func.now() - by


def _turn_with_question() -> Select[Any]:
    return select(
        turns,
        _overdue(LEFT_TO_CHAT).label("given_up"),
        messages.c.text,
        messages.c.parent_id,
    ).join_from(turns, messages, (messages.c.user_id == turns.c.user_id) & (messages.c.id == turns.c.user_message_id))


async def lock_by_client_id(session: WriteSession, user_id: UUID, client_id: str) -> AnyRow | None:
    """The turn of a message that was sent before, locked: its columns, `given_up`, and the question's `text`."""
    named = (messages.c.client_message_id == client_id) & turns.c.request_id.is_(None)
    query = _turn_with_question().where(turns.c.user_id == user_id, named).with_for_update(of=turns)
    row: AnyRow | None = (await session.execute(query)).first()
    return row


async def lock_by_request_id(session: WriteSession, user_id: UUID, request_id: str) -> AnyRow | None:
    """The turn that a regeneration made, as `lock_by_client_id` has it."""
    query = _turn_with_question().where(turns.c.user_id == user_id, turns.c.request_id == request_id)
    row: AnyRow | None = (await session.execute(query.with_for_update(of=turns))).first()
    return row


async def is_being_answered(session: ReadSession, turn: AnyRow) -> bool:
    """Whether another turn of the same question runs, its process alive or about to be buried, or waits for one."""
    same = (turns.c.user_id == turn.user_id) & (turns.c.user_message_id == turn.user_message_id)
    running = (turns.c.state == "running") & ~_overdue(LEFT_TO_CHAT)
    other = (turns.c.id != turn.id) & (running | (turns.c.state == "requires_action"))
    return (await session.execute(select(turns.c.id).where(same, other).limit(1))).first() is not None


async def lock_own(session: WriteSession, user_id: UUID, turn_id: UUID) -> AnyRow | None:
    """A turn of the user, as `lock_by_client_id` has it."""
    query = _turn_with_question().where(turns.c.user_id == user_id, turns.c.id == turn_id)
    row: AnyRow | None = (await session.execute(query.with_for_update(of=turns))).first()
    return row


async def latest(session: ReadSession, user_id: UUID, conversation_id: UUID) -> AnyRow | None:
    inside = (turns.c.user_id == user_id) & (turns.c.conversation_id == conversation_id)
    query = _turn_with_question().where(inside).order_by(turns.c.id.desc()).limit(1)
    row: AnyRow | None = (await session.execute(query)).first()
    return row


async def find(session: ReadSession, user_id: UUID, turn_id: UUID) -> AnyRow | None:
    query = _turn_with_question().where(turns.c.user_id == user_id, turns.c.id == turn_id)
    row: AnyRow | None = (await session.execute(query)).first()
    return row


_LOCK = select(turns, _overdue().label("overdue")).where(turns.c.id == bindparam("turn_id")).with_for_update()


async def lock(session: WriteSession, turn_id: UUID) -> AnyRow | None:
    """A turn of whichever user, locked: its columns, and whether it is `overdue`."""
    return (await session.execute(_LOCK, {"turn_id": turn_id})).first()


async def renew(session: WriteSession, attempts: Sequence[Attempt]) -> set[Attempt]:
    """Renew the leases of running attempts; returns those that still run.

    A row that somebody has locked, to store its end or to delete it, is left alone: waiting for several rows could
    deadlock with who locks them in another order.
    """
    wanted = set(attempts)
    running = (
        select(turns.c.id, turns.c.attempt)
        .where(_one_of(turn_id for turn_id, _ in attempts))
        .where(turns.c.state == "running")
    )
    free = await session.execute(running.with_for_update(skip_locked=True))
    await session.execute(
        update(turns)
        .where(_one_of(row.id for row in free if (row.id, row.attempt) in wanted))
        .values(leased_until=func.least(func.now() + LEASE, turns.c.deadline + LATEST))
    )
    return wanted & {(row.id, row.attempt) for row in await session.execute(running)}


def _one_of(turn_ids: Iterable[UUID]) -> ColumnElement[bool]:
    """As one array: a process may have a thousand turns, and each number of parameters would be planned anew."""
    return turns.c.id == any_(literal(list(turn_ids), ARRAY(Uuid)))


async def abandoned(session: ReadSession) -> Sequence[AnyRow]:
    """Running attempts whose lease has ended, of all users: `turn_id` and `attempt`."""
    query = select(turns.c.id.label("turn_id"), turns.c.attempt).where(turns.c.state == "running", _overdue())
    return (await session.execute(query.limit(ABANDONED_AT_ONCE))).all()


async def lock_overdue(session: WriteSession, by: timedelta) -> AnyRow | None:
    """One running turn, overdue by so much, that nobody else is closing."""
    query = select(turns).where(turns.c.state == "running", _overdue(by)).limit(1)
    return (await session.execute(query.with_for_update(skip_locked=True))).first()


_FINISH = update(turns).where(is_own(turns)).values(finished_at=func.now())


async def finish(session: WriteSession, turn: AnyRow, state: str, waiting: Json | None) -> None:
    await session.execute(_FINISH, own(turn.user_id, turn.id) | {"state": state, "waiting": waiting})


async def keep_waiting(session: WriteSession, turn: AnyRow, waiting: Json) -> AnyRow:
    """What a turn whose row this transaction has locked waits for from now on."""
    await session.execute(
        update(turns).where(turns.c.user_id == turn.user_id, turns.c.id == turn.id).values(waiting=waiting)
    )
    row: AnyRow | None = await find(session, turn.user_id, turn.id)
    assert row is not None  # noqa: S101 - it is locked
    return row
