"""The client between services, against servers that write what a test tells them."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from unittest.mock import AsyncMock

import pytest
import uvloop
from chatbot_common.answers import HELD_BYTES, BrokenOff
from chatbot_common.upstream import Patience, Unconnected, Unreachable, Upstream

from tests.support.patience import within
from tests.support.serving import free_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENCE = Patience(connect=5, silence=10)
OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def asking(
    serve: Serve, patience: Patience = PATIENCE, most: int = 100, port: int = 0
) -> AsyncIterator[Upstream]:
    """A client of a server whose connections are each served by `serve`."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(served, "127.0.0.1", port) as server:
        client = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/base", patience, most=most)
        async with within(10):
            yield client
        client.close()


@contextmanager
def nowhere(port: int) -> Iterator[str]:
    """An address of this machine where that port answers nobody: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", port))
        yield "127.0.0.2"


async def got(client: Upstream, method: str = "GET", data: bytes | AsyncIterator[bytes] | None = None) -> bytes:
    async with client.ask(method, b"/path?q=1", [(b"x-one", b"1")], data) as answer:
        return b"".join([piece async for piece in answer.pieces()])


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


class TestRequest:
    async def test_is_what_was_told(self) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await head_of(reader)
            said = head + await reader.readexactly(4)
            writer.write(OK + b"Content-Length: %d\r\n\r\n" % len(said) + said)

        async with asking(echo) as client:
            lines = (await got(client, "POST", b"body")).split(b"\r\n")
        assert lines[0] == b"POST /base/path?q=1 HTTP/1.1"
        assert {b"x-one: 1", b"content-length: 4"} <= set(lines)
        assert lines[-1] == b"body"

    async def test_of_unknown_length_is_chunked(self) -> None:
        async def chunked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            assert await reader.readuntil(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
            writer.write(OK + b"Content-Length: 2\r\n\r\nok")

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            yield b""
            yield b"two"

        async with asking(chunked) as client:
            assert await got(client, "POST", pieces()) == b"ok"

    async def test_is_not_framed_by_what_a_header_says(self) -> None:
        """A client chooses values; were its body framed otherwise than told, its rest would be the next request."""

        async def told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert b"\r\ntransfer-encoding:" not in await head_of(reader)
            said = await reader.readexactly(6)
            writer.write(OK + b"Content-Length: 6\r\n\r\n" + said)
            assert await reader.read() == b""

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        headers = [(b"x-a", b"transfer-encoding: chunked"), (b"content-length", b"6")]
        async with asking(told) as client, client.ask("POST", b"/", headers, pieces()) as answer:
            assert [piece async for piece in answer.pieces()] == [b"onetwo"]

    @pytest.mark.parametrize("value", [b"key\n", b"key\r", b"key\0", b"1\r\nx-two: 2"])
    async def test_has_no_header_that_would_be_two(self, value: bytes) -> None:
        client = Upstream("http://127.0.0.1:1", PATIENCE)
        with pytest.raises(ValueError, match="line break"):
            async with client.ask("GET", b"/", [(b"x-one", value)], None):
                pass

    def test_whose_server_dies_while_it_is_sent_is_broken_off(self) -> None:
        """Under the loop of the services: it refuses to write into a connection that is closed."""

        async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.transport.abort()

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * HELD_BYTES

        async def run() -> None:
            async with asking(die) as client:
                with pytest.raises(BrokenOff):
                    await got(client, "POST", endless())

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())

    async def test_that_is_answered_early_is_not_sent_to_its_end(self) -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
            await reader.read()

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0)

        async with asking(refuse) as client:
            assert await got(client, "POST", endless()) == b"no"


class TestConnection:
    async def test_is_used_again(self) -> None:
        connections = 0

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while await head_of(reader):
                writer.write(OK + b"Content-Length: 2\r\n\r\nok")

        async with asking(count) as client:
            assert [await got(client) for _ in range(3)] == [b"ok"] * 3
        assert connections == 1

    async def test_that_says_so_is_not(self) -> None:
        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok")
            await reader.read()

        async with asking(once) as client:
            assert [await got(client, "POST") for _ in range(2)] == [b"ok"] * 2

    async def test_that_was_closed_meanwhile_is_replaced(self) -> None:
        """What can be repeated is; what cannot fails."""

        async def second_fails(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(OK + b"Content-Length: 2\r\n\r\nok")
            await head_of(reader)

        async with asking(second_fails) as client:
            assert [await got(client) for _ in range(3)] == [b"ok"] * 3
            with pytest.raises(BrokenOff):
                await got(client, "POST")

    async def test_that_says_more_than_asked_is_not(self) -> None:
        """What came behind an answer would be somebody else's."""
        surplus = OK + b"Content-Length: 6\r\n\r\nfor"

        async def two(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(OK + b"X-Is: mine\r\nContent-Length: 2\r\n\r\nok" + surplus)
            await reader.read()

        async with asking(two) as client:
            for _ in range(2):
                async with client.ask("POST", b"/", [], None) as answer:
                    assert answer.headers[0] == (b"x-is", b"mine")
                    assert [piece async for piece in answer.pieces()] == [b"ok"]

    @pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
    def test_whose_answer_nobody_has_read_is_not(self, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        """All of it came at once, and was more than is held: nothing is read from it any more."""

        async def much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await head_of(reader):
                size = HELD_BYTES * 3 // 2
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)

        async def run() -> None:
            async with asking(much, Patience(connect=2, silence=2)) as client:
                for _ in range(5):
                    async with client.ask("POST", b"/", [], None) as answer:
                        assert answer.status == 502
                        await asyncio.sleep(0.05)

        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(run())

    async def test_that_is_closing_is_not(self) -> None:
        """Its end is known some ticks before asyncio tells that it is lost."""

        async def many(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await head_of(reader):
                writer.write(OK + b"Content-Length: 2\r\n\r\nok")

        async with asking(many) as client:
            async with client.ask("GET", b"/", [], None) as answer:
                await anext(answer.pieces())
            answer.close()
            assert await got(client, "POST") == b"ok"
            async with client.ask("GET", b"/", [], None) as answer:
                await anext(answer.pieces())
            answer.eof_received()
            assert await got(client, "POST") == b"ok"

    async def test_is_waited_for_where_there_are_enough(self) -> None:
        async def many(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await head_of(reader):
                writer.write(OK + b"Content-Length: 2\r\n\r\nok")

        async with asking(many, Patience(connect=10, silence=0.5), most=1) as client:
            async with client.ask("GET", b"/", [], None):
                with pytest.raises(Unconnected):
                    await got(client)
                waiting = asyncio.create_task(got(client))
            assert await waiting == b"ok"

    async def test_that_cannot_be_made(self) -> None:
        with pytest.raises(Unreachable):
            await got(Upstream(f"http://127.0.0.1:{free_port()}", PATIENCE))

    async def test_goes_to_the_next_address_where_the_first_leads_nowhere(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As from a node whose way to IPv6 swallows everything."""

        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(OK + b"Content-Length: 2\r\n\r\nok")

        port = free_port()
        async with asking(one, port=port) as client:
            with nowhere(port) as swallowing:
                stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
                found = [(*stream, (host, port)) for host in (swallowing, "127.0.0.1")]
                monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", AsyncMock(return_value=found))
                began = time.monotonic()
                assert await got(client) == b"ok"
                assert time.monotonic() - began < PATIENCE.connect


class TestAnswer:
    async def test_without_a_length_ends_with_its_connection(self) -> None:
        async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(OK + b"\r\nall of it")

        async with asking(close) as client:
            assert await got(client) == b"all of it"

    async def test_of_head_has_no_body(self) -> None:
        async def length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(OK + b"Content-Length: 9\r\n\r\n")
            await reader.read()

        async with asking(length) as client:
            assert await got(client, "HEAD") == b""

    async def test_that_is_announced_is_waited_for(self) -> None:
        async def interim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok")

        async with asking(interim) as client, client.ask("GET", b"/", [], None) as answer:
            assert (answer.status, answer.headers) == (200, [(b"content-length", b"2")])

    async def test_that_breaks_off(self) -> None:
        async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(OK + b"Content-Length: 9\r\n\r\nhalf")

        async with asking(half) as client:
            with pytest.raises(BrokenOff):
                await got(client)

    async def test_that_does_not_come(self) -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with asking(silent, Patience(connect=5, silence=0.05)) as client:
            with pytest.raises(TimeoutError):
                await got(client)

    async def test_that_nobody_takes_is_not_piled_up(self) -> None:
        written = 0
        total = 400 * HELD_BYTES

        async def much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            await head_of(reader)
            writer.write(OK + b"Content-Length: %d\r\n\r\n" % total)
            while written < total:
                writer.write(b"x" * HELD_BYTES)
                written += HELD_BYTES
                await writer.drain()

        async with asking(much) as client, client.ask("GET", b"/", [], None) as answer:
            before = -1
            while written > before:
                before = written
                await asyncio.sleep(0.1)
            assert written < total
            assert sum([len(piece) async for piece in answer.pieces()]) == total

    @pytest.mark.parametrize("said", [b"X: " + b"x" * 1000, b"X: x\r\n" * 100, b"\r\nHTTP/1.1 100 Continue\r\n" * 50])
    async def test_whose_head_has_no_end(self, said: bytes) -> None:
        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(b"HTTP/1.1 100 Continue\r\n")
            while not writer.is_closing():
                writer.write(said)
                await writer.drain()

        async with asking(endless) as client:
            with pytest.raises(BrokenOff, match="more head"):
                await got(client)

    async def test_whose_head_comes_too_slowly(self) -> None:
        async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            while not writer.is_closing():
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await asyncio.sleep(0.01)

        async with asking(slowly, Patience(connect=5, silence=0.3)) as client:
            with pytest.raises(TimeoutError):
                await got(client)

    async def test_that_would_be_another_protocol(self) -> None:
        async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello")
            await reader.read()

        async with asking(upgrade) as client:
            with pytest.raises(BrokenOff):
                await got(client)
