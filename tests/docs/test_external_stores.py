"""What the guide to external stores tells people to type is enough for the services, and its figures are theirs."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from chatbot_auth import main as auth
from chatbot_auth.__main__ import MIGRATIONS as AUTH
from chatbot_chat.runs.events import Event
from chatbot_chat.runs.log import TTL_SECONDS, RunLog
from chatbot_common.database import Database, migrate
from chatbot_common.ids import uuid7
from chatbot_conversation import main as conversation
from chatbot_conversation import worker
from chatbot_conversation.__main__ import MIGRATIONS as CONVERSATION
from chatbot_conversation.vectors import KNOWLEDGE
from chatbot_conversation.vectors.pgvector import MAX_INDEXED, PGVectorStore
from chatbot_gateway.limits import Limiter, windows
from chatbot_gateway.settings import Limits
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError
from sqlalchemy import text

from tests.docs.pages import DOCS, blocks
from tests.support.stores import Postgres

GUIDE = DOCS / "guides" / "external-stores.md"
SAID = " ".join(GUIDE.read_text(encoding="utf-8").split())


@pytest.fixture(scope="module")
def prepared(postgres: Postgres) -> Postgres:
    """After all the SQL of the guide, in its order."""
    for block in blocks(GUIDE, "sql"):
        postgres.server.psql("\\set ON_ERROR_STOP on\n" + block.text)
    return postgres


class TestPostgres:
    def url(self, postgres: Postgres, role: str, database: str) -> str:
        return postgres.url(database).replace("postgres@", f"{role}@")

    async def test_the_roles_may_migrate_their_databases(self, prepared: Postgres) -> None:
        for owner, scripts in (("auth", AUTH), ("conversation", CONVERSATION)):
            assert await migrate(self.url(prepared, f"helpdesk_{owner}", f"helpdesk_{owner}"), scripts)

    async def test_and_keep_vectors(self, prepared: Postgres) -> None:
        database = Database(self.url(prepared, "helpdesk_conversation", "helpdesk_conversation"))
        store = PGVectorStore(database, 8)
        await store.upsert(KNOWLEDGE, None, {(id_ := uuid4()): [1.0] * 8})
        assert [hit.id for hit in await store.search(KNOWLEDGE, None, [1.0] * 8, 1)] == [id_]
        await database.close()

    async def test_neither_enters_the_others(self, prepared: Postgres) -> None:
        with pytest.raises(Exception, match="permission denied for database"):
            await migrate(self.url(prepared, "helpdesk_auth", "helpdesk_conversation"), AUTH)

    async def test_a_second_role_works_as_the_first(self, prepared: Postgres) -> None:
        url = self.url(prepared, "helpdesk_auth_2", "helpdesk_auth")
        assert await migrate(url, AUTH)
        database = Database(url)
        async with database.write() as session:
            await session.execute(text("CREATE TABLE later (id int)"))
            owner = await session.scalar(text("SELECT tableowner FROM pg_tables WHERE tablename = 'later'"))
        assert owner == "helpdesk_auth"
        await database.close()

    def test_connections(self) -> None:
        accounts = auth.POOL_SIZE + auth.POOL_OVERFLOW
        history = conversation.POOL_SIZE + conversation.POOL_OVERFLOW
        workers = worker.POOL_SIZE + worker.POOL_OVERFLOW + worker.QUEUE_POOL
        each = f"`auth` opens at most {accounts}, of `conversation` {history}, of `conversation-worker` {workers}"
        assert each in SAID
        least, most = (pods * (accounts + history) + 2 * workers for pods in (3, 10))
        assert f"{least} to {most} connections" in SAID

    def test_dimensions(self) -> None:
        assert f"{MAX_INDEXED:,} dimensions (HNSW)" in SAID


class TestRedis:
    @pytest.fixture
    async def user(self, redis_url: str) -> AsyncIterator[str]:
        """URL with the user that the guide makes."""
        [block] = blocks(GUIDE, "redis")
        async with Redis.from_url(redis_url) as admin:
            await admin.execute_command(block.text.strip())
            yield redis_url.replace("unix://", "unix://helpdesk:change-me-3@")
            await admin.execute_command("ACL DELUSER helpdesk")

    async def test_may_hold_limits(self, user: str) -> None:
        limiter = Limiter(user, windows(Limits(per_minute=2, per_hour=2, per_day=2)))
        await limiter.ping()
        assert '"minute";r=1' in (await limiter.spend(f"user:{uuid4()}"))["RateLimit"]
        await limiter.close()

    async def test_may_hold_runs(self, user: str) -> None:
        async with Redis.from_url(user) as redis:
            log, run = RunLog(redis, redis), uuid7()
            assert await log.append(run, 1, [Event("text.delta", run, 1, 1, {"text": "a"})]) == "ok"
            assert len(await log.read(run, 1, 0, wait=False)) == 1
            await log.cancel(run, 1)

    async def test_may_do_nothing_else(self, user: str) -> None:
        async with Redis.from_url(user) as redis:
            for command in ("SET other 1", "FLUSHALL", "CONFIG GET *", "KEYS *"):
                with pytest.raises(NoPermissionError):
                    await redis.execute_command(*command.split())

    def test_runs_are_kept_as_long_as_it_says(self) -> None:
        assert f"kept for {TTL_SECONDS // 60} minutes" in SAID
