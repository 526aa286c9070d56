"""The two steps that every turn takes, each by one statement: its beginning, and the end of its first attempt.

A round trip to Postgres costs both sides as much as a small statement. As in store.py, what each turn executes is put
together once.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from chatbot_common.database import WriteSession
from sqlalchemy import BindParameter, Column, Interval, Select, Table, Update, bindparam, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from chatbot_conversation.tables import AnyRow, conversations, ledger, messages, turns
from chatbot_conversation.turns.said import TOUCH, NewTurn, content_of, news_of
from chatbot_conversation.turns.schema import StoreReply
from chatbot_conversation.turns.store import FIRST_LEASE
from chatbot_conversation.usage.store import entering
from chatbot_conversation.wire import Json

_NEW_TURN = ("user_id", "id", "conversation_id", "user_message_id", "reply_message_id")
_QUESTION = ("parent_id", "text", "parts", "client_message_id", "moderation")
_CONVERSATION = ("title", "language", "message_count")
_SPENT = ("model", "input_tokens", "output_tokens", "cost", "estimated", "variant", "key_id")
_REPLY = ("text", "parts", "citations", "status", "model", "usage", "error", "moderation", "variant", "finish_reason")


def _given(column: Column[Any], name: str | None = None) -> BindParameter[Any]:
    """What comes with each execution; a bare name of a column would be taken for that column."""
    return bindparam(f"given_{name or column.name}", type_=column.type)


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"given_{name}": value for name, value in values.items()}


def _of(table: Table, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: _given(table.c[name]) for name in names}


def _beginning(*, opens: bool) -> Select[Any]:
    """A question, its turn, and where it `opens` one its conversation; no rows when the question is there already."""
    turn = _of(turns, _NEW_TURN)
    place = {name: turn[name] for name in ("user_id", "conversation_id")} | {"id": turn["user_message_id"]}
    asked = place | _of(messages, _QUESTION) | {"role": "user", "status": "completed"}
    unique = ["user_id", "client_message_id"]
    inserted = insert(messages).values(asked).on_conflict_do_nothing(index_elements=unique).returning(messages.c.id)
    question = inserted.cte("question")

    def also(table: Table, values: dict[str, Any]) -> Any:
        return insert(table).from_select(list(values), select(*values.values()).select_from(question))

    deadline = func.now() + bindparam("given_allowed", type_=Interval)
    running = {"attempt": literal(1), "state": literal("running"), "deadline": deadline}
    running |= {"leased_until": func.now() + FIRST_LEASE, "options": _given(turns.c.options)}
    begun = select(also(turns, turn | running).returning(turns).cte("turn"))
    if not opens:
        return begun
    opened = {"user_id": turn["user_id"], "id": turn["conversation_id"], "last_message_id": turn["user_message_id"]}
    return begun.add_cte(also(conversations, opened | _of(conversations, _CONVERSATION)).cte("conversation"))


_BEGIN, _BEGIN_CONVERSATION = _beginning(opens=False), _beginning(opens=True)


async def begin(
    session: WriteSession,
    turn: NewTurn,
    question: Mapping[str, Any],
    conversation: Mapping[str, Any] | None,
    allowed: timedelta,
    options: Json | None,
) -> AnyRow | None:
    """Store the user's message with its turn, and in a new `conversation` where there is none yet: its turn's row.

    None when a message with this `client_message_id` is there already; waits for a rival to commit.
    """
    named = {name: getattr(turn, name) for name in _NEW_TURN} | {"allowed": allowed, "options": options}
    told = _named({**named, **question, **(conversation or {})})
    row: AnyRow | None = (await session.execute(_BEGIN_CONVERSATION if conversation else _BEGIN, told)).first()
    return row


def _ending(*, entered: bool) -> Update:
    key = (turns.c.user_id == _given(turns.c.user_id)) & (turns.c.id == _given(turns.c.id, "turn_id"))
    ended = {"finished_at": func.now(), "state": _given(turns.c.state), "waiting": _given(turns.c.waiting)}
    place = _of(messages, ("user_id", "id", "conversation_id", "parent_id"))
    reply = insert(messages).values(place | _of(messages, _REPLY) | {"role": "assistant"})
    steps = [update(turns).where(key).values(ended).cte("turn"), reply.cte("reply")]
    if entered:
        run = {"user_id": place["user_id"], "run_id": _given(turns.c.id, "turn_id"), "attempt": literal(1)}
        spent = {name: _given(ledger.c[name], f"spent_{name}") for name in _SPENT}
        steps.append(entering(run | spent).cte("entered"))
    return TOUCH.add_cte(*steps)


_END, _END_ENTERED = _ending(entered=False), _ending(entered=True)


async def end(session: WriteSession, turn: AnyRow, reply: StoreReply, waiting: Json | None, tokens: int) -> None:
    """Give a locked turn's first attempt its end, its reply and what that has cost, and count the reply in."""
    row = {"id": turn.reply_message_id, "parent_id": turn.user_message_id, "turn_id": turn.id}
    row |= {name: getattr(turn, name) for name in ("user_id", "conversation_id")}
    told = _named(row | content_of(reply) | {"state": reply.status, "waiting": waiting})
    told |= news_of(turn, turn.reply_message_id, added=1, tokens=tokens)
    spent = _named({f"spent_{name}": getattr(reply.spent, name) for name in _SPENT}) if reply.spent else {}
    await session.execute(_END_ENTERED if spent else _END, told | spent)
