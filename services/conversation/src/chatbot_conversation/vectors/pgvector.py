"""Vectors in the service's own Postgres: one table per collection and dimension.

Knowledge has an HNSW index, unless it has too many dimensions. Messages have none on purpose: an approximate index
filtered by tenant loses results, while one person's messages are few enough to compare exactly through the primary key.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from chatbot_common.database import Database
from pgvector import Vector as PgVector
from sqlalchemy import text

from chatbot_conversation.vectors import KNOWLEDGE, MESSAGES, Collection, Hit, Vector

SHARED = UUID(int=0)
"""Tenant of a collection that has none."""
MAX_INDEXED = 2000
"""Dimensions pgvector can index; with more, vectors are compared one by one."""
ENSURE_LOCK = 0x76656374  # 'vect': one process creates the tables


class PGVectorStore:
    def __init__(self, database: Database, dimensions: int) -> None:
        self._database = database
        self._dimensions = dimensions
        self._ensured = False
        self._ensuring = asyncio.Lock()

    def _table(self, collection: Collection) -> str:
        return f"vectors_{collection}_{self._dimensions}"

    async def ensure(self) -> None:
        async with self._ensuring:
            if self._ensured:
                return
            async with self._database.write() as session:
                await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ENSURE_LOCK})
                await session.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
                for collection in (KNOWLEDGE, MESSAGES):
                    await session.execute(text(_CREATE.format(table=self._table(collection), size=self._dimensions)))
                if self._dimensions <= MAX_INDEXED:
                    await session.execute(text(_INDEX.format(table=self._table(KNOWLEDGE))))
            self._ensured = True

    async def generation(self) -> str:
        """The table's object id: another one after the table was dropped."""
        await self.ensure()
        async with self._database.read() as session:
            oid = await session.scalar(text(f"SELECT '{self._table(KNOWLEDGE)}'::regclass::oid"))
            return f"pgvector-{oid}"

    async def upsert(self, collection: Collection, tenant: UUID | None, vectors: dict[UUID, Vector]) -> None:
        await self.ensure()
        rows = [{"tenant": tenant or SHARED, "id": id_, "vector": _text(vector)} for id_, vector in vectors.items()]
        if rows:
            async with self._database.write() as session:
                await session.execute(text(_UPSERT.format(table=self._table(collection))), rows)

    async def search(self, collection: Collection, tenant: UUID | None, vector: Vector, limit: int) -> list[Hit]:
        await self.ensure()
        values = {"tenant": tenant or SHARED, "vector": _text(vector), "limit": limit}
        async with self._database.read() as session:
            rows = await session.execute(text(_SEARCH.format(table=self._table(collection))), values)
            return [Hit(row.id, min(1.0, max(0.0, 1.0 - row.distance))) for row in rows]

    async def delete(self, collection: Collection, tenant: UUID | None, ids: Sequence[UUID]) -> None:
        await self.ensure()
        async with self._database.write() as session:
            statement = f"DELETE FROM {self._table(collection)} WHERE tenant = :tenant AND id = ANY(:ids)"  # noqa: S608
            await session.execute(text(statement), {"tenant": tenant or SHARED, "ids": list(ids)})

    async def ping(self) -> None:
        await self.ensure()
        async with self._database.read() as session:
            await session.execute(text(f"SELECT 1 FROM {self._table(KNOWLEDGE)} LIMIT 1"))  # noqa: S608

    async def close(self) -> None:
        """The pool is the service's, not ours."""


def _text(vector: Vector) -> str:
    """pgvector's text form; asyncpg has no codec for the type."""
    return PgVector(list(vector)).to_text()


# Table names come from a closed set of collections and a number, never from outside.
_CREATE = """
CREATE TABLE IF NOT EXISTS {table} (
    tenant uuid NOT NULL,
    id uuid NOT NULL,
    vector vector({size}) NOT NULL,
    PRIMARY KEY (tenant, id)
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS {table}_nearest ON {table} USING hnsw (vector vector_cosine_ops)"
_UPSERT = """
INSERT INTO {table} (tenant, id, vector) VALUES (:tenant, :id, CAST(CAST(:vector AS text) AS vector))
ON CONFLICT (tenant, id) DO UPDATE SET vector = excluded.vector
"""
_SEARCH = """
SELECT id, vector <=> CAST(CAST(:vector AS text) AS vector) AS distance
FROM {table} WHERE tenant = :tenant
ORDER BY vector <=> CAST(CAST(:vector AS text) AS vector) LIMIT :limit
"""
