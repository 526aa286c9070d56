"""Streams of events as an ASGI server sees them."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from chatbot_chat import sse
from starlette.types import Message

SCOPE = {"type": "http"}


class Client:
    """Hears what is sent; gone once `gone` is set."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.comforted, self.gone = asyncio.Event(), asyncio.Event()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.heard.append(message.get("body", b"start"))
        if self.heard[-1].startswith(b":"):
            self.comforted.set()


async def test_a_silence_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.01)
    client = Client()

    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"one"
        await client.comforted.wait()
        yield b"two"

    await sse.sse_response(frames())(SCOPE, client.receive, client.send)
    said = [piece for piece in client.heard if piece != b": keep-alive\n\n"]
    assert said == [b"start", b"one", b"two", b""]
    assert client.heard[2] == b": keep-alive\n\n"


@pytest.mark.parametrize("first", [b"one", b""])
async def test_a_client_that_goes_ends_the_frames(first: bytes) -> None:
    client, told = Client(), list[str]()

    async def frames() -> AsyncGenerator[bytes, None]:
        try:
            if first:
                yield first
            client.gone.set()
            await asyncio.Event().wait()
        finally:
            told.append("closed")

    async def ended() -> None:
        told.append("ended")

    await sse.sse_response(frames(), ended)(SCOPE, client.receive, client.send)
    assert told == ["closed", "ended"]
    assert b"" not in client.heard
