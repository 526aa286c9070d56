"""Sockets at the door: who may open one, what passes, and how they end."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chatbot_gateway import sockets
from prometheus_client import REGISTRY
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.gateway.support import Platform, gateway, platform
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import free_port

PATH = "/api/v1/chat/ws"


@contextlib.asynccontextmanager
async def socket(url: str, query: str = "", **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(url.replace("http:", "ws:") + PATH + query, proxy=None, **options) as connection:
        yield connection


def with_token(token: str) -> dict[str, Any]:
    return {"subprotocols": ["chatbot.v1", f"bearer.{token}"]}


async def ticket(bot: Platform) -> str:
    response = await bot.client.post("/api/v1/chat/ws-ticket", headers=bot.keys.bearer())
    assert (response.status_code, response.json()["expires_in"]) == (201, 30)
    return str(response.json()["ticket"])


async def end_of(connection: ClientConnection) -> tuple[int | None, str]:
    """Close code and reason, after whatever is still said."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.recv()
    return connection.close_code, connection.close_reason or ""


class TestEntry:
    async def test_by_a_token_among_the_protocols(self, bot: Platform) -> None:
        token = bot.keys.access_token()
        async with socket(bot.url, **with_token(token)) as connection:
            assert connection.subprotocol == "chatbot.v1"
            headers = json.loads(await connection.recv())
        assert headers["authorization"] == f"Bearer {token}"
        assert "sec-websocket-protocol" not in headers
        assert headers["x-forwarded-for"] == "127.0.0.1"

    async def test_by_a_header(self, bot: Platform) -> None:
        async with socket(bot.url, additional_headers=bot.keys.bearer()) as connection:
            await connection.recv()

    async def test_by_a_ticket_once(self, bot: Platform) -> None:
        bought = await ticket(bot)
        async with socket(bot.url, f"?ticket={bought}") as connection:
            assert json.loads(await connection.recv())["authorization"].startswith("Bearer ey")
        async with socket(bot.url, f"?ticket={bought}") as connection:
            assert (await end_of(connection))[0] == 4401

    async def test_a_ticket_is_kept_for_half_a_minute_and_tells_nothing(self, bot: Platform, redis_url: str) -> None:
        bought = await ticket(bot)
        with Redis.from_url(redis_url) as redis:
            [name] = redis.scan_iter("gateway:ticket:*")
            assert 0 < redis.ttl(name) <= 30
            kept = name + redis.get(name)
        assert bought.encode() not in kept
        assert b"eyJ" not in kept

    async def test_a_ticket_needs_a_token(self, bot: Platform) -> None:
        assert (await bot.client.post("/api/v1/chat/ws-ticket")).status_code == 401

    @pytest.mark.parametrize("query", ["", "?ticket=", "?ticket=made-up"])
    async def test_nobody(self, bot: Platform, query: str) -> None:
        async with socket(bot.url, query) as connection:
            assert (await end_of(connection))[0] == 4401

    async def test_an_expired_token(self, bot: Platform) -> None:
        token = bot.keys.access_token(exp=int(time.time()) - 5)
        async with socket(bot.url, **with_token(token)) as connection:
            code, reason = await end_of(connection)
        assert (code, "expired" in reason) == (4401, True)

    async def test_a_token_in_the_address_does_not_count(self, bot: Platform) -> None:
        async with socket(bot.url, f"?token={bot.keys.access_token()}") as connection:
            assert (await end_of(connection))[0] == 4401

    async def test_so_many_of_one_user(self, bot: Platform) -> None:
        options = with_token(bot.keys.access_token())
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(sockets.PER_USER):
                await (await stack.enter_async_context(socket(bot.url, **options))).recv()
            async with socket(bot.url, **options) as connection:
                code, reason = await end_of(connection)
            assert (code, "open sockets" in reason) == (4429, True)
            async with socket(bot.url, **with_token(bot.keys.access_token())) as connection:
                await connection.recv()
        async with within(20):  # until the gateway has seen them go
            while (code := await self._told(bot, options)) == 4429:
                pass
        assert code is None

    async def _told(self, bot: Platform, options: dict[str, Any]) -> int | None:
        """Close code of a new socket; None when it is let in."""
        async with socket(bot.url, **options) as connection:
            with contextlib.suppress(ConnectionClosed):
                await connection.recv()
            return connection.close_code


class TestOrigin:
    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1"])
    async def test_of_another_page(self, bot: Platform, origin: str) -> None:
        async with socket(bot.url, origin=origin, **with_token(bot.keys.access_token())) as connection:
            assert (await end_of(connection))[0] == 4403

    async def test_of_our_own_page(self, bot: Platform) -> None:
        async with socket(bot.url, origin=bot.url, **with_token(bot.keys.access_token())) as connection:
            await connection.recv()

    async def test_that_the_bot_allows(self, keys: Keys, redis_url: str) -> None:
        allowed = {"cors_allow_origins": ["https://app.example"]}
        async with gateway(keys, redis_url, {}, **allowed) as (url, _):
            async with socket(url, origin="https://app.example") as connection:
                assert (await end_of(connection))[0] == 4401
            async with socket(url, origin="https://app.example.evil") as connection:
                assert (await end_of(connection))[0] == 4403


class TestFrames:
    async def test_pass_both_ways(self, bot: Platform) -> None:
        async with socket(bot.url, **with_token(bot.keys.access_token())) as connection:
            await connection.recv()
            for text in ('{"type": "ping"}', "grüß 👋", "x" * 100_000):
                await connection.send(text)
                assert await connection.recv() == text

    async def test_bytes_do_not(self, bot: Platform) -> None:
        async with socket(bot.url, **with_token(bot.keys.access_token())) as connection:
            await connection.send(b"{}")
            assert (await end_of(connection))[0] == 1003

    async def test_too_large_a_frame(self, bot: Platform) -> None:
        async with socket(bot.url, **with_token(bot.keys.access_token())) as connection:
            await connection.send("x" * (1024 * 1024 + 1))
            assert (await end_of(connection))[0] == 1009

    async def test_cost_what_requests_cost(self, keys: Keys, redis_url: str, bot: Platform) -> None:
        token = keys.access_token()
        async with socket(bot.url, **with_token(token)) as connection:
            await connection.recv()
            for number in range(200):
                await connection.send('{"type": "ping"}')
                if number < 70:
                    await connection.send('{"type": "message", "content": "x"}')
            code, reason = await end_of(connection)
        assert (code, "per minute" in reason) == (4429, True)
        async with socket(bot.url, **with_token(token)) as connection:
            assert (await end_of(connection))[0] == 4429

    async def test_are_counted_as_requests(self, bot: Platform) -> None:
        """Who scales by requests has to see that somebody asks."""

        def counted(method: str, status: str) -> float:
            labels = {"method": method, "endpoint": PATH, "status": status}
            return REGISTRY.get_sample_value("http_requests_total", labels) or 0

        before = [counted("GET", "101"), counted("MESSAGE", "202"), counted("GET", "401")]
        async with socket(bot.url, **with_token(bot.keys.access_token())) as connection:
            for kind in ("message", "ping", "message"):
                await connection.send(json.dumps({"type": kind}))
            for _ in range(4):
                await connection.recv()
        async with socket(bot.url) as connection:
            await end_of(connection)
        after = [counted("GET", "101"), counted("MESSAGE", "202"), counted("GET", "401")]
        assert [new - old for new, old in zip(after, before, strict=True)] == [1, 2, 1]


class TestEnd:
    @pytest.mark.parametrize(("told", "seen"), [("4408", 4408), ("1012", 1012), ("1000", 1000), ("1011", 1011)])
    async def test_of_chat_is_passed_on(self, bot: Platform, told: str, seen: int) -> None:
        async with socket(bot.url, **with_token(bot.keys.access_token())) as connection:
            await connection.send(f"{told} because")
            assert await end_of(connection) == (seen, "because")

    async def test_of_the_client_is_passed_on(self, own_bot: Platform) -> None:
        async with socket(own_bot.url, **with_token(own_bot.keys.access_token())) as connection:
            await connection.recv()
        await own_bot.services["chat"].closed.wait()

    async def test_of_a_client_that_does_not_read(self, own_bot: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
        """It would hold what it is sent in our memory, and chat up, for as long as it likes."""
        monkeypatch.setattr(sockets, "SEND_SECONDS", 1.0)
        large = json.dumps({"type": "ping", "more": "x" * 900_000})
        options = with_token(own_bot.keys.access_token()) | {"max_queue": 1, "compression": None}
        async with socket(own_bot.url, **options) as connection:

            async def ask_for_more_than_fits_on_the_way() -> None:
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        await connection.send(large)

            asking = asyncio.create_task(ask_for_more_than_fits_on_the_way())
            async with within(60):
                await own_bot.services["chat"].closed.wait()
            asking.cancel()
            connection.transport.abort()

    async def test_a_dead_chat_says_come_back(self, keys: Keys, redis_url: str, auth_url: str) -> None:
        urls = {"auth": auth_url, "chat": f"http://127.0.0.1:{free_port()}"}
        async with (
            gateway(keys, redis_url, urls) as (url, _),
            socket(url, **with_token(keys.access_token())) as connection,
        ):
            code, reason = await end_of(connection)
        assert (code, "again" in reason) == (1012, True)


async def test_without_redis_there_are_no_tickets_but_sockets(keys: Keys) -> None:
    async with platform(keys, "redis://127.0.0.1:1") as bot:
        response = await bot.client.post("/api/v1/chat/ws-ticket", headers=keys.bearer())
        assert response.status_code == 503
        assert "Sec-WebSocket-Protocol" in response.json()["detail"]
        async with socket(bot.url, **with_token(keys.access_token())) as connection:
            await connection.recv()
