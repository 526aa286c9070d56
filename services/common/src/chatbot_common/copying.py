"""All data of one database, copied into another that is empty: for a chatbot whose Postgres is to be another one.

By the driver, and not by pg_dump: it speaks TLS as the services do, to whichever version either server is. The tables
are made by the service's own migrations, up to where the old database is; what a service has made besides them, such
as tables of vectors, is made after its picture. All of it is one transaction: it is there as a whole or not at all.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import structlog
from sqlalchemy import text

from chatbot_common.database import CONNECT_SECONDS, MIGRATION_LOCK, engine_of, patiently, upgrade
from chatbot_common.database_url import dsn_of

log = structlog.get_logger(__name__)

FORMER = Path("/etc/chatbot/former/database_url")
"""Where the operator mounts the URL of the old database."""
FORMER_AUTHORITY = FORMER.with_name("ca.crt")
"""The certificate that was brought with it, if there is one."""
VERSIONS = "alembic_version"
CHUNKS = 16
"""Read ahead, of 64 kB at most each."""

_TABLES = """
SELECT c.relname::text AS name,
       array(
           SELECT attname::text FROM pg_attribute
           WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
       ) AS columns
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relname
"""
_NEEDS = """
SELECT one.relname::text AS name, other.relname::text AS needs FROM pg_constraint
JOIN pg_class one ON one.oid = conrelid JOIN pg_class other ON other.oid = confrelid
WHERE contype = 'f' AND conparentid = 0 AND conrelid <> confrelid AND NOT condeferrable
"""
_PICTURE = """
SELECT format('CREATE TABLE %s (%s)', $1::text::regclass, string_agg(part, ', ' ORDER BY place)) FROM (
    SELECT attnum::int AS place,
           format('%I %s', attname, format_type(atttypid, atttypmod))
           || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END AS part
    FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT 10000, format('CONSTRAINT %I %s', conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype IN ('p', 'u', 'c')) parts
"""
_INDEXES = """
SELECT pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = $1::text::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
_COUNTERS = """
SELECT format('%I.%I', schemaname, sequencename) AS name, last_value FROM pg_sequences
WHERE schemaname = 'public' AND last_value IS NOT NULL
"""
_MARK = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"


_COMMENT = "SELECT format('COMMENT ON DATABASE %I IS %L', current_database(), $1::text)"


class CannotCopy(Exception):
    """Says why, to a person; nothing was changed."""


@dataclass(frozen=True)
class Table:
    name: str
    columns: tuple[str, ...]

    @property
    def sql(self) -> str:
        return f"public.{_quoted(self.name)}"


async def copy(old: str, new: str, scripts: Path, mark: str) -> int:
    """Copy what is in `old` into `new`.

    Args:
        old: DSN of the database to read; it is not changed.
        new: DSN of the database to fill.
        scripts: the migrations of the service that owns both.
        mark: names this copy. One that was made under the same name is complete, and not made again.

    Returns:
        Rows copied; 0 when all had been done before.

    Raises:
        CannotCopy: the new one is not empty, or the old one is of a later version.
    """
    source = await asyncpg.connect(old, timeout=CONNECT_SECONDS)
    engine = engine_of(new)
    try:
        async with source.transaction(isolation="repeatable_read", readonly=True), engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            target: Any = (await connection.get_raw_connection()).driver_connection
            found, said = await _tables(target), await target.fetchval(_MARK) or ""
            # The mark outlives tables that a person has taken away to have them copied again.
            if found and said == _said(mark):
                return 0
            if found:
                raise CannotCopy(_not_empty(found, said))
            revision = await _revision(source)
            if revision:
                await connection.run_sync(lambda sync: _prepare(sync, scripts, revision))
            rows = await _copy_all(source, target)
            await target.execute(await target.fetchval(_COMMENT, _said(mark)))
            return rows
    finally:
        await engine.dispose()
        await source.close()


async def copy_from(former: str, new: str, scripts: Path, mark: str, patience: float) -> int:
    """Exit status of a process that only copies. It waits for both databases up to `patience` seconds.

    Args:
        former: URL of the old database.
        new: DSN of the new one.
    """
    old = dsn_of(former, str(FORMER_AUTHORITY) if FORMER_AUTHORITY.is_file() else None)

    async def work() -> None:
        log.info("database copied", rows=await copy(old, new, scripts, mark))

    try:
        return await patiently("copy", work, patience)
    except CannotCopy as error:
        log.error("copy refused", reason=str(error))
        return 1


def _prepare(connection: Any, scripts: Path, revision: str) -> None:
    if upgrade(connection, scripts, revision) != revision:
        raise CannotCopy(f"the old database is at {revision}, which this version does not know")


async def _copy_all(source: Any, target: Any) -> int:
    wanted = [table for table in await _tables(source) if table.name != VERSIONS]
    there = {table.name for table in await _tables(target)}
    made = [table for table in wanted if table.name not in there]
    if made and await source.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'vector'"):
        await target.execute("CREATE EXTENSION IF NOT EXISTS vector")
    for table in made:
        await target.execute(await source.fetchval(_PICTURE, table.sql))
    if filled := [table.sql for table in wanted if table.name in there]:
        # What migrations have put into them comes with the rest.
        await target.execute(f"TRUNCATE {', '.join(filled)}")
    rows = await _copy_rows(source, target, _in_order(wanted, await source.fetch(_NEEDS)))
    for table in made:
        for record in await source.fetch(_INDEXES, table.sql):
            await target.execute(record[0])
    for counter in await source.fetch(_COUNTERS):
        await target.execute("SELECT setval($1::text::regclass, $2)", counter["name"], counter["last_value"])
    return rows


async def _copy_rows(source: Any, target: Any, tables: list[Table]) -> int:
    """As they are: no trigger of a service's has anything to do about rows that are not new."""
    for table in tables:
        await target.execute(f"ALTER TABLE {table.sql} DISABLE TRIGGER USER")
    await target.execute("SET CONSTRAINTS ALL DEFERRED")
    rows = sum([await _copy_table(source, target, table) for table in tables])
    await target.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for table in tables:
        await target.execute(f"ALTER TABLE {table.sql} ENABLE TRIGGER USER")
    return rows


async def _copy_table(source: Any, target: Any, table: Table) -> int:
    """Raises: CannotCopy: other rows arrived than were sent."""
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue(CHUNKS)

    async def read() -> str:
        columns = ", ".join(map(_quoted, table.columns))
        # As a query, since COPY reads no partitioned table.
        query = f"SELECT {columns} FROM {table.sql}"  # noqa: S608 - names, as the database has them
        told: str = await source.copy_from_query(query, output=chunks.put)
        await chunks.put(None)
        return told

    async def sent() -> AsyncIterator[bytes]:
        while (chunk := await chunks.get()) is not None:
            yield chunk

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read())
        writing = group.create_task(
            target.copy_to_table(table.name, schema_name="public", columns=table.columns, source=sent())
        )
    if reading.result() != writing.result():
        raise CannotCopy(f"of {table.name}, {reading.result()} was sent, and {writing.result()} arrived")
    return int(reading.result().rpartition(" ")[2])


def _in_order(tables: list[Table], needs: list[Any]) -> list[Table]:
    """What others refer to comes first, where a reference is checked at once."""
    by_name = {table.name: table for table in tables}
    graph = TopologicalSorter({name: set[str]() for name in by_name})
    for need in needs:
        if need["name"] in by_name and need["needs"] in by_name:
            graph.add(need["name"], need["needs"])
    return [by_name[name] for name in graph.static_order()]


async def _tables(connection: Any) -> list[Table]:
    return [Table(record["name"], tuple(record["columns"])) for record in await connection.fetch(_TABLES)]


async def _revision(source: Any) -> str | None:
    """Where its migrations are; None in a database that nobody has used yet."""
    if await source.fetchval("SELECT to_regclass('public.alembic_version')") is None:
        return None
    found: str | None = await source.fetchval("SELECT version_num FROM public.alembic_version")
    return found


def _not_empty(found: list[Table], said: str) -> str:
    text = f"the new database is not empty: it has {len(found)} tables, such as {found[0].name}"
    return f"{text}, {said} earlier, and what was written since" if said.startswith(_said("")) else text


def _said(mark: str) -> str:
    return f"copied by {mark}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
