"""`chatbot-postgres`: from an empty volume, and from whatever a dead server left."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg  # type: ignore[import-untyped]
import psutil
import pytest

from tests.images.conftest import Entry, postgres_in

SUPERUSER = 'root\'s "own"'


@asynccontextmanager
async def connected(
    entry: Entry, user: str, password: str, database: str | None = None
) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=entry.port, user=user, password=password, database=database or user, timeout=10
    )
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def refused(entry: Entry, user: str, password: str, database: str | None = None) -> str:
    """The name of the error that a connection ends with."""
    try:
        async with connected(entry, user, password, database):
            return "welcome"
    except asyncpg.PostgresError as error:
        return type(error).__name__


def command_line(process: psutil.Process) -> list[str]:
    """Its words; none of a process that ended while it was looked for, as Postgres' own helpers do at any time."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


class TestFirstStart:
    async def test_each_owner_finds_its_database_and_no_other(self, postgres: Entry) -> None:
        assert not postgres.ready()
        postgres.up()
        async with connected(postgres, "auth", "for auth $1") as auth:
            assert await auth.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
            await auth.execute("CREATE TABLE accounts (id int)")
        async with connected(postgres, "conversation", "for conv") as conversation:
            await conversation.execute("CREATE EXTENSION IF NOT EXISTS vector")  # as the service's own migration does
            assert await conversation.fetchval("SELECT '[1,2]'::vector <-> '[1,3]'") == 1
        assert await refused(postgres, "auth", "for auth $1", "conversation") == "InsufficientPrivilegeError"
        assert await refused(postgres, "conversation", "for conv", "auth") == "InsufficientPrivilegeError"

    async def test_nobody_enters_without_the_right_password(self, postgres: Entry) -> None:
        postgres.up()
        assert await refused(postgres, "postgres", SUPERUSER) == "welcome"
        for user in ("postgres", "auth", "conversation"):
            assert await refused(postgres, user, "wrong") == "InvalidPasswordError"

    def test_passwords_are_in_no_command_line_and_no_log(self, postgres: Entry) -> None:
        postgres.up()
        server = psutil.Process(postgres.pid)
        children = server.children(recursive=True)
        lines = [*server.cmdline(), *(word for child in children for word in command_line(child))]
        seen = postgres.said() + " ".join(lines)
        for password in (SUPERUSER, "for auth $1", "for conv"):
            assert password not in seen


class TestNextStart:
    async def test_data_stays_and_changed_passwords_count(self, postgres: Entry) -> None:
        postgres.up()
        async with connected(postgres, "auth", "for auth $1") as auth:
            await auth.execute("CREATE TABLE kept AS SELECT 42 AS x")
        postgres.end(signal.SIGINT)
        postgres.tell(auth_password="changed", password="changed too")
        postgres.up()
        assert await refused(postgres, "auth", "for auth $1") == "InvalidPasswordError"
        assert await refused(postgres, "postgres", "changed too") == "welcome"
        async with connected(postgres, "auth", "changed") as auth:
            assert await auth.fetchval("SELECT x FROM kept") == 42

    async def test_clients_do_not_hold_up_the_end(self, postgres: Entry) -> None:
        postgres.up()
        connection = await asyncpg.connect(
            host="127.0.0.1", port=postgres.port, user="auth", password="for auth $1", database="auth"
        )
        assert postgres.end(signal.SIGINT) == 0
        connection.terminate()

    async def test_killed_while_it_serves(self, postgres: Entry) -> None:
        postgres.up()
        async with connected(postgres, "auth", "for auth $1") as auth:
            await auth.execute("CREATE TABLE kept AS SELECT 42 AS x")
        postgres.kill()
        # In the next container the recorded process id belongs to somebody else.
        (postgres.folder / "volume/18/postmaster.pid").write_text(f"{os.getpid()}\n/nowhere\n1\n5432\n\n\n\nready\n")
        postgres.up()
        assert "automatic recovery in progress" in postgres.said()
        async with connected(postgres, "auth", "for auth $1") as auth:
            assert await auth.fetchval("SELECT x FROM kept") == 42

    async def test_killed_while_it_makes_its_data(self, postgres: Entry) -> None:
        volume = postgres.folder / "volume"
        postgres.start()
        postgres.wait(lambda: (volume / "18.new/PG_VERSION").exists())
        postgres.kill()
        assert not (volume / "18").exists()
        postgres.up()
        assert await refused(postgres, "auth", "for auth $1") == "welcome"
        assert not (volume / "18.new").exists()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_asked_to_end_while_it_makes_its_data(self, postgres: Entry, number: signal.Signals) -> None:
        postgres.start()
        postgres.wait(lambda: (postgres.folder / "volume/18.new/PG_VERSION").exists())
        assert postgres.end(number) == 128 + number
        postgres.up()


class TestTwoOnOneVolume:
    @pytest.fixture
    def other(self, postgres: Entry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entry]:
        entry = postgres_in(tmp_path_factory.mktemp("other"))
        (entry.folder / "volume").rmdir()
        (entry.folder / "volume").symlink_to(postgres.folder / "volume")
        yield entry
        entry.close()

    async def test_the_second_waits_for_the_end_of_the_first(self, postgres: Entry, other: Entry) -> None:
        postgres.up()
        other.start()
        other.wait(lambda: "another server still uses this volume" in other.said())
        assert await refused(postgres, "auth", "for auth $1") == "welcome"
        assert not other.ready()
        postgres.end(signal.SIGINT)
        other.wait(other.ready)
        assert await refused(other, "auth", "for auth $1") == "welcome"


class TestRefusals:
    def test_a_missing_password_is_named(self, postgres: Entry) -> None:
        (postgres.passwords / "auth-password").unlink()
        assert postgres.fails().strip().endswith("passwords/auth-password: No such file or directory.")

    def test_an_empty_password_is_named(self, postgres: Entry) -> None:
        postgres.tell(conversation_password="")
        assert "conversation-password is empty" in postgres.fails()

    def test_data_of_another_version_is_left_alone(self, postgres: Entry) -> None:
        old = postgres.folder / "volume" / "17"
        old.mkdir()
        (old / "PG_VERSION").write_text("17\n")
        assert "holds data of PostgreSQL 17; this image is 18" in postgres.fails()
        assert (old / "PG_VERSION").exists()
