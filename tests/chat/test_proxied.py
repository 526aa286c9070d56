"""A provider behind the proxy that the environment names: asked through it, in a turn as for a raw model."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from chatbot_chat.providers import ProviderTimeout, ProviderUnreachable
from chatbot_chat.providers.relaying import failure
from chatbot_common.answers import BrokenOff
from chatbot_common.by_httpx import proxied
from chatbot_common.upstream import Patience, Unreachable

from tests.chat.providing import open_catalog, text
from tests.support.identity import Keys
from tests.support.model_server import ModelServer


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer):
        while data := await reader.read(65536):
            writer.write(data)


class Proxy:
    """A forward proxy of HTTP: takes one request for each connection, and remembers what for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, url, version = (await reader.readuntil(b"\r\n")).decode().split()
        self.asked.append(url)
        host, _, path = url.removeprefix("http://").partition("/")
        far_reader, far = await asyncio.open_connection(*host.split(":"))
        far.write(f"{method} /{path} {version}\r\nConnection: close\r\n".encode())
        await asyncio.gather(_pump(reader, far), _pump(far_reader, writer))


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Proxy:
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Proxy()


class TestProxied:
    async def test_answers_and_relays_pass_through_it(
        self, monkeypatch: pytest.MonkeyPatch, keys: Keys, running_model: tuple[ModelServer, str], proxy: Proxy
    ) -> None:
        body = {"messages": [{"role": "user", "content": "Hello there"}]}
        async with proxy.listening() as url:
            _, model = running_model
            monkeypatch.setenv("HTTP_PROXY", url)
            async with open_catalog(keys, {"open": model, "claude": model}, "echo") as world:
                assert text(await world.ask()) == "You said: Hello there"
                async with contextlib.AsyncExitStack() as stack:
                    relay = await world.catalog.relay("echo", body, stack)
                    answer = b"".join([piece async for piece in relay.response.pieces()])
        assert b"You said: Hello there" in answer
        assert proxy.asked == [f"{model}/chat/completions"] * 2

    async def test_failures_are_told_as_without_one(self, proxy: Proxy) -> None:
        """None listens, one says nothing, one breaks off."""

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer):
                await reader.read()

        async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

        with pytest.raises(Unreachable) as unreachable:
            await self.ask("http://127.0.0.1:1")
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            with pytest.raises(TimeoutError) as late:
                await self.ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with await asyncio.start_server(rude, "127.0.0.1", 0) as server:
            with pytest.raises(BrokenOff) as broken:
                await self.ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        kinds = [type(failure("open", error.value)) for error in (unreachable, late, broken)]
        assert kinds == [ProviderUnreachable, ProviderTimeout, ProviderUnreachable]

    async def ask(self, proxy: str) -> None:
        server = proxied("http://api.test", Patience(1, 0.2), proxy, None)
        async with contextlib.aclosing(server):
            await server.open("POST", b"/v1/chat/completions", [], b"{}")
