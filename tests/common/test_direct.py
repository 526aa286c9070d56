"""Routes that pass the framework by: they answer, fail and are seen as if they did not."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
import structlog
from chatbot_common.app import Probes, create_service
from chatbot_common.direct import Direct, body_of, endpoint, stacked
from chatbot_common.errors import Conflict
from chatbot_common.identity import Identity, ServiceIdentity, UserVerifier
from chatbot_common.leaving import CLIENT_LEFT, LOOK_SECONDS, ClientGone, WhileThere
from chatbot_common.telemetry import HTTP_REQUESTS
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.support.identity import KeyPair


class Sum(BaseModel):
    left: int
    right: int
    why: str = ""


router = APIRouter()


@router.post("/framework")
async def add(body: Sum) -> dict[str, int]:
    if body.why == "conflict":
        raise Conflict("told to")
    if body.why == "http":
        raise HTTPException(418, "A teapot")
    if body.why == "crash":
        raise RuntimeError("hunter22")
    return {"sum": body.left + body.right}


async def _add(request: Request) -> Response:
    return JSONResponse(await add(await body_of(request, Sum)))


class Broken:
    def __init__(self, app: ASGIApp) -> None:
        pass

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("hunter22")


async def _no_keys() -> dict[str, list[object]]:
    return {"keys": []}


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    who = Identity(UserVerifier(_no_keys, "", ""), ServiceIdentity("sums", KeyPair().private_text, {}))
    direct = {("POST", "/direct"): Direct(endpoint(_add), "/direct/{path:path}")}
    app = create_service("sums", identity=who, probes=Probes(), routers=[router], direct=direct)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


JSON = {"Content-Type": "application/json"}


class TestDirect:
    @pytest.mark.parametrize(
        ("content", "headers"),
        [
            (b'{"left": 1, "right": 2}', JSON),
            (b'{"left": 1}', JSON),
            (b'{"left": "one", "right": null}', JSON),
            (b'{"left": 1,', JSON),
            *(
                (b'{"left": 1, "right": 2}', {"Content-Type": kind})
                for kind in (
                    "application/JSON",
                    "application/x+json; a=b",
                    "text/plain",
                    "text/json",
                    "text/plain;json",
                )
            ),
            (b'{"left": 1, "right": 2}', {}),
            (b'{"left": 1, "right": 2, "why": "conflict"}', JSON),
            (b'{"left": 1, "right": 2, "why": "http"}', JSON),
            (b'{"left": 1, "right": 2, "why": "crash"}', JSON),
        ],
    )
    async def test_answers_as_the_framework_does(
        self, client: httpx2.AsyncClient, content: bytes, headers: dict[str, str]
    ) -> None:
        ours, theirs = [await client.post(path, content=content, headers=headers) for path in ("/direct", "/framework")]
        assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json())
        assert ours.headers == theirs.headers

    async def test_only_for_its_method(self, client: httpx2.AsyncClient) -> None:
        assert (await client.get("/direct")).status_code == 404

    async def test_is_counted_by_its_template(self, client: httpx2.AsyncClient) -> None:
        counter = HTTP_REQUESTS.labels("POST", "/direct/{path:path}", 409)
        before = counter._value.get()
        await client.post("/direct", json={"left": 1, "right": 2, "why": "conflict"})
        assert counter._value.get() == before + 1

    @pytest.mark.parametrize("middleware", [[], [Middleware(Broken)]])
    async def test_is_a_problem_also_where_its_middleware_fails(self, middleware: list[Middleware]) -> None:
        app = stacked(Direct(endpoint(_add), "/direct"), middleware)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            answer = await client.post("/direct", json={"left": 1, "right": 2, "why": "crash"})
        assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")

    async def test_whose_client_leaves_within_its_body_is_not_our_failure(self) -> None:
        said: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
        answered: list[Message] = []

        async def receive() -> Message:
            return said.pop(0)

        async def send(message: Message) -> None:
            answered.append(message)

        scope = {"type": "http", "method": "POST", "path": "/direct", "scheme": "http", "query_string": b""}
        with structlog.testing.capture_logs() as log:
            app = stacked(Direct(endpoint(_add), "/direct"), [])
            await app(scope | {"headers": [(b"content-type", b"application/json")]}, receive, send)
        assert [(line["event"], line["status"]) for line in log] == [("request", CLIENT_LEFT)]
        assert answered[0]["status"] == CLIENT_LEFT


class TestWhileThere:
    async def test_a_client_that_goes_ends_the_block(self) -> None:
        gone = asyncio.Event()

        async def work() -> None:
            async with WhileThere(lambda: _wait(gone)):
                gone.set()
                await asyncio.sleep(10)

        with pytest.raises(ClientGone):
            await work()

    @pytest.mark.parametrize("looked", [True, False])
    async def test_but_not_one_that_may_leave(self, looked: bool) -> None:
        gone = asyncio.Event()
        async with WhileThere(lambda: _wait(gone)) as client:
            await asyncio.sleep(2 * LOOK_SECONDS * looked)
            client.may_leave()
            gone.set()
            await asyncio.sleep(2 * LOOK_SECONDS)

    @pytest.mark.parametrize("looked", [True, False])
    async def test_nor_what_comes_after_it(self, looked: bool) -> None:
        gone = asyncio.Event()
        async with WhileThere(lambda: _wait(gone)):
            await asyncio.sleep(2 * LOOK_SECONDS * looked)
            gone.set()
        await asyncio.sleep(2 * LOOK_SECONDS)

    async def test_of_a_short_block_nobody_looks(self) -> None:
        looks = 0

        async def look() -> None:
            nonlocal looks
            looks += 1

        for _ in range(3):
            async with WhileThere(look):
                pass
        await asyncio.sleep(2 * LOOK_SECONDS)
        assert looks == 0

    async def test_who_cancels_the_work_itself_is_heard(self) -> None:
        gone = asyncio.Event()

        async def work() -> None:
            async with WhileThere(lambda: _wait(gone)):
                await asyncio.sleep(10)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
