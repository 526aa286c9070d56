"""Jobs: enqueued with the transaction that needs them, run once a worker is there, and never lost with one."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from chatbot_common.database import Database
from chatbot_conversation.jobs import enqueue
from chatbot_conversation.settings import Settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.conversation.running import Conversation, eventually, make_settings, running, working
from tests.support.identity import Keys
from tests.support.serving import free_port, serving


class EmbeddingsServer:
    """Speaks OpenAI's embeddings; hangs while `hanging`, refuses `failures` times."""

    def __init__(self) -> None:
        self.hanging = False
        self.failures = 0
        self.requests: list[dict[str, Any]] = []
        self.app = Starlette(routes=[Route("/v1/embeddings", self._embed, methods=["POST"])])

    async def _embed(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        if self.hanging:
            await self._until_disconnected(request)
            return Response(status_code=499)
        if self.failures:
            self.failures -= 1
            return Response(status_code=500)
        vectors = [[float(len(text)), 1.0] + [0.0] * 14 for text in body["input"]]
        data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
        return JSONResponse({"data": data[::-1]})

    async def _until_disconnected(self, request: Request) -> None:
        for _ in range(400):
            if await request.is_disconnected():
                return
            await asyncio.sleep(0.05)


@pytest.fixture
async def embeddings() -> EmbeddingsServer:
    return EmbeddingsServer()


@pytest.fixture
async def settings(
    keys: Keys, auth_url: str, database_url: str, embeddings: EmbeddingsServer
) -> AsyncIterator[Settings]:
    async with serving(embeddings.app) as url:
        model = {"type": "OpenAICompatible", "base_url": url + "/v1", "model": "tiny", "dimensions": 16}
        listen = {"host": "127.0.0.1", "port": free_port(), "private_port": free_port()}
        yield make_settings(keys, auth_url, database_url, embeddings=model, listen=listen, drain_seconds=2)


@pytest.fixture
async def service(keys: Keys, settings: Settings) -> AsyncIterator[Conversation]:
    async with running(keys, settings) as conversation:
        yield conversation


class TestEnqueue:
    @pytest.mark.parametrize("crash", [False, True])
    async def test_shares_the_fate_of_its_transaction(
        self, database_url: str, sql: asyncpg.Connection, crash: bool
    ) -> None:
        database = Database(database_url)
        with contextlib.suppress(ZeroDivisionError):
            async with database.write() as session:
                await enqueue(session, "index_faq", [{"id": "1"}, {"id": "2"}])
                assert await sql.fetchval("SELECT count(*) FROM pgqueuer") == 0
                if crash:
                    raise ZeroDivisionError
        await database.close()

        assert await sql.fetchval("SELECT count(*) FROM pgqueuer") == (0 if crash else 2)

    async def test_a_refused_reply_enqueues_nothing(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        turn = await service.exchange(ada, "one", "eins")

        assert (await service.reply(turn, "again")).status_code == 409

        assert await sql.fetchval("SELECT count(*) FROM pgqueuer WHERE entrypoint = 'index_message'") == 2

    async def test_a_job_names_rows_and_never_quotes_them(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        turn = await service.exchange(ada, "my secret plan", "eins")

        payloads = [json.loads(row["payload"]) for row in await sql.fetch("SELECT payload FROM pgqueuer ORDER BY id")]

        ids = (turn["user_message_id"], turn["reply_message_id"])
        assert payloads == [{"user_id": str(ada), "message_id": message_id} for message_id in ids]


class TestRun:
    async def test_messages_are_indexed_for_their_user(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        turn = await service.exchange(ada, "one", "eins")

        async with working(service.settings):
            await eventually(lambda: sql.fetchval("SELECT count(*) = 0 FROM pgqueuer"))

        rows = await sql.fetch("SELECT tenant, id FROM vectors_messages_16 ORDER BY id")
        assert [(row["tenant"], str(row["id"])) for row in rows] == [
            (ada, turn["user_message_id"]),
            (ada, turn["reply_message_id"]),
        ]

    async def test_a_failed_job_is_tried_again(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection, embeddings: EmbeddingsServer
    ) -> None:
        await service.exchange(ada, "my secret plan", "eins")
        embeddings.failures = 2

        async with working(service.settings):
            await eventually(lambda: sql.fetchval("SELECT count(*) = 0 FROM pgqueuer"))

        assert await sql.fetchval("SELECT count(*) FROM vectors_messages_16") == 2
        traces = await sql.fetch("SELECT traceback::text AS text FROM pgqueuer_log WHERE traceback IS NOT NULL")
        assert traces
        assert not any("secret plan" in row["text"] for row in traces)

    async def test_a_killed_workers_job_is_taken_up_again(
        self,
        service: Conversation,
        ada: UUID,
        sql: asyncpg.Connection,
        embeddings: EmbeddingsServer,
        tmp_path: Path,
    ) -> None:
        await service.exchange(ada, "one", "eins")
        embeddings.hanging = True
        process = await start_process("worker", service.settings, tmp_path)
        await eventually(lambda: sql.fetchval("SELECT count(*) = 2 FROM pgqueuer WHERE status = 'picked'"))

        process.kill()
        await process.wait()
        embeddings.hanging = False
        assert await sql.fetchval("SELECT count(*) FROM pgqueuer") == 2

        async with working(service.settings):
            await eventually(lambda: sql.fetchval("SELECT count(*) = 0 FROM pgqueuer"))
        assert await sql.fetchval("SELECT count(*) FROM vectors_messages_16") == 2

    async def test_a_job_that_outlasts_the_drain_is_left_to_another_worker(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection, embeddings: EmbeddingsServer
    ) -> None:
        await service.exchange(ada, "one", "eins")
        embeddings.hanging = True
        async with working(service.settings):
            await eventually(lambda: sql.fetchval("SELECT count(*) = 2 FROM pgqueuer WHERE status = 'picked'"))
        embeddings.hanging = False
        assert await sql.fetchval("SELECT count(*) FROM pgqueuer WHERE status = 'queued'") == 2

        async with working(service.settings):
            await eventually(lambda: sql.fetchval("SELECT count(*) = 0 FROM pgqueuer"))
        assert await sql.fetchval("SELECT count(*) FROM vectors_messages_16") == 2

    async def test_a_lost_database_is_waited_for(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        async with working(service.settings) as worker:
            await eventually(lambda: _jobs_state(worker, "ok"))
            await sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await service.exchange(ada, "one", "eins")

            await eventually(lambda: sql.fetchval("SELECT to_regclass('vectors_messages_16') IS NOT NULL"))
            # A job that was taken just then is tried again after a while.
            await eventually(lambda: sql.fetchval("SELECT count(*) = 2 FROM vectors_messages_16"), seconds=90)


class TestProcess:
    async def test_serves_probes_and_stops_on_sigterm(self, settings: Settings, tmp_path: Path) -> None:
        process = await start_process("worker", settings, tmp_path)
        base = f"http://127.0.0.1:{settings.listen.private_port}"
        async with httpx2.AsyncClient() as client:

            async def ready() -> bool:
                with contextlib.suppress(httpx2.TransportError):
                    return (await client.get(base + "/readyz")).status_code == 200
                return False

            await eventually(ready)
            assert (await client.get(base + "/livez")).status_code == 200
            assert "conversation_jobs" in (await client.get(base + "/metrics")).text

        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert process.stdout is not None
        events = [json.loads(line)["event"] for line in (await process.stdout.read()).splitlines()]
        assert (events[0], events[-1]) == ("worker started", "worker stopped")

    async def test_waits_for_its_database(
        self, keys: Keys, auth_url: str, embeddings: EmbeddingsServer, tmp_path: Path
    ) -> None:
        listen = {"host": "127.0.0.1", "port": free_port(), "private_port": free_port()}
        nowhere = "postgresql+asyncpg://nobody@127.0.0.1:1/none"
        settings = make_settings(keys, auth_url, nowhere, listen=listen)
        for command in ("worker", "serve"):
            process = await start_process(command, settings, tmp_path)
            async with httpx2.AsyncClient() as client:

                async def answer(client: httpx2.AsyncClient = client) -> httpx2.Response | None:
                    with contextlib.suppress(httpx2.TransportError):
                        return await client.get(f"http://127.0.0.1:{listen['private_port']}/readyz")
                    return None

                response = await eventually(answer)
            assert response.status_code == 503
            assert response.json()["checks"]["database"] != "ok"
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 10) == 0


class TestUnavailable:
    async def test_requests_are_told_so(self, keys: Keys, auth_url: str, ada: UUID) -> None:
        settings = make_settings(keys, auth_url, "postgresql+asyncpg://nobody@127.0.0.1:1/none")
        async with running(keys, settings) as service:
            assert (await service.get("/conversations", ada)).status_code == 503
            assert (await service.start_turn(ada)).status_code == 503
            health = (await service.client.get("/health")).json()

        assert health["status"] == "degraded"
        assert set(health["checks"]) == {"database", "vectors"}


async def start_process(command: str, settings: Settings, folder: Path) -> asyncio.subprocess.Process:
    """`python -m chatbot_conversation` with these settings on disk, as an operator would lay them out."""
    secrets = folder / "secrets"
    secrets.mkdir(exist_ok=True)
    told = settings.model_dump(mode="json")
    for name in ("service_private_key", "database_url"):
        del told[name]
        (secrets / name).write_text(getattr(settings, name).get_secret_value())
    for name in ("embeddings_key", "weaviate_key"):
        del told[name]
    (folder / "config.json").write_text(json.dumps(told))
    environment = {"CHATBOT_CONFIG": str(folder / "config.json"), "CHATBOT_SECRETS": str(secrets)}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chatbot_conversation",
        command,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def _jobs_state(worker: Any, state: str) -> bool:
    return bool((await worker.probes.run())["jobs"] == state)
