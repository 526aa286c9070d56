"""What a request cost here is told apart from what it waited for."""

import asyncio
import re
from time import perf_counter

import httpx2
import pytest
from chatbot_chat.timing import Timed, waiting
from chatbot_common.ids import uuid7
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tests.chat.running import Chat, sse_events

ADA = uuid7()
PAUSE = 0.05


def told(response: httpx2.Response) -> dict[str, float]:
    """Milliseconds by name."""
    pairs = re.findall(r"(\w+);dur=([\d.]+)", response.headers.get("server-timing", ""))
    return {name: float(milliseconds) for name, milliseconds in pairs}


async def test_what_is_waited_for_at_once_counts_once() -> None:
    async def wait() -> None:
        with waiting():
            await asyncio.sleep(PAUSE)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(PAUSE)
        await asyncio.gather(*(asyncio.create_task(wait()) for _ in range(50)))
        await PlainTextResponse("done")(scope, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(Timed(app)), base_url="http://chat") as client:
        began = perf_counter()
        found = told(await client.get("/"))
        passed = (perf_counter() - began) * 1000
    assert found["chat"] >= PAUSE * 1000 - 1
    assert found["provider"] >= PAUSE * 1000 - 1
    assert found["chat"] + found["provider"] <= passed + 1


@pytest.mark.parametrize("model", ["echo", "demo"])
async def test_of_completions(chat: Chat, model: str) -> None:
    """One that is relayed, and one of ours."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    found = told(await chat.client.post("/v1/chat/completions", json=body, headers=chat.keys.bearer(ADA)))
    assert found.keys() == {"chat", "provider"}
    assert found["chat"] > 0


async def test_of_a_turn(chat: Chat) -> None:
    began = perf_counter()
    found = told(await chat.send(ADA, "Hello", model="echo"))
    passed = (perf_counter() - began) * 1000
    assert found["provider"] > 0
    assert 0 < found["chat"] <= passed - found["provider"] + 1


async def test_who_waits_for_anothers_run_is_told_nothing(chat: Chat) -> None:
    body = {"content": "Hello", "model": "endless", "client_message_id": str(uuid7())}
    headers = chat.keys.bearer(ADA) | {"Accept": "text/event-stream"}
    async with chat.client.stream("POST", "/api/v1/chat/send", json=body, headers=headers) as mine:
        assert told(mine).keys() == {"chat", "provider"}
        run = (await anext(sse_events(mine)))["run_id"]
        async with chat.client.stream("POST", "/api/v1/chat/send", json=body, headers=headers) as others:
            assert not told(others)
        await chat.client.post(f"/api/v1/chat/runs/{run}/cancel", headers=chat.keys.bearer(ADA))
