"""The migrated database is the one the code believes in."""

import asyncpg
from chatbot_common.database import Database, migrate
from chatbot_conversation.__main__ import MIGRATIONS
from chatbot_conversation.tables import metadata
from sqlalchemy import Connection, inspect

from tests.support.stores import Postgres


def columns_in(connection: Connection) -> dict[str, dict[str, bool]]:
    found = inspect(connection)
    return {
        name: {column["name"]: column["nullable"] for column in found.get_columns(name)} for name in metadata.tables
    }


class TestMigrate:
    async def test_creates_the_tables_of_the_code(self, database_url: str) -> None:
        database = Database(database_url)
        async with database.engine.connect() as connection:
            found = await connection.run_sync(columns_in)
        await database.close()

        assert found == {
            name: {column.name: bool(column.nullable) for column in table.columns}
            for name, table in metadata.tables.items()
        }

    async def test_partitions_what_belongs_to_a_person(self, sql: asyncpg.Connection) -> None:
        rows = await sql.fetch(
            "SELECT relname, pg_get_partkeydef(oid) AS key, "
            "(SELECT count(*) FROM pg_inherits WHERE inhparent = pg_class.oid) AS partitions "
            "FROM pg_class WHERE relkind = 'p' ORDER BY relname"
        )

        assert [tuple(row) for row in rows] == [
            (name, "HASH (user_id)", 16) for name in ("conversations", "feedback", "ledger", "messages", "turns")
        ]

    async def test_again_changes_nothing(self, postgres: Postgres, database_url: str) -> None:
        assert await migrate(database_url, MIGRATIONS) == "0011"
