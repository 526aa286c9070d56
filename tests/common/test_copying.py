"""A database becomes another one's content, as a whole or not at all: between two real ones, with the real tables."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg  # type: ignore[import-untyped]
import pytest
from chatbot_auth.__main__ import MIGRATIONS as AUTH
from chatbot_common.copying import CannotCopy, copy, copy_from
from chatbot_common.database import Database, migrate
from chatbot_common.database_url import dsn_of
from chatbot_conversation.__main__ import MIGRATIONS
from chatbot_conversation.vectors import KNOWLEDGE
from chatbot_conversation.vectors.pgvector import PGVectorStore

from tests.support.patience import within
from tests.support.stores import Postgres

USER, CONVERSATION, DOCUMENT = UUID(int=1), UUID(int=2), UUID(int=3)
TEXT = 'Grüße,\t"quoted"\\\nand a new line'


@pytest.fixture
async def old(postgres: Postgres) -> AsyncIterator[str]:
    """DSN of a database as a service leaves it: a conversation, a document, a job, and vectors."""
    name = postgres.create()
    await migrate(postgres.url(name), MIGRATIONS)
    connection = await asyncpg.connect(dsn_of(postgres.url(name)))
    await connection.execute(
        "INSERT INTO conversations (user_id, id, title) VALUES ($1, $2, $3)", USER, CONVERSATION, TEXT
    )
    messages = [(USER, UUID(int=1000 + number), CONVERSATION, TEXT * 20) for number in range(3000)]
    await connection.executemany(
        "INSERT INTO messages (user_id, id, conversation_id, role, text, parts, status)"
        " VALUES ($1, $2, $3, 'user', $4, '[]', 'completed')",
        messages,
    )
    await connection.execute(
        "INSERT INTO documents (id, path, title, text, source, content_hash) VALUES ($1, 'a', 'a', '', 'seed', '')",
        DOCUMENT,
    )
    await connection.execute("INSERT INTO passages VALUES ($1, $2, 0, 'text')", uuid4(), DOCUMENT)
    await connection.execute(
        "INSERT INTO pgqueuer (priority, status, entrypoint, updated) VALUES (0, 'queued', 'i', now())"
    )
    await connection.close()
    database = Database(postgres.url(name))
    await PGVectorStore(database, 8).upsert(KNOWLEDGE, None, {UUID(int=9): [0.5] * 8})
    await database.close()
    yield dsn_of(postgres.url(name))
    postgres.drop(name)


@pytest.fixture
def new(postgres: Postgres) -> AsyncIterator[str]:
    name = postgres.create()
    yield dsn_of(postgres.url(name))  # type: ignore[misc]
    postgres.drop(name)


async def content(dsn: str) -> dict[str, list[str]]:
    """Every row of every table."""
    connection = await asyncpg.connect(dsn)
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    )
    found = {
        item[0]: sorted(row[0] for row in await connection.fetch(f'SELECT t::text FROM "{item[0]}" t'))  # noqa: S608
        for item in tables
    }
    await connection.close()
    return found


async def shape(dsn: str) -> set[str]:
    """Definitions of all indexes and constraints, and where counters are."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
        " UNION ALL SELECT conrelid::regclass::text || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid > 0"
        " AND connamespace = 'public'::regnamespace"
        " UNION ALL SELECT sequencename::text || coalesce(last_value, 0)::text FROM pg_sequences"
        " UNION ALL SELECT tgname::text || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal"
    )
    await connection.close()
    return {row[0] for row in rows}


async def test_everything_arrives(old: str, new: str) -> None:
    assert await copy(old, new, MIGRATIONS, "one") > 3000
    assert await content(new) == await content(old)
    assert await shape(new) == await shape(old)
    database = Database(new)
    (hit,) = await PGVectorStore(database, 8).search(KNOWLEDGE, None, [0.5] * 8, 1)
    assert hit.id == UUID(int=9)
    await database.close()
    assert await migrate(new, MIGRATIONS)


async def test_is_made_once_under_one_name(old: str, new: str) -> None:
    """An attempt that had succeeded, and whose pod was lost before it could say so."""
    await copy(old, new, MIGRATIONS, "one")
    before = await content(new)
    assert await copy(old, new, MIGRATIONS, "one") == 0
    assert await content(new) == before


async def test_is_made_again_when_a_person_has_emptied_the_new_one(old: str, new: str) -> None:
    """The mark is the database's, and outlives its tables."""
    await copy(old, new, MIGRATIONS, "one")
    connection = await asyncpg.connect(new)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    assert await copy(old, new, MIGRATIONS, "one") > 3000
    assert await content(new) == await content(old)


async def test_never_writes_over_anything(old: str, new: str) -> None:
    await copy(old, new, MIGRATIONS, "one")
    with pytest.raises(CannotCopy, match=r"not empty: .* such as alembic_version, copied by one earlier, and what was"):
        await copy(old, new, MIGRATIONS, "two")
    assert await copy_from(old, new, MIGRATIONS, "two", 60) == 1


async def test_one_that_is_broken_off_leaves_nothing(old: str, new: str, postgres: Postgres) -> None:
    copying = asyncio.create_task(copy(old, new, MIGRATIONS, "one"))
    watching = await asyncpg.connect(new)
    try:
        async with within(30):
            while not (found := await watching.fetch(_COPYING)):
                await asyncio.sleep(0.001)
                assert not copying.done(), "it was too fast to be broken off"
        await watching.execute("SELECT pg_terminate_backend($1)", found[0]["pid"])
        with pytest.raises((Exception, ExceptionGroup)):
            await copying
    finally:
        await watching.close()
    assert await content(new) == {}
    assert await copy(old, new, MIGRATIONS, "one") > 3000


_COPYING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY %FROM STDIN%'"


async def test_an_empty_one_stays_empty(new: str, postgres: Postgres) -> None:
    nobodys = dsn_of(postgres.url(postgres.create()))
    assert await copy(nobodys, new, AUTH, "one") == 0
    assert await content(new) == {}


async def test_one_of_a_later_version_is_left_alone(old: str, new: str) -> None:
    connection = await asyncpg.connect(old)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    with pytest.raises(CannotCopy, match="9999"):
        await copy(old, new, MIGRATIONS, "one")
    assert await content(new) == {}


async def test_by_roles_that_only_own_their_databases(old: str, postgres: Postgres) -> None:
    """As on a cluster, where nobody is a superuser; and the extension of vectors is there already."""
    postgres.server.psql("CREATE ROLE copier LOGIN; GRANT USAGE ON SCHEMA public TO copier;")
    name = postgres.create()
    postgres.server.psql(f"ALTER DATABASE {name} OWNER TO copier;\n\\connect {name}\nCREATE EXTENSION vector;")
    reader = old.partition("?")[0].rpartition("/")[2]
    postgres.server.psql(f"\\connect {reader}\nGRANT pg_read_all_data TO copier;")
    new = dsn_of(postgres.url(name)).replace("postgres@", "copier@")
    try:
        assert await copy(old.replace("postgres@", "copier@"), new, MIGRATIONS, "one") > 3000
        assert await content(new) == await content(old)
    finally:
        postgres.drop(name)
        postgres.server.psql("DROP OWNED BY copier; DROP ROLE copier;")


async def test_waits_for_a_server_that_is_not_there_yet(new: str, tmp_path: Path) -> None:
    gone = f"postgresql://postgres@/nothing?host={tmp_path}"
    assert await copy_from(gone, new, MIGRATIONS, "one", 0.1) == 75
