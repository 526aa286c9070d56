"""SQL of the ledger."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chatbot_common.database import ReadSession, WriteSession
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from chatbot_conversation.tables import ledger

RECENT = timedelta(seconds=15)
"""For how long chat may not have counted yet what is entered here: it does both at once."""


async def enter(session: WriteSession, rows: Sequence[dict[str, Any]]) -> None:
    """An attempt that is there stays as it is, unless it was estimated and now is counted."""
    if not rows:
        return
    statement = insert(ledger).values(list(rows))
    changed = ("model", "input_tokens", "output_tokens", "cost", "estimated", "variant")
    counted = {name: statement.excluded[name] for name in changed}
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["user_id", "run_id", "attempt"],
            set_=counted,
            where=ledger.c.estimated & ~statement.excluded.estimated,
        )
    )


async def spent(session: ReadSession, user_id: UUID | None, since: datetime) -> tuple[int, int, list[str]]:
    """Tokens, cost, and the names of what was entered in the last seconds: of one moment, so in one statement."""
    name = func.concat(ledger.c.run_id, ":", ledger.c.attempt)
    query = select(
        func.coalesce(func.sum(ledger.c.input_tokens + ledger.c.output_tokens), 0),
        func.coalesce(func.sum(ledger.c.cost), 0),
        func.array_agg(name).filter(ledger.c.entered_at >= func.now() - RECENT),
    ).where(ledger.c.spent_at >= since)
    if user_id is not None:
        query = query.where(ledger.c.user_id == user_id)
    tokens, cost, recent = (await session.execute(query)).one()
    return int(tokens), int(cost), recent or []
