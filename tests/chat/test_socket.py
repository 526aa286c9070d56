"""The socket: the same runs as over HTTP, as frames. The gateway's part is in tests/gateway/test_sockets.py."""

import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx2
import pytest
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from chatbot_gateway.main import create_app as create_gateway
from chatbot_gateway.settings import Settings as GatewaySettings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.chat.running import Chat, running
from tests.support.configuration import mapping
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import serving

ADA = uuid7()


class Socket:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, kind: str, **body: Any) -> None:
        await self.connection.send(json.dumps({"type": kind} | body))

    async def hear(self) -> dict[str, Any]:
        async with within(30):
            frame: dict[str, Any] = json.loads(await self.connection.recv())
        return frame

    async def until(self, *kinds: str) -> list[dict[str, Any]]:
        """Frames up to the first of one of these types."""
        frames = [await self.hear()]
        while frames[-1]["type"] not in kinds:
            frames.append(await self.hear())
        return frames

    async def end(self) -> tuple[int | None, str | None]:
        """Close code and reason."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.hear()
        return self.connection.close_code, self.connection.close_reason


@contextlib.asynccontextmanager
async def opened(chat: Chat, user_id: UUID = ADA, **claims: Any) -> AsyncIterator[Socket]:
    url = str(chat.client.base_url).replace("http:", "ws:").rstrip("/") + "/api/v1/chat/ws"
    headers = {"Authorization": f"Bearer {chat.keys.access_token(user_id, **claims)}"}
    async with connect(url, additional_headers=headers, proxy=None) as connection:
        yield Socket(connection)


class TestMessage:
    async def test_brings_the_events_of_its_run_and_then_the_response(self, chat: Chat) -> None:
        async with opened(chat) as socket:
            await socket.say("message", content="Hello there", model="echo", language="en")
            *events, response = await socket.until("response", "error")
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events == await chat.events(ADA, events[0]["run_id"])
        assert response.pop("timestamp")
        assert response == {
            "type": "response",
            "content": events[-1]["content"],
            "conversation_id": events[0]["conversation_id"],
            "message_id": events[0]["message_id"],
        }

    async def test_several_at_once(self, chat: Chat) -> None:
        async with opened(chat) as socket:
            for text in ("one", "two", "three"):
                await socket.say("message", content=text, model="echo")
            frames = [frame for _ in "abc" for frame in await socket.until("response")]
        said = {frame["content"].strip() for frame in frames if frame["type"] == "response"}
        assert said == {"You said: one", "You said: two", "You said: three"}

    async def test_the_same_client_message_id_answers_once(self, chat: Chat) -> None:
        async with opened(chat) as socket:
            for _ in "ab":
                await socket.say("message", content="once", model="echo", client_message_id="socket-1")
                [*_, response] = await socket.until("response")
            assert response["content"].strip() == "You said: once"

    @pytest.mark.parametrize(
        ("frame", "kind", "word"),
        [
            ("{", "malformed-body", "JSON"),
            ("[]", "invalid-request", ""),
            ('{"type": "shout"}', "invalid-request", "message"),
            ('{"type": "auth", "token": "a\\r\\nx: 1"}', "invalid-request", "/token"),
            ('{"type": "message", "content": " "}', "invalid-request", "/content"),
            ('{"type": "message", "content": "x", "user_id": "y"}', "invalid-request", "/user_id"),
            ('{"type": "message", "content": "x", "model": "gpt-99"}', "model-not-found", "retrieval"),
            ('{"type": "resume", "run_id": "00000000-0000-7000-8000-000000000000"}', "not-found", ""),
            (
                '{"type": "resume", "run_id": "00000000-0000-7000-8000-000000000000", "after": "x"}',
                "invalid-request",
                "",
            ),
            ('{"type": "stop"}', "not-found", "run_id"),
        ],
    )
    async def test_a_wrong_frame_is_answered_and_the_socket_goes_on(
        self, chat: Chat, frame: str, kind: str, word: str
    ) -> None:
        async with opened(chat) as socket:
            await socket.connection.send(frame)
            error = await socket.hear()
            assert (error["type"], error["error"]["type"]) == ("error", f"urn:chatbot:problem:{kind}")
            assert word in error["error"].get("detail", "")
            await socket.say("ping")
            assert await socket.hear() == {"type": "pong"}


class TestRuns:
    async def test_stop(self, chat: Chat) -> None:
        async with opened(chat) as socket:
            await socket.say("message", content="Count", model="endless")
            await socket.until("text.delta")
            await socket.say("stop")
            [*_, last] = await socket.until("run.cancelled", "run.finished")
        assert last["type"] == "run.cancelled"

    async def test_leaving_stops_nothing_and_another_socket_resumes(self, chat: Chat) -> None:
        async with opened(chat) as socket:
            await socket.say("message", content="Count", model="endless")
            seen = await socket.until("text.delta")
        run_id, position = seen[0]["run_id"], seen[-1]["seq"]
        async with opened(chat) as socket:
            await socket.say("resume", run_id=run_id, after=f"1-{position}")
            first = await socket.hear()
            assert (first["type"], first["seq"]) == ("text.delta", position + 1)
            await socket.say("stop", run_id=run_id)
            await socket.until("run.cancelled")

    async def test_go_on_elsewhere_when_their_replica_leaves(
        self, chat: Chat, keys: Keys, told: dict[str, Any]
    ) -> None:
        async with contextlib.AsyncExitStack() as stack:
            async with running(keys, Settings.model_validate(told | {"drain_seconds": 1})) as leaving:
                socket = await stack.enter_async_context(opened(leaving))
                await socket.say("message", content="Count", model="endless")
                seen = await socket.until("text.delta")
            assert (await socket.end())[0] == 1012
        async with opened(chat) as socket:
            await socket.say("resume", run_id=seen[0]["run_id"], after=seen[-1]["seq"])
            rest = await socket.until("run.interrupted")
        assert [frame["seq"] for frame in seen + rest] == list(range(1, len(seen + rest) + 1))

    async def test_of_someone_else_are_not_there(self, chat: Chat) -> None:
        events = await chat.stream(ADA, "Mine", model="echo")
        run_id = events[0]["run_id"]
        async with opened(chat, uuid7()) as socket:
            for kind, more in (("resume", {}), ("stop", {}), ("approve", {"tool_call_id": "1"})):
                await socket.say(kind, run_id=run_id, **more)
                error = await socket.hear()
                assert (error["error"]["type"], error["run_id"]) == ("urn:chatbot:problem:not-found", run_id)

    async def test_nothing_waits_for_an_approval(self, chat: Chat) -> None:
        events = await chat.stream(ADA, "Mine", model="echo")
        async with opened(chat) as socket:
            await socket.say("approve", run_id=events[0]["run_id"], tool_call_id="1", approved=True)
            assert (await socket.hear())["error"]["status"] == 409


async def test_through_the_gateway_with_a_ticket(chat: Chat, keys: Keys, auth_url: str, redis_url: str) -> None:
    urls: dict[Any, str] = {"auth": auth_url, "chat": str(chat.client.base_url).rstrip("/")}
    settings = GatewaySettings.model_validate(mapping("gateway", keys, urls) | {"redis_url": redis_url})
    async with serving(create_gateway(settings)) as url, httpx2.AsyncClient(base_url=url, timeout=30) as client:
        bought = await client.post("/api/v1/chat/ws-ticket", headers=keys.bearer(ADA))
        path = url.replace("http:", "ws:") + f"/api/v1/chat/ws?ticket={bought.json()['ticket']}"
        async with connect(path, proxy=None) as connection:
            socket = Socket(connection)
            await socket.say("message", content="Hello there", model="echo")
            *events, response = await socket.until("response", "error")
    assert response["content"].strip() == "You said: Hello there"
    assert events == await chat.events(ADA, events[0]["run_id"])


class TestRights:
    async def test_no_token(self, chat: Chat) -> None:
        url = str(chat.client.base_url).replace("http:", "ws:").rstrip("/") + "/api/v1/chat/ws"
        async with connect(url, proxy=None) as connection:
            assert (await Socket(connection).end())[0] == 4401

    async def test_last_as_long_as_the_newest_token(self, chat: Chat) -> None:
        soon = int(time.time()) + 3
        async with opened(chat, exp=soon) as socket:
            await socket.say("message", content="Count", model="endless")
            [started, *_] = await socket.until("text.delta")
            await socket.say("auth", token=chat.keys.access_token(ADA, exp=soon + 1))
            while time.time() < soon + 0.2:
                assert (await socket.hear())["type"] == "text.delta"
            code, reason = await socket.end()
        assert (code, "expired" in str(reason)) == (4401, True)
        await chat.client.post(f"/api/v1/chat/runs/{started['run_id']}/cancel", headers=chat.keys.bearer(ADA))

    async def test_end_with_the_token_also_while_nothing_is_said(self, chat: Chat) -> None:
        soon = int(time.time()) + 2
        async with opened(chat, exp=soon) as socket, opened(chat, exp=soon) as renewed:
            await renewed.say("auth", token=chat.keys.access_token(ADA))
            code, reason = await socket.end()
            assert (code, "expired" in str(reason)) == (4401, True)
            assert time.time() < soon + 5
            await renewed.say("ping")
            assert await renewed.hear() == {"type": "pong"}

    async def test_a_token_of_someone_else_ends_the_socket(self, chat: Chat) -> None:
        async with opened(chat) as socket:
            await socket.say("auth", token=chat.keys.access_token(uuid7()))
            assert (await socket.end())[0] == 4403

    async def test_a_forged_token_ends_the_socket(self, chat: Chat) -> None:
        async with opened(chat) as socket:
            await socket.say("auth", token="nonsense")
            assert (await socket.end())[0] == 4401

    async def test_bytes_end_the_socket(self, chat: Chat) -> None:
        async with opened(chat) as socket:
            await socket.connection.send(b"{}")
            assert (await socket.end())[0] == 1003
