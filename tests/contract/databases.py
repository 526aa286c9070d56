"""What a database demands of who writes to it, and what of that an older version of a service cannot live with."""

from collections.abc import Iterator
from typing import Any

import asyncpg

Picture = dict[str, dict[str, Any]]
"""Table → `columns` {name: {type, nullable, default}} and `rules` {rule: columns that it is about}."""

TABLES = """
SELECT oid, relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
    AND relname <> 'alembic_version'
ORDER BY relname
"""
COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod) AS type, NOT attnotnull AS nullable,
    atthasdef OR attidentity <> '' AS default
FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attname
"""
RULES = """
SELECT pg_get_constraintdef(oid) AS rule, conkey AS columns
FROM pg_constraint WHERE conrelid = $1 AND contype IN ('c', 'f', 'x')
UNION
SELECT regexp_replace(pg_get_indexdef(indexrelid), '^.* USING ', 'UNIQUE '), indkey
FROM pg_index WHERE indrelid = $1 AND indisunique
ORDER BY rule
"""
NAMES = "SELECT attname FROM pg_attribute WHERE attrelid = $1 AND attnum = ANY($2) ORDER BY attname"


async def picture(url: str) -> Picture:
    """Of a database, as it is."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return {row["relname"]: await _table(connection, row["oid"]) for row in await connection.fetch(TABLES)}
    finally:
        await connection.close()


async def _table(connection: asyncpg.Connection, table: int) -> dict[str, Any]:
    columns = {row["attname"]: dict(row) for row in await connection.fetch(COLUMNS, table)}
    found = await connection.fetch(RULES, table)
    return {
        "columns": {name: {key: row[key] for key in ("type", "nullable", "default")} for name, row in columns.items()},
        "rules": {
            row["rule"]: [name["attname"] for name in await connection.fetch(NAMES, table, row["columns"])]
            for row in found
        },
    }


def contractions(before: Picture, after: Picture) -> list[str]:
    """What breaks a service that was written for the tables of `before`."""
    return [text for table in before for text in _of_table(table, before[table], after.get(table))]


def _of_table(table: str, before: dict[str, Any], after: dict[str, Any] | None) -> Iterator[str]:
    if after is None:
        yield f"{table} is gone"
        return
    old, new = before["columns"], after["columns"]
    for name in old:
        yield from _of_column(f"{table}.{name}", old[name], new.get(name))
    for name in new.keys() - old.keys():
        if not new[name]["nullable"] and not new[name]["default"]:
            yield f"{table}.{name} is new, and has no default"
    for rule in after["rules"].keys() - before["rules"].keys():
        if set(after["rules"][rule]) <= old.keys():
            yield f"{table} has a new rule: {rule}"


def _of_column(name: str, before: dict[str, Any], after: dict[str, Any] | None) -> Iterator[str]:
    if after is None:
        yield f"{name} is gone"
        return
    if before["type"] != after["type"]:
        yield f"{name} has another type"
    if before["nullable"] and not after["nullable"]:
        yield f"{name} may no longer be null"
    if before["default"] and not after["default"] and not after["nullable"]:
        yield f"{name} has lost its default"
