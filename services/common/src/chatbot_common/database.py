"""Postgres: the pool, read and write sessions as different types, and migrations under a lock."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from asyncpg import PostgresError  # type: ignore[import-untyped]
from prometheus_client import Gauge
from sqlalchemy import Connection, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from chatbot_common.database_url import dsn_of
from chatbot_common.errors import Unavailable

if TYPE_CHECKING:
    from alembic.config import Config

log = structlog.get_logger(__name__)

CONNECTIONS_ACTIVE = Gauge("db_connections_active", "Database connections checked out of the pool")
CONNECTIONS_MAX = Gauge("db_connections_max", "Database connections that the pool may have")
MIGRATION_LOCK = 0x63686174  # 'chat': one migration at a time per database

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 15.0
"""The longest a statement may take. A server that vanished with its node sends nothing, not even the connection's end;
without this limit the kernel would wait for it for a quarter of an hour. The driver may take it twice, to roll back."""
POOL_SECONDS = 10.0
"""For a connection of the pool; shorter than callers wait, so that what nobody waits for any more is not begun."""
RESTED_SECONDS = 1.0
"""Of a pooled connection, after which it is tried before it is used."""
PING_SECONDS = 2.0
MIGRATION_RETRY_SECONDS = 1.0
UNREACHABLE = 75
"""Exit status of work whose database cannot be used yet; 75 is EX_TEMPFAIL of sysexits.h."""

# Connection lost, resources gone (a full disk too), shutting down or starting up; database or tables not there yet.
UNAVAILABLE_STATES = ("08", "53", "57P", "3D000", "42P01")
# Beside these, a role or a password that the store is about to set.
NOT_YET_STATES = (*UNAVAILABLE_STATES, "28")


class ReadSession(AsyncConnection):
    """A transaction that Postgres itself keeps read-only."""

    async def start(self, is_ctxmanager: bool = False) -> AsyncConnection:
        """Here an OSError can only mean the database, and not what the block does."""
        try:
            return await super().start(is_ctxmanager)
        except OSError as error:
            raise _unavailable(error) from error


class WriteSession(ReadSession):
    """A transaction that commits once, when its block ends without an error."""


class Database:
    """The process's pool, or a second one, not `observed`. `read` and `write` each give one session for one block.

    They know no objects: to keep track of those takes a sixth of the CPU of a turn's statements.

    Raises:
        Unavailable: Postgres cannot be reached, is full, or was not migrated yet. Everything else is a defect.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 20,
        max_overflow: int = 30,
        statement_seconds: float = STATEMENT_SECONDS,
        observed: bool = True,
    ) -> None:
        self.engine = engine_of(
            url,
            command_timeout=statement_seconds,
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_timeout=POOL_SECONDS,
            pool_recycle=3600,
            hide_parameters=True,  # they hold what people wrote, and errors end up in logs
        )
        event.listen(self.engine.sync_engine, "checkin", _rests)
        event.listen(self.engine.sync_engine, "checkout", _check)
        self._readonly = self.engine.execution_options(postgresql_readonly=True)
        if observed:
            CONNECTIONS_MAX.set(pool_size + max_overflow)
            CONNECTIONS_ACTIVE.set_function(lambda: self.engine.pool.checkedout())  # type: ignore[attr-defined]

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        session = ReadSession(self._readonly)
        with _translated():
            async with session:
                yield session

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        session = WriteSession(self.engine)
        with _translated():
            async with session, session.begin():
                yield session

    @contextlib.asynccontextmanager
    async def objects(self, *, readonly: bool = False) -> AsyncIterator[AsyncSession]:
        """As these two, for who has a class for each table."""
        async with (
            self.read() if readonly else self.write() as connection,
            AsyncSession(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    async def ping(self) -> None:
        """Raises when the database cannot be reached or was never migrated."""
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1 FROM alembic_version"))

    async def close(self) -> None:
        await self.engine.dispose()


def _rests(connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    entry.info["since"] = time.monotonic()


def _check(connection: Any, entry: ConnectionPoolEntry, _: object) -> None:
    """Whether a pooled connection lives. Asking the server costs three round trips, so only one that rested is asked.

    A server that ended the connection has told us so by now; one that vanished with its node has not.

    Raises:
        InvalidatePoolError: it is not. The pool makes another, and trusts none that is as old: each would cost a wait.
    """
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError
    if time.monotonic() - entry.info.get("since", time.monotonic()) > RESTED_SECONDS:
        try:
            connection.run_async(_ping)
        except Exception as error:
            connection.driver_connection.terminate()  # the pool would say goodbye, and wait for an answer
            raise InvalidatePoolError from error


async def _ping(connection: Any) -> None:
    await connection.execute("SELECT 1", timeout=PING_SECONDS)


def engine_of(url: str, command_timeout: float | None = None, **options: Any) -> AsyncEngine:
    """Raises `ValueError` for a URL that `dsn_of` refuses."""
    told = {"dsn": dsn_of(url), "timeout": CONNECT_SECONDS, "command_timeout": command_timeout}
    return create_async_engine(
        "postgresql+asyncpg://", connect_args=told | {"server_settings": {"jit": "off"}}, **options
    )


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeoutError, TimeoutError) as error:
        if isinstance(error, DBAPIError) and not _out_of_reach(error):
            raise
        raise _unavailable(error) from error


def _out_of_reach(error: DBAPIError) -> bool:
    return error.connection_invalidated or _state(error).startswith(UNAVAILABLE_STATES)


def _state(error: Exception) -> str:
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def _unavailable(error: Exception) -> Unavailable:
    log.warning("database unavailable", error=type(error).__name__, sqlstate=_state(error) or None)
    return Unavailable("The database cannot be used right now; try again shortly.")


def alembic_config(scripts: Path, connection: Connection | None = None) -> "Config":
    """Configuration for the migrations in `scripts`; `env.py` takes the connection from its attributes."""
    from alembic.config import Config  # here: only `migrate` needs alembic, which costs 10 MB and 0.1 s

    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.attributes["connection"] = connection
    return config


async def migrate(url: str, scripts: Path) -> str:
    """Bring the database to the newest revision; safe to run from several places at once.

    A database that a later version has been at is left as it is: each schema works with the version before it, so that
    an image can be rolled back.

    Returns:
        The revision the database is at now.
    """
    engine = engine_of(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            return await connection.run_sync(lambda sync: upgrade(sync, scripts))
    finally:
        await engine.dispose()


def upgrade(connection: Any, scripts: Path, wanted: str = "head") -> str:
    """Run the revisions up to the wanted one; returns the one the database is at then."""
    from alembic import command
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = alembic_config(scripts, connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in known:
        log.warning("the database is newer than this version, and left as it is", revision=revision)
        return revision
    if wanted != "head" and wanted not in known:
        return ""
    command.upgrade(config, wanted)
    return MigrationContext.configure(connection).get_current_revision() or ""


async def migrate_command(url: str, scripts: Path, patience: float) -> int:
    """Exit status of a process that only migrates. It waits for the database up to `patience` seconds.

    On a cluster the migration is started with the store, whose roles and databases appear a moment later.
    """

    async def work() -> None:
        log.info("database migrated", revision=await migrate(url, scripts))

    return await patiently("migration", work, patience)


async def patiently(what: str, work: Callable[[], Awaitable[None]], patience: float) -> int:
    """Exit status of work on databases that may not be there yet; it is tried again for `patience` seconds.

    `UNREACHABLE` tells the operator that another attempt may well do.
    """
    end, told = time.monotonic() + patience, None
    while True:
        try:
            await work()
        except (OSError, DBAPIError, PostgresError) as error:
            # A traceback would say no more than this.
            why = {"error": type(error).__name__, "reason": str(getattr(error, "orig", error))}
            if time.monotonic() > end or not _not_yet(error):
                log.error(f"{what} failed", **why)
                return UNREACHABLE if _not_yet(error) else 1
            if why != told:
                log.warning("waiting for the database", **(told := why))
            await asyncio.sleep(MIGRATION_RETRY_SECONDS)
        else:
            return 0


def _not_yet(error: Exception) -> bool:
    return isinstance(error, OSError) or _state(error).startswith(NOT_YET_STATES)
