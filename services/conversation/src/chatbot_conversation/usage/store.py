"""SQL of the ledger."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chatbot_common.database import ReadSession, WriteSession
from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Select,
    Table,
    Text,
    cast,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import Insert, insert

from chatbot_conversation.paging import windowed
from chatbot_conversation.tables import AnyRow, feedback, ledger, messages
from chatbot_conversation.usage.schema import By
from chatbot_conversation.wire import AnyWindow

RECENT = timedelta(seconds=15)
"""For how long chat may not have counted yet what is entered here: it does both at once."""
LATELY = timedelta(minutes=2)
"""Longer than that, for clocks that differ."""


_CHANGED = ("model", "input_tokens", "output_tokens", "cost", "estimated", "variant", "key_id")


def entering(row: Mapping[str, Any] | None = None) -> Insert:
    """An attempt that is there stays as it is, unless it was estimated and now is counted, or estimated at more.

    Others enter what a process had told that was late: at its end it has said more.
    """
    new = insert(ledger) if row is None else insert(ledger).values(row)
    more = cast(new.excluded.output_tokens, BigInteger) + new.excluded.input_tokens
    more_said = more > cast(ledger.c.output_tokens, BigInteger) + ledger.c.input_tokens
    return new.on_conflict_do_update(
        index_elements=["user_id", "run_id", "attempt"],
        set_={name: new.excluded[name] for name in _CHANGED},
        where=ledger.c.estimated & (~new.excluded.estimated | more_said),
    )


_ENTER = entering()


async def enter(session: WriteSession, rows: Sequence[dict[str, Any]]) -> None:
    """Into the ledger, see `entering`."""
    if not rows:
        return
    await session.execute(_ENTER, list(rows))


async def spent(
    session: ReadSession, user_id: UUID | None, since: datetime, key_id: UUID | None = None
) -> tuple[int, int, list[str]]:
    """Tokens, cost, and the names of what was entered in the last seconds: of one moment, so in one statement."""
    tokens, cost, recent = (await session.execute(sums(user_id, since, key_id))).one()
    return int(tokens), int(cost), recent or []


def sums(user_id: UUID | None, since: datetime, key_id: UUID | None = None) -> Select[Any]:
    """Of all users an index alone tells the sums: a month has millions of rows, and chat waits for two seconds.

    So the names are asked for apart, among what was spent lately. What had to wait for us was counted long ago.
    """
    late = ledger.alias()
    names = select(func.array_agg(func.concat(late.c.run_id, ":", late.c.attempt))).where(
        late.c.spent_at >= func.greatest(since, func.now() - LATELY), late.c.entered_at >= func.now() - RECENT
    )
    owner = {"user_id": user_id, "key_id": key_id}  # an index of the user's rows is as good as one of a key's
    named = {column: value for column, value in owner.items() if value is not None}
    query = select(
        func.coalesce(func.sum(ledger.c.input_tokens + ledger.c.output_tokens), 0),
        func.coalesce(func.sum(ledger.c.cost), 0),
        names.where(*(late.c[column] == value for column, value in named.items())).scalar_subquery(),
    )
    return query.where(ledger.c.spent_at >= since, *(ledger.c[column] == value for column, value in named.items()))


async def usage(session: ReadSession, by: By, since: datetime, until: datetime, window: AnyWindow) -> list[AnyRow]:
    """Groups of the ledger from `since` until before `until`, with what readers think of the answers."""
    groups = _joined(_spent(by, since, until), _rated(by, since, until))
    order = (groups.c.id,) if by == "day" else (groups.c.cost, groups.c.answers, groups.c.id)
    return list((await session.execute(windowed(select(groups), groups, order, window, descending=True))).all())


def _spent(by: By, since: datetime, until: datetime) -> CTE:
    """An answer that took several attempts is one. Embeddings say nothing; one from the cache has used nothing."""
    group = _group(by, ledger, ledger.c.spent_at)
    counted = (func.sum(ledger.c[name]).label(name) for name in ("input_tokens", "output_tokens", "cost"))
    answer = (ledger.c.output_tokens > 0) | (ledger.c.input_tokens == 0)
    answers = func.count(ledger.c.run_id.distinct()).filter(answer)
    query = select(group.label("id"), answers.label("answers"), *counted)
    return query.where(ledger.c.spent_at >= since, ledger.c.spent_at < until).group_by(group).cte("spent")


def _rated(by: By, since: datetime, until: datetime) -> CTE:
    """Few answers are rated, so their messages are looked up one by one: no index by time is needed.

    By key there are none: no message knows by which it was asked for.
    """
    group = _group("user" if by == "key" else by, messages, messages.c.created_at)
    thumbs = (func.count().filter(feedback.c.rating == way).label(f"thumbs_{way}") for way in ("up", "down"))
    rated = (feedback.c.user_id == messages.c.user_id) & (feedback.c.message_id == messages.c.id)
    query = select(group.label("id"), *thumbs).join_from(feedback, messages, rated).where(literal(by != "key"))
    return query.where(messages.c.created_at >= since, messages.c.created_at < until).group_by(group).cte("rated")


def _group(by: By, table: Table, moment: ColumnElement[datetime]) -> ColumnElement[str]:
    # Written out, not bound: Postgres must see that what is selected is what is grouped by.
    if by == "day":
        return func.to_char(func.timezone(literal_column("'UTC'"), moment), literal_column("'YYYY-MM-DD'"))
    if by == "user":
        return cast(table.c.user_id, Text)
    if by == "key":
        return func.coalesce(cast(table.c.key_id, Text), literal_column("'-'"))
    return func.coalesce(table.c[by], literal_column("'-'"))


def _joined(spent: CTE, rated: CTE) -> CTE:
    numbers = [column for column in (*spent.c, *rated.c) if column.key != "id"]
    query = select(
        func.coalesce(spent.c.id, rated.c.id).label("id"),
        *(func.coalesce(column, 0).label(column.key) for column in numbers),
    )
    return query.join_from(spent, rated, spent.c.id == rated.c.id, full=True).cte("sums")
