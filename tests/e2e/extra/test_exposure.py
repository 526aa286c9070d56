"""A bot behind a real Traefik, by Ingress and by HTTPRoute: its page over TLS, an answer that streams, and a socket."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode
from websockets.typing import Origin

from tests.chat.conftest import (
    chat,
    conversation_database,
    conversation_settings,
    conversation_url,
    faq_file,
    model_server,
    running_model,
    told,
)
from tests.chat.running import Chat
from tests.chat.test_socket import ADA, Socket
from tests.e2e.extra.exposed import WAYS, Outside, exposed
from tests.e2e.extra.traefik import GATEWAY_CLASS, INGRESS_CLASS, QUIET_SECONDS, Traefik, running_traefik
from tests.operator.conftest import world
from tests.operator.running import World
from tests.support.apiserver import ApiServer
from tests.support.identity import Keys
from tests.support.optional_apis import GATEWAY_CONTROLLER, install

# What the chat service of `by_socket` is made of.
__all__ = [
    "chat",
    "conversation_database",
    "conversation_settings",
    "conversation_url",
    "faq_file",
    "model_server",
    "running_model",
    "told",
    "world",
]
pytestmark = [pytest.mark.extra, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def traefik(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traefik]:
    install(api_server, GATEWAY_CONTROLLER)
    for item in (INGRESS_CLASS, GATEWAY_CLASS):
        api_server.create(item)
    with running_traefik(api_server, tmp_path_factory.mktemp("traefik")) as process:
        yield process


@pytest.mark.parametrize("way", WAYS)
async def test_leads_to_the_page_and_streams(
    way: str, world: World, traefik: Traefik, tmp_path: Path, keys: Keys, redis_url: str
) -> None:
    async with exposed(way, world, traefik, tmp_path, keys, redis_url) as outside:
        told = await outside.run.until("RouteReady", "True", "RouteAdmitted")
        await outside.until_routed()
        page = await outside.client.get("/")
        assert told.url == f"https://{outside.host}"
        assert "text/html" in page.headers["Content-Type"]
        async with outside.client.stream("GET", "/api/v1/chat/stream", headers=keys.bearer()) as answer:
            parts = answer.aiter_bytes()
            # The rest is not even written before this part has arrived.
            assert await anext(parts) == b"data: first\n\n"
            outside.inside.upstream.proceed.set()
            assert b"".join([part async for part in parts]) == b"data: second\n\n"
        # Under another name there is nothing.
        assert (await outside.client.get("/", headers={"Host": "other.example.com"})).status_code == 404


class Counting(ClientConnection):
    """What keeps a connection alive is counted: pings of the other side."""

    pings = 0

    def process_event(self, event: Any) -> None:
        self.pings += isinstance(event, Frame) and event.opcode is Opcode.PING
        super().process_event(event)


@contextlib.asynccontextmanager
async def socket_of(outside: Outside, keys: Keys) -> AsyncIterator[Socket]:
    """Let in by a ticket, as a browser is. It pings nobody itself."""
    bought = await outside.client.post("/api/v1/chat/ws-ticket", headers=keys.bearer(ADA))
    assert bought.status_code == 201, bought.text
    async with connect(
        f"wss://{outside.host}/api/v1/chat/ws?ticket={bought.json()['ticket']}",
        host="127.0.0.1",
        port=outside.port,
        ssl=outside.trusting,
        proxy=None,
        ping_interval=None,
        origin=Origin(f"https://{outside.host}"),
        create_connection=Counting,
    ) as connection:
        yield Socket(connection)


class TestSocket:
    @pytest.mark.parametrize("way", WAYS)
    async def test_streams_is_stopped_and_outlives_a_silence(
        self,
        way: str,
        world: World,
        traefik: Traefik,
        tmp_path: Path,
        keys: Keys,
        redis_url: str,
        chat: Chat,
        auth_url: str,
    ) -> None:
        url = str(chat.client.base_url).rstrip("/")
        urls = {"auth": auth_url, "chat": url, "conversation": url}
        async with exposed(way, world, traefik, tmp_path, keys, redis_url, upstreams=urls) as outside:
            await outside.until_routed()
            async with socket_of(outside, keys) as socket:
                # It never ends by itself: what has arrived was passed on while the rest was not written yet.
                await socket.say("message", content="Count", model="endless")
                await socket.until("text.delta")
                await socket.say("stop")
                [*_, last] = await socket.until("run.cancelled", "run.finished")
                assert last["type"] == "run.cancelled"
                connection = socket.connection
                assert isinstance(connection, Counting)
                before = connection.pings
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(QUIET_SECONDS * 2.5):
                        pytest.fail(f"said while nobody asked: {json.loads(await connection.recv())}")
                assert connection.pings > before
                await socket.say("message", content="still there?", model="echo")
                [*_, response] = await socket.until("response", "error")
                assert response["content"].strip() == "You said: still there?"
