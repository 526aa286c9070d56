"""Starting before the database, losing it, and getting it back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx2
from chatbot_auth.__main__ import MIGRATIONS
from chatbot_common.app import private_app
from chatbot_common.database import migrate

from tests.auth.running import Auth, problem, running
from tests.support.doors import door
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import free_port, serving
from tests.support.stores import Postgres


class Watched:
    """A service and its private port."""

    def __init__(self, auth: Auth, private: httpx2.AsyncClient) -> None:
        self.auth = auth
        self._private = private

    async def readyz(self) -> httpx2.Response:
        return await self._private.get("/readyz")

    async def livez(self) -> int:
        return (await self._private.get("/livez")).status_code

    async def ready(self) -> None:
        async with within(15):
            while (await self.readyz()).status_code != 200:
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def watched(keys: Keys, url: str) -> AsyncIterator[Watched]:
    async with (
        running(keys, url) as auth,
        serving(private_app(auth.app.state.probes)) as private,
        httpx2.AsyncClient(base_url=private) as client,
    ):
        yield Watched(auth, client)


class TestStart:
    async def test_before_postgres(self, keys: Keys, postgres: Postgres, empty_database: str) -> None:
        port = free_port()
        async with watched(keys, f"postgresql+asyncpg://postgres@127.0.0.1:{port}/{empty_database}") as service:
            assert await service.livez() == 200
            not_ready = await service.readyz()
            assert (not_ready.status_code, not_ready.json()["checks"]) == (503, {"database": "ConnectionRefusedError"})
            problem(await service.auth.register(), 503, "unavailable")
            problem(await service.auth.login("ada@example.com"), 503, "unavailable")
            problem(await service.auth.refresh("x"), 503, "unavailable")
            problem(await service.auth.new_link(), 503, "unavailable")
            assert (await service.auth.client.get("/api/v1/.well-known/jwks.json")).status_code == 200

            async with door(postgres.socket, port):
                await service.ready()
                assert (await service.auth.register()).status_code == 201
                assert await service.auth.link()

    async def test_before_the_migration(self, keys: Keys, postgres: Postgres) -> None:
        url = postgres.url(name := postgres.create())
        async with watched(keys, url) as service:
            assert (await service.readyz()).status_code == 503
            problem(await service.auth.register(), 503, "unavailable")

            await migrate(url, MIGRATIONS)

            await service.ready()
            assert (await service.auth.register()).status_code == 201
            assert await service.auth.link()
        postgres.drop(name)

    async def test_health_names_the_database(self, keys: Keys, postgres: Postgres) -> None:
        async with watched(keys, postgres.url("missing")) as service:
            response = await service.auth.client.get("/health")

        assert response.status_code == 200
        assert response.json() == {"status": "degraded", "service": "auth", "checks": {"database": "DBAPIError"}}


class TestLoss:
    async def test_postgres_goes_and_comes_back(self, keys: Keys, postgres: Postgres, own_database: str) -> None:
        port = free_port()
        async with watched(keys, f"postgresql+asyncpg://postgres@127.0.0.1:{port}/{own_database}") as service:
            async with door(postgres.socket, port):
                await service.ready()
                pair = (await service.auth.register()).json()

            problem(await service.auth.me(pair["access_token"]), 503, "unavailable")
            problem(await service.auth.refresh(pair["refresh_token"]), 503, "unavailable")
            assert (await service.readyz()).status_code == 503
            assert await service.livez() == 200

            async with door(postgres.socket, port):
                await service.ready()
                assert (await service.auth.me(pair["access_token"])).status_code == 200
                assert (await service.auth.refresh(pair["refresh_token"])).status_code == 200

    async def test_connections_cut_by_postgres(self, keys: Keys, postgres: Postgres, own_database: str) -> None:
        async with watched(keys, postgres.url(own_database)) as service:
            pair = (await service.auth.register()).json()
            postgres.server.psql(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{own_database}';"  # noqa: S608
            )
            await asyncio.sleep(0.1)  # this process has to hear of it first

            assert (await service.auth.me(pair["access_token"])).status_code == 200

    async def test_disk_full(self, keys: Keys, postgres: Postgres, own_database: str) -> None:
        async with watched(keys, postgres.url(own_database)) as service:
            postgres.server.psql(
                f"\\c {own_database}\n"
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS\n"
                "$$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$;\n"
                "CREATE TRIGGER full_disk BEFORE INSERT ON users EXECUTE FUNCTION full_disk();"
            )

            problem(await service.auth.register(), 503, "unavailable")
