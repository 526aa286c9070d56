"""SQL of the ledger."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chatbot_common.database import ReadSession, WriteSession
from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import insert

from chatbot_conversation.tables import ledger

RECENT = timedelta(seconds=15)
"""For how long chat may not have counted yet what is entered here: it does both at once."""
LATELY = timedelta(minutes=2)
"""Longer than that, for clocks that differ."""


async def enter(session: WriteSession, rows: Sequence[dict[str, Any]]) -> None:
    """An attempt that is there stays as it is, unless it was estimated and now is counted."""
    if not rows:
        return
    statement = insert(ledger).values(list(rows))
    counted = {
        name: statement.excluded[name] for name in ("model", "input_tokens", "output_tokens", "cost", "estimated")
    }
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["user_id", "run_id", "attempt"],
            set_=counted,
            where=ledger.c.estimated & ~statement.excluded.estimated,
        )
    )


async def spent(session: ReadSession, user_id: UUID | None, since: datetime) -> tuple[int, int, list[str]]:
    """Tokens, cost, and the names of what was entered in the last seconds: of one moment, so in one statement."""
    tokens, cost, recent = (await session.execute(sums(user_id, since))).one()
    return int(tokens), int(cost), recent or []


def sums(user_id: UUID | None, since: datetime) -> Select[Any]:
    """Of all users an index alone tells the sums: a month has millions of rows, and chat waits for two seconds.

    So the names are asked for apart, among what was spent lately. What had to wait for us was counted long ago.
    """
    late = ledger.alias()
    names = select(func.array_agg(func.concat(late.c.run_id, ":", late.c.attempt))).where(
        late.c.spent_at >= func.greatest(since, func.now() - LATELY), late.c.entered_at >= func.now() - RECENT
    )
    query = select(
        func.coalesce(func.sum(ledger.c.input_tokens + ledger.c.output_tokens), 0),
        func.coalesce(func.sum(ledger.c.cost), 0),
        (names if user_id is None else names.where(late.c.user_id == user_id)).scalar_subquery(),
    ).where(ledger.c.spent_at >= since)
    return query if user_id is None else query.where(ledger.c.user_id == user_id)
