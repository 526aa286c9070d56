"""Streaming both ways, and services that are gone, hang or break off."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.gateway.support import Platform, gateway, problem
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import free_port


async def soon(event: asyncio.Event) -> None:
    async with within(5):
        await event.wait()


class TestStream:
    async def test_bytes_arrive_before_the_service_has_ended(self, own_bot: Platform) -> None:
        headers = own_bot.keys.bearer() | {"Accept": "text/event-stream"}
        async with own_bot.client.stream("GET", "/api/v1/chat/stream", headers=headers) as response:
            parts = response.aiter_bytes()
            async with within(5):
                assert await anext(parts) == b"data: first\n\n"
            assert response.headers["content-type"] == "text/event-stream"
            own_bot.services["chat"].proceed.set()
            assert b"".join([part async for part in parts]) == b"data: second\n\n"

    async def test_request_body_streams_too(self, bot: Platform) -> None:
        async def slowly() -> AsyncIterator[bytes]:
            yield b"one"
            await asyncio.sleep(0.05)
            yield b"two"

        headers = bot.keys.bearer() | {"Content-Type": "application/octet-stream"}
        await bot.client.post("/api/v1/documents", headers=headers, content=slowly())
        assert bot.last.body == b"onetwo"

    async def test_status_and_problem_of_the_service_pass(self, bot: Platform) -> None:
        response = await bot.client.get("/api/v1/teapot", headers=bot.keys.bearer())
        assert response.status_code == 418
        assert response.json()["type"] == "urn:chatbot:problem:teapot"

    async def test_many_at_once(self, bot: Platform) -> None:
        headers = bot.keys.bearer()
        answers = await asyncio.gather(*(bot.client.get(f"/api/v1/faqs/{n}", headers=headers) for n in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(bot.services["conversation"].seen) == 50


class TestDisconnect:
    async def test_in_the_middle_of_a_stream_closes_the_services_side(self, own_bot: Platform) -> None:
        async with own_bot.client.stream("GET", "/api/v1/chat/stream", headers=own_bot.keys.bearer()) as response:
            await anext(response.aiter_bytes())
        await soon(own_bot.services["chat"].closed)

    async def test_before_the_answer_closes_the_services_side(self, own_bot: Platform) -> None:
        asking = asyncio.create_task(own_bot.client.post("/api/v1/chat/hang", headers=own_bot.keys.bearer(), json={}))
        await soon(own_bot.services["chat"].started)
        asking.cancel()
        await soon(own_bot.services["chat"].closed)

    async def test_during_an_upload_closes_the_services_side(self, own_bot: Platform) -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.01)

        headers = own_bot.keys.bearer() | {"Content-Type": "application/octet-stream"}
        asking = asyncio.create_task(own_bot.client.post("/api/v1/chat/hang", headers=headers, content=endless()))
        await soon(own_bot.services["chat"].started)
        asking.cancel()
        await soon(own_bot.services["chat"].closed)


class TestDeadService:
    async def test_is_named(self, keys: Keys, redis_url: str, auth_url: str) -> None:
        urls = {"auth": auth_url, "chat": f"http://127.0.0.1:{free_port()}"}
        async with gateway(keys, redis_url, urls) as (_, client):
            native = await client.post("/api/v1/chat/send", headers=keys.bearer(), json={"content": "hi"})
            openai = await client.get("/v1/models", headers=keys.bearer())
        assert native.status_code == openai.status_code == 503
        assert "chat service" in problem(native)["detail"]
        assert "127.0.0.1" not in native.text
        assert "chat service" in openai.json()["error"]["message"]

    async def test_that_closes_without_an_answer(self, keys: Keys, redis_url: str, auth_url: str) -> None:
        async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            urls = {"auth": auth_url, "chat": f"http://127.0.0.1:{port}"}
            async with gateway(keys, redis_url, urls) as (_, client):
                response = await client.get("/api/v1/chat/models", headers=keys.bearer())
        assert response.status_code == 502
        assert "chat service" in problem(response)["detail"]

    async def test_that_talks_garbage(self, keys: Keys, redis_url: str, auth_url: str) -> None:
        async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"220 smtp ready\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(garbage, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            urls = {"auth": auth_url, "chat": f"http://127.0.0.1:{port}"}
            async with gateway(keys, redis_url, urls) as (_, client):
                response = await client.get("/api/v1/chat/models", headers=keys.bearer())
        assert response.status_code == 502

    async def test_others_go_on(self, keys: Keys, redis_url: str, own_bot: Platform) -> None:
        own_bot.services["chat"].proceed.set()
        async with within(5):
            hanging = asyncio.create_task(own_bot.client.get("/api/v1/chat/hang", headers=keys.bearer()))
            assert (await own_bot.client.get("/api/v1/faqs", headers=keys.bearer())).status_code == 200
            hanging.cancel()


class TestBrokenStream:
    async def test_ends_with_an_error_event(self, bot: Platform) -> None:
        response = await bot.client.get("/api/v1/chat/stream?break", headers=bot.keys.bearer())
        first, last = response.text.strip().split("\n\n", 1)
        assert first == "data: first"
        event, data = last.strip().split("\n")
        assert event == "event: error"
        assert json.loads(data.removeprefix("data: "))["error"]["type"] == "urn:chatbot:problem:upstream-failed"

    async def test_speaks_openai_on_that_face(self, bot: Platform) -> None:
        response = await bot.client.get("/v1/stream?break", headers=bot.keys.bearer())
        last = response.text.strip().rpartition("\n\n")[2]
        assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"

    async def test_of_bytes_ends_torn(self, bot: Platform) -> None:
        with pytest.raises(httpx2.RemoteProtocolError):
            await bot.client.get("/api/v1/chat/download?break", headers=bot.keys.bearer())
