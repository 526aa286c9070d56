"""Background jobs: their names, and how one is enqueued inside the transaction that makes it necessary.

The worker (worker.py) runs them. A job names rows, never their content: it looks at what is there when it runs.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]
from chatbot_common.database import WriteSession
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.adapters.tracing.opentelemetry import OpenTelemetryTracing
from sqlalchemy import text

JobName = Literal["index_message", "index_faq", "index_document", "forget_vectors"]
Payload = dict[str, Any]


async def enqueue(session: WriteSession, name: JobName, payloads: Sequence[Payload]) -> None:
    """Enqueue one job per payload; they exist once the session's transaction commits, and never if it does not."""
    if not payloads:
        return
    queries = Queries(AsyncpgDriver(await _connection(session)), tracer=OpenTelemetryTracing())
    bodies: list[bytes | None] = [json.dumps(payload, default=_plain).encode() for payload in payloads]
    await queries.enqueue([name] * len(bodies), bodies, [0] * len(bodies))


async def _connection(session: WriteSession) -> asyncpg.Connection:
    """The asyncpg connection of the session, inside its transaction.

    SQLAlchemy sends BEGIN with the first statement; without one the raw connection would autocommit.
    """
    raw: asyncpg.Connection = (await session.get_raw_connection()).driver_connection
    if not raw.is_in_transaction():
        await session.execute(text("SELECT 1"))
    if not raw.is_in_transaction():
        raise RuntimeError("a job must be enqueued inside a transaction")
    return raw


def _plain(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"a job payload may not hold {type(value).__name__}")
