"""The pool when Postgres goes away without a word, and migrations that are started before it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from chatbot_auth.__main__ import MIGRATIONS
from chatbot_common import database as database_module
from chatbot_common.database import Database, migrate_command
from chatbot_common.errors import Unavailable
from sqlalchemy import text

from tests.support.doors import door
from tests.support.patience import within
from tests.support.serving import free_port
from tests.support.stores import Postgres


@contextlib.asynccontextmanager
async def pool(port: int, seconds: float = 0.5) -> AsyncIterator[Database]:
    database = Database(f"postgresql://postgres@127.0.0.1:{port}/postgres", pool_size=4, statement_seconds=seconds)
    yield database
    await database.close()


async def one(database: Database) -> int:
    async with database.read() as session:
        return int(await session.scalar(text("SELECT 1")) or 0)


class TestVanishedServer:
    async def test_is_given_up_and_found_at_its_new_address(self, postgres: Postgres) -> None:
        async with door(postgres.socket) as port, pool(port.port) as database:
            await asyncio.gather(*(one(database) for _ in range(4)))
            port.freeze()

            async with within(5):
                lost = await asyncio.gather(*(one(database) for _ in range(4)), return_exceptions=True)
                assert {type(error) for error in lost} == {Unavailable}
                assert await asyncio.gather(*(one(database) for _ in range(4))) == [1, 1, 1, 1]

    async def test_costs_one_wait_for_all_its_connections(
        self, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        silent = 0

        async def counted(connection: Any) -> None:
            nonlocal silent
            try:
                await ping(connection)
            except TimeoutError:
                silent += 1
                raise

        ping = database_module._ping
        monkeypatch.setattr(database_module, "_ping", counted)
        monkeypatch.setattr(database_module, "RESTED_SECONDS", -1.0)
        monkeypatch.setattr(database_module, "PING_SECONDS", 0.5)
        async with door(postgres.socket) as port, pool(port.port, 60) as database:
            await asyncio.gather(*(one(database) for _ in range(4)))
            port.freeze()
            async with within(30):
                assert await one(database) == 1
                assert await asyncio.gather(*(one(database) for _ in range(3))) == [1, 1, 1]
        assert silent == 1

    @pytest.mark.parametrize("kind", ["read", "write"])
    async def test_in_the_middle_of_a_session(self, postgres: Postgres, kind: str) -> None:
        async with door(postgres.socket) as port, pool(port.port) as database:
            session_of = database.read if kind == "read" else database.write

            async def interrupted() -> None:
                async with session_of() as session:
                    await session.execute(text("SELECT 1"))
                    port.freeze()
                    await session.execute(text("SELECT 2"))

            async with within(5):
                with pytest.raises(Unavailable):
                    await interrupted()
            assert await one(database) == 1

    async def test_that_comes_back(self, postgres: Postgres) -> None:
        port = free_port()
        async with pool(port) as database:
            async with door(postgres.socket, port):
                assert await one(database) == 1
            with pytest.raises(Unavailable):
                await one(database)
            async with door(postgres.socket, port):
                assert await one(database) == 1


class TestMigrateCommand:
    async def test_waits_for_server_and_database(self, postgres: Postgres) -> None:
        port, name = free_port(), "appears_later"
        url = f"postgresql://postgres@127.0.0.1:{port}/{name}"
        with structlog.testing.capture_logs() as log:
            migrating = asyncio.create_task(migrate_command(url, MIGRATIONS, 60))
            await logged(log, "Connect call failed")
            async with door(postgres.socket, port):
                await logged(log, "does not exist")
                await asyncio.to_thread(postgres.server.psql, f"CREATE DATABASE {name};")
                assert await migrating == 0
        postgres.drop(name)
        assert [line["event"] for line in log] == ["waiting for the database"] * 2 + ["database migrated"]

    async def test_gives_up_in_time(self) -> None:
        with structlog.testing.capture_logs() as log:
            async with within(10):
                assert await migrate_command("postgresql://u@127.0.0.1:1/none", MIGRATIONS, 1) == 75
        assert [line["event"] for line in log] == ["waiting for the database", "migration failed"]

    async def test_a_broken_migration_is_not_repeated(self, postgres: Postgres, tmp_path: Path) -> None:
        (tmp_path / "versions").mkdir()
        (tmp_path / "env.py").write_text((MIGRATIONS.parent / "migrations" / "env.py").read_text())
        (tmp_path / "versions" / "0001.py").write_text(
            "from alembic import op\nrevision = '0001'\ndown_revision = None\n"
            "def upgrade():\n    op.execute('SELECT nonsense')\n"
        )
        name = postgres.create()
        with structlog.testing.capture_logs() as log:
            assert await migrate_command(postgres.url(name), tmp_path, 60) == 1
        postgres.drop(name)
        assert [line["event"] for line in log] == ["migration failed"]

    async def test_a_database_of_a_later_version_is_left_as_it_is(self, postgres: Postgres) -> None:
        """So that an image can be rolled back: its migration comes before its pods."""
        name = postgres.create()
        assert await migrate_command(postgres.url(name), MIGRATIONS, 60) == 0
        database = Database(postgres.url(name))
        async with database.write() as session:
            await session.execute(text("UPDATE alembic_version SET version_num = 'from_next_year'"))
        with structlog.testing.capture_logs() as log:
            assert await migrate_command(postgres.url(name), MIGRATIONS, 60) == 0
        async with database.read() as session:
            assert await session.scalar(text("SELECT version_num FROM alembic_version")) == "from_next_year"
        await database.close()
        postgres.drop(name)
        assert log[0]["event"] == "the database is newer than this version, and left as it is"


async def logged(log: list[structlog.typing.EventDict], words: str) -> None:
    async with within(20):
        while not any(words in line.get("reason", "") for line in log):
            await asyncio.sleep(0.02)
