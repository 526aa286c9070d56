"""Connections move on to new replicas by themselves, and none is cut."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
import uvicorn
from chatbot_common.connections import recycled, say_goodbye
from chatbot_common.upstream import Patience, Upstream
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

MAX_AGE = 0.2


class Replica(uvicorn.Server):
    """One pod: answers with its name and the caller's port."""

    def __init__(self, name: str = "one", max_age: float = MAX_AGE) -> None:
        app = Starlette(routes=[Route("/", self._hello, methods=["GET", "POST"]), Route("/stream", self._stream)])
        super().__init__(uvicorn.Config(app, port=0, log_config=None, access_log=False, http=recycled(max_age)))
        self.name = name

    async def _hello(self, request: Request) -> Response:
        assert request.client is not None
        return PlainTextResponse(f"{self.name} {request.client.port}")

    async def _stream(self, _: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(6):
                yield b"%d" % number
                await asyncio.sleep(MAX_AGE / 3)

        return StreamingResponse(parts())

    @contextlib.contextmanager
    def capture_signals(self):
        yield

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])


@contextlib.asynccontextmanager
async def running(replica: Replica) -> AsyncIterator[Replica]:
    task = asyncio.create_task(replica.serve())
    while not replica.started:
        await asyncio.sleep(0.005)
    try:
        yield replica
    finally:
        replica.should_exit = True
        await task


@contextlib.asynccontextmanager
async def service(pods: list[int]) -> AsyncIterator[str]:
    """What a Service is: each new connection goes to the next pod and stays there. `pods` may change."""
    turn = itertools.count()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", pods[next(turn) % len(pods)])
        await asyncio.gather(copy(reader, back), copy(there, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.contextmanager
def upstream(url: str) -> Iterator[Upstream]:
    """The client between our own services."""
    client = Upstream(url, Patience(connect=5, silence=10))
    yield client
    client.close()


async def ask_for(seconds: float, client: Upstream | httpx2.AsyncClient, url: str) -> list[str]:
    """One POST after the other; the answers. Every one must have come."""
    answers, loop = [], asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        if isinstance(client, httpx2.AsyncClient):
            response = await client.post(url)
            answers.append(response.text)
        else:
            async with client.ask("POST", b"/", [], b"") as answer:
                answers.append(b"".join([piece async for piece in answer.pieces()]).decode())
        await asyncio.sleep(0.005)
    return answers


class TestRecycled:
    @pytest.mark.parametrize("kind", ["ours", "another"])
    async def test_a_new_replica_gets_its_share(self, kind: str) -> None:
        async with (
            running(Replica("one")) as one,
            running(Replica("two")) as two,
            service([one.port, two.port]) as url,
            httpx2.AsyncClient() as another,
        ):
            with upstream(url) as ours:
                answers = await ask_for(MAX_AGE * 6, ours if kind == "ours" else another, url)

        assert {answer.split()[0] for answer in answers} == {"one", "two"}

    async def test_a_connection_serves_until_it_is_old(self) -> None:
        async with running(Replica()) as replica, httpx2.AsyncClient() as client:
            answers = await ask_for(MAX_AGE * 3, client, f"http://127.0.0.1:{replica.port}")

        ports = Counter(answers)
        assert 2 <= len(ports) <= 5
        assert len(answers) > 3 * len(ports)

    async def test_a_stream_is_not_cut(self) -> None:
        async with running(Replica()) as replica, httpx2.AsyncClient() as client:
            await client.get(f"http://127.0.0.1:{replica.port}/")
            response = await client.get(f"http://127.0.0.1:{replica.port}/stream")

        assert response.content == b"012345"


class TestGoodbye:
    async def test_busy_callers_leave_and_lose_no_request(self) -> None:
        """As a cluster ends a pod: no new connections, then the signal, while those there are go on being used."""
        async with (
            running(Replica("one", max_age=60)) as one,
            running(Replica("two", max_age=60)) as two,
            service(pods := [one.port]) as url,
        ):
            with upstream(url) as client:
                asking = [asyncio.create_task(ask_for(2.0, client, url)) for _ in range(8)]
                while len(one.server_state.connections) < 8:
                    await asyncio.sleep(0.005)
                pods[:] = [two.port]
                assert say_goodbye(one)
                async with asyncio.timeout(1):
                    while one.server_state.connections:
                        await asyncio.sleep(0.005)
                one.should_exit = True
                answers = [await task for task in asking]

        assert all(said[0].startswith("one") and said[-1].startswith("two") for said in answers)

    async def test_of_nobody(self) -> None:
        async with running(Replica()) as replica:
            assert not say_goodbye(replica)
