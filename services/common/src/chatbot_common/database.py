"""Postgres: the pool, read and write sessions as different types, and migrations under a lock."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from prometheus_client import Gauge
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

CONNECTIONS_ACTIVE = Gauge("db_connections_active", "Database connections checked out of the pool")
MIGRATION_LOCK = 0x63686174  # 'chat': one migration at a time per database


class ReadSession(AsyncSession):
    """A transaction that Postgres itself keeps read-only."""


class WriteSession(ReadSession):
    """A transaction that commits once, when its block ends without an error."""


class Database:
    """The process's pool. `read` and `write` each give one session for one block."""

    def __init__(self, url: str, *, pool_size: int = 20, max_overflow: int = 30) -> None:
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_pre_ping=True,
            pool_recycle=3600,
            connect_args={"timeout": 5, "server_settings": {"jit": "off"}},
        )
        self._read = async_sessionmaker(self.engine, class_=ReadSession, expire_on_commit=False)
        self._write = async_sessionmaker(self.engine, class_=WriteSession, expire_on_commit=False)
        CONNECTIONS_ACTIVE.set_function(lambda: self.engine.pool.checkedout())  # type: ignore[attr-defined]

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        async with self._read() as session:
            await session.connection(execution_options={"postgresql_readonly": True})
            yield session

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        async with self._write() as session, session.begin():
            yield session

    async def ping(self) -> None:
        """Raises when the database cannot be reached or was never migrated."""
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1 FROM alembic_version"))

    async def close(self) -> None:
        await self.engine.dispose()


def alembic_config(scripts: Path, connection: Connection | None = None) -> Config:
    """Configuration for the migrations in `scripts`; `env.py` takes the connection from its attributes."""
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.attributes["connection"] = connection
    return config


async def migrate(url: str, scripts: Path) -> str:
    """Bring the database to the newest revision; safe to run from several places at once.

    Returns:
        The revision the database is at now.
    """
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            await connection.run_sync(
                lambda sync: command.upgrade(alembic_config(scripts, sync), "head"),
            )
    finally:
        await engine.dispose()
    return ScriptDirectory.from_config(alembic_config(scripts)).get_current_head() or ""
