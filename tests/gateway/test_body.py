"""What of a request's body passes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import httpx2
import pytest

from tests.gateway.support import Platform, Shared, platform, problem, shared
from tests.support.identity import Keys
from tests.support.patience import within


async def pieces(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


@pytest.fixture(scope="module")
def narrow(keys: Keys, redis_url: str) -> Iterator[Shared]:
    with shared(keys, redis_url, max_body_bytes=1000) as running:
        yield running


@pytest.fixture
async def small(narrow: Shared) -> AsyncIterator[Platform]:
    async with narrow.visit() as visited:
        yield visited


@pytest.fixture(scope="module")
def hasty(keys: Keys, redis_url: str) -> Iterator[Shared]:
    with shared(keys, redis_url, body_pause_seconds=0.3, body_seconds=0.6) as running:
        yield running


@pytest.fixture
async def quick(hasty: Shared) -> AsyncIterator[Platform]:
    async with hasty.visit() as visited:
        yield visited


class TestSize:
    async def test_announced_too_large(self, small: Platform) -> None:
        response = await small.client.post("/api/v1/documents", headers=small.keys.bearer(), content=b"x" * 1001)
        assert response.status_code == 413
        assert "1000 bytes" in problem(response)["detail"]
        assert small.reached == 0

    @pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
    async def test_too_large_without_length(self, small: Platform, kind: str) -> None:
        headers = small.keys.bearer() | {"Content-Type": kind}
        response = await small.client.post("/api/v1/documents", headers=headers, content=pieces(40, 100))
        assert response.status_code == 413
        assert problem(response)["type"] == "urn:chatbot:problem:body-too-large"
        assert small.reached == 0

    async def test_much_too_large_is_answered_not_cut_off(self, small: Platform) -> None:
        headers = small.keys.bearer()
        response = await small.client.post("/api/v1/documents", headers=headers, content=b"x" * 3_000_000)
        assert response.status_code == 413

    async def test_just_fits(self, small: Platform) -> None:
        headers = small.keys.bearer() | {"Content-Type": "application/octet-stream"}
        await small.client.post("/api/v1/documents", headers=headers, content=b"x" * 1000)
        await small.client.post("/api/v1/documents", headers=headers, content=pieces(10, 100))
        assert [len(seen.body) for seen in small.services["conversation"].seen] == [1000, 1000]

    async def test_token_is_asked_for_first(self, small: Platform) -> None:
        assert (await small.client.post("/api/v1/documents", content=b"x" * 1001)).status_code == 401

    async def test_openai_face_speaks_openai(self, small: Platform) -> None:
        response = await small.client.post("/v1/chat/completions", headers=small.keys.bearer(), content=b"x" * 1001)
        assert response.json()["error"]["code"] == "body_too_large"


class TestJson:
    @pytest.mark.parametrize(
        "raw",
        [
            b"{",
            b'{"a": NaN}',
            b'{"a": "\xff"}',
            '{"a": 1}'.encode("utf-16"),
            b"[" * 100_000,
            b'{"a": "\\u0000"}',
            b'{"\\ud800": 1}',
            b'{"a": ["\\udfff"]}',
        ],
    )
    @pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", ""])
    async def test_must_parse(self, bot: Platform, raw: bytes, kind: str) -> None:
        headers = bot.keys.bearer() | ({"Content-Type": kind} if kind else {})
        response = await bot.client.post("/api/v1/conversations", headers=headers, content=raw)
        assert response.status_code == 400
        assert problem(response)["type"] == "urn:chatbot:problem:malformed-body"
        assert bot.reached == 0

    async def test_passes_unchanged(self, bot: Platform) -> None:
        raw = b'{"b" : "\\ud83d\\ude00", "a":1.0, "a":"\\\\u0000"}'
        headers = bot.keys.bearer() | {"Content-Type": "application/json"}
        await bot.client.patch("/api/v1/conversations/1", headers=headers, content=raw)
        assert bot.last.body == raw
        assert bot.last.header("content-length") == str(len(raw))

    async def test_empty_body_passes(self, bot: Platform) -> None:
        assert (await bot.client.post("/api/v1/chat/runs/1/cancel", headers=bot.keys.bearer())).status_code == 200

    async def test_multipart_passes(self, bot: Platform) -> None:
        files = {"file": ("a.md", b"{not json", "text/markdown")}
        await bot.client.post("/api/v1/documents", headers=bot.keys.bearer(), files=files)
        assert b"{not json" in bot.last.body
        assert (bot.last.header("content-type") or "").startswith("multipart/form-data")


class TestMessageId:
    @pytest.mark.parametrize("sent", [{"content": "grüß"}, {"content": "grüß", "client_message_id": None}])
    async def test_is_added_where_there_is_none(self, bot: Platform, sent: dict[str, object]) -> None:
        await bot.client.post("/api/v1/chat/send", headers=bot.keys.bearer(), json=sent)
        got = json.loads(bot.last.body)
        assert UUID(got.pop("client_message_id")).version == 7
        assert got == {"content": "grüß"}

    async def test_of_the_client_is_kept(self, bot: Platform) -> None:
        sent = {"content": "hi", "client_message_id": "mine"}
        await bot.client.post("/api/v1/chat/send", headers=bot.keys.bearer(), json=sent)
        assert json.loads(bot.last.body) == sent

    async def test_is_not_needed_beside_an_idempotency_key(self, bot: Platform) -> None:
        headers = bot.keys.bearer() | {"Idempotency-Key": "k"}
        await bot.client.post("/api/v1/chat/send", headers=headers, json={"content": "hi"})
        assert json.loads(bot.last.body) == {"content": "hi"}
        assert bot.last.header("idempotency-key") == "k"

    async def test_what_is_no_object_is_left_to_the_service(self, bot: Platform) -> None:
        await bot.client.post("/api/v1/chat/send", headers=bot.keys.bearer(), json=["hi"])
        assert json.loads(bot.last.body) == ["hi"]


class TestPace:
    @pytest.mark.parametrize("method", ["POST", "GET"])
    @pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
    async def test_silence_ends_the_connection(self, quick: Platform, method: str, kind: str) -> None:
        answer = await dribble(quick, method, kind, pieces=1, pause=0)
        assert answer.startswith("HTTP/1.1 408 ")
        assert "connection: close" in answer.lower()
        assert "urn:chatbot:problem:request-timeout" in answer
        assert quick.reached == 0

    async def test_byte_by_byte_too_slow_in_all(self, quick: Platform) -> None:
        answer = await dribble(quick, "POST", "application/json", pieces=40, pause=0.05)
        assert answer.startswith("HTTP/1.1 408 ")

    async def test_pieces_in_time_pass(self, keys: Keys, redis_url: str) -> None:
        """Each within the pause, all together longer than that."""
        async with platform(keys, redis_url, body_pause_seconds=2, body_seconds=60) as bot:
            answer = await dribble(bot, "POST", "application/octet-stream", pieces=50, pause=0.05)
            assert answer.startswith("HTTP/1.1 200 ")
            assert len(bot.last.body) == 50


async def dribble(bot: Platform, method: str, kind: str, *, pieces: int, pause: float) -> str:
    """Announce 50 bytes, send `pieces` of them one by one, and read until the gateway closes or has answered."""
    url = httpx2.URL(bot.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = [f"{method} /api/v1/documents HTTP/1.1", "Host: bot", "Content-Length: 50", f"Content-Type: {kind}"]
    lines += [f"{name}: {value}" for name, value in bot.keys.bearer().items()]
    if pieces == 50:
        lines.append("Connection: close")
    writer.write("\r\n".join([*lines, "", ""]).encode())
    reading = asyncio.create_task(_read(reader))
    for _ in range(pieces):
        if reading.done():
            break
        writer.write(b"1")
        await asyncio.sleep(pause)
    async with within(5):
        answer = await reading
    writer.close()
    return answer.decode()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """All of the answer. A byte that reaches a connection already closed resets it, after what was said."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while block := await reader.read(65_536):
            said += block
    return said
