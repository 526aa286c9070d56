"""The client of one server: HTTP/1.1 over connections that stay open, and no more than services and providers need.

It sends a request, tells status and headers, hands on the bytes as they come, no faster than they are taken, and
notices silence. By a profile the general clients took a fifth of what the gateway does for a relayed answer, and a
quarter of what chat does for a turn; see docs/decisions/0022.
"""

import asyncio
import contextlib
import ssl
import sys
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

IDLE_SECONDS = 30.0
"""Shorter than the services' own keep-alive, so that a connection is not closed while we pick it up again."""
HELD_BYTES = 2**16
"""Of an answer that nobody takes; then the service waits."""
HEAD_BYTES = 2**16
"""Of an answer, beside its body."""
REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
"""RFC 9110, 9.2.2."""

Data = bytes | AsyncIterator[bytes] | None


@dataclass(frozen=True)
class Patience:
    """Seconds: for a connection, and for the next word of an answer, the first one too. The whole has no limit."""

    connect: float
    silence: float


class Unreachable(Exception):
    """No connection could be made."""


class Unconnected(Unreachable, TimeoutError):
    """Nor in time."""


class BrokenOff(Exception):
    """The service closed the connection, or said something that is not HTTP."""


class Connection(asyncio.Protocol):
    """One connection, and the answer that it is reading."""

    def __init__(self, patience: Patience) -> None:
        self._loop = asyncio.get_running_loop()
        self._silence = patience.silence
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._closed = False
        self.idle_since = 0.0

    def begin(self, method: str) -> None:
        """Forget the last answer."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.heard = self.begun = self.ended = self._framed = self._paused = False
        self.cut = self._reusable = False
        self._bodyless = method == "HEAD"
        self._error: Exception | None = None if self.open else BrokenOff("closed")
        self._pieces: list[bytes] = []
        self._held = self._beside = 0

    @property
    def open(self) -> bool:
        """False as soon as the end is known, which is before `connection_lost`."""
        return not (self._closed or self._transport.is_closing())

    @property
    def reusable(self) -> bool:
        return self.open and self.ended and self._reusable and not self.cut

    async def send(self, head: bytes, data: Data) -> None:
        """Raises what `data` raises. The end of the connection is told to who waits for the answer."""
        if not self.open:
            return
        if not isinstance(data, AsyncIterator):
            self._transport.write(head + data if data else head)
            return
        self.cut = True
        self._transport.write(head)
        async for piece in data:
            await self._may_write.wait()
            if not self.open:
                return
            self._transport.write(piece)
        self.cut = False

    async def begins(self) -> None:
        """Returns when status and headers are there, all in one patience. Raises `BrokenOff`, `TimeoutError`."""
        end = self._loop.time() + self._silence
        while not self.begun:
            await self._more(end)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises `BrokenOff`, `TimeoutError`."""
        while True:
            if self._pieces:
                piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces, self._held = [], 0
                if self._paused and self.open:
                    self._paused = False
                    self._transport.resume_reading()
                yield piece
            elif self.ended:
                return
            else:
                await self._more(self._loop.time() + self._silence)

    async def _more(self, end: float) -> None:
        if self._error:
            raise self._error
        self._waiting = self._loop.create_future()
        async with asyncio.timeout_at(end):
            await self._waiting

    def close(self) -> None:
        self._closed = True
        self._transport.close()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.begin("")

    def data_received(self, data: bytes) -> None:
        self.heard = True
        self._beside += len(data)
        try:
            if self.ended:
                raise httptools.HttpParserError("nobody has asked for it")
            self._parser.feed_data(data)
            if self._beside > HEAD_BYTES:
                raise httptools.HttpParserError("more head than an answer has")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._error = BrokenOff(str(error))
            self.close()
        if self._held > HELD_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._closed = True

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        if self.begun and not self._framed and error is None:
            self.ended = True  # an answer without a length ends with its connection
        if not self.ended and self._error is None:
            self._error = BrokenOff("closed")
        self._may_write.set()
        self._wake()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def _wake(self) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.ended:
            raise ValueError("one more answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.begun:
            return  # a trailer
        name = name.lower()
        self._framed = self._framed or name in (b"content-length", b"transfer-encoding")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.begun = self.status >= 200
        if self._bodyless:
            self.ended = True

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._held += len(body)
        self._beside = 0

    def on_message_complete(self) -> None:
        if self.begun:
            # Without a body where its length is told, the parser's place in the stream is lost.
            self._reusable = self._parser.should_keep_alive() and not self._bodyless
            self.ended = True
        else:
            self.headers = []  # 100 Continue and its like


class Upstream:
    """One server, by its base URL. `trusted` is for one with TLS. Of more than `most` at once the rest wait."""

    def __init__(
        self, base_url: str, patience: Patience, trusted: ssl.SSLContext | None = None, most: int = sys.maxsize
    ) -> None:
        parts = urlsplit(base_url)
        self.base_url = base_url
        self._patience = patience
        self._host = parts.hostname or ""
        self._tls = (trusted or True) if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._path = parts.path.rstrip("/").encode()
        self._authority = parts.netloc.rpartition("@")[2].encode()
        self._idle: deque[Connection] = deque()
        self._places = asyncio.Semaphore(most)

    @contextlib.asynccontextmanager
    async def ask(
        self, method: str, target: bytes, headers: list[tuple[bytes, bytes]], data: Data
    ) -> AsyncIterator[Connection]:
        """The answer, from its headers on. Unless it was read to its end, its connection is closed with the block.

        Args:
            target: path and query, encoded.
            headers: without `Host`, and without the length of bytes.

        Raises:
            Unreachable, BrokenOff, TimeoutError (an `Unreachable` may be one, too), and what `data` raises.
            ValueError: a header cannot be sent.
        """
        if isinstance(data, AsyncIterator) and all(name != b"content-length" for name, _ in headers):
            headers, data = [*headers, (b"transfer-encoding", b"chunked")], _chunks(data)
        head = self._head(method, target, headers, data)
        await self._take_place()
        try:
            connection = await self._asked(method, head, data)
            try:
                yield connection
            finally:
                self._leave(connection)
        finally:
            self._places.release()

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _take_place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()  # at once
            return
        try:
            async with asyncio.timeout(self._patience.connect):
                await self._places.acquire()
        except TimeoutError as error:
            raise Unconnected from error

    def _leave(self, connection: Connection) -> None:
        """For the next, if it can be used again. Those that nobody has used for long go."""
        now = asyncio.get_running_loop().time()
        if connection.reusable:
            connection.idle_since = now
            self._idle.append(connection)
        else:
            connection.close()
        while self._idle and self._idle[0].idle_since < now - IDLE_SECONDS:
            self._idle.popleft().close()

    def _head(self, method: str, target: bytes, headers: list[tuple[bytes, bytes]], data: Data) -> bytes:
        lines = [b"%b %b%b HTTP/1.1" % (method.encode(), self._path, target), b"host: " + self._authority]
        lines += [name + b": " + value for name, value in headers]
        if isinstance(data, bytes):
            lines.append(b"content-length: %d" % len(data))
        head = b"\r\n".join(lines)
        if head.count(b"\r") >= len(lines) or head.count(b"\n") >= len(lines) or b"\0" in head:
            raise ValueError("a header with a line break would be two")
        return head + b"\r\n\r\n"

    async def _asked(self, method: str, head: bytes, data: Data) -> Connection:
        """A connection whose answer has begun. A service may close an old one just when it is asked on it again."""
        while True:
            used = self._used()
            connection = used or await self._new()
            try:
                await self._ask_on(connection, method, head, data)
            except BaseException as error:
                connection.close()
                again = used and not connection.heard and method in REPEATABLE and not isinstance(data, AsyncIterator)
                if not (again and isinstance(error, BrokenOff)):
                    raise
            else:
                return connection

    async def _ask_on(self, connection: Connection, method: str, head: bytes, data: Data) -> None:
        connection.begin(method)
        if not isinstance(data, AsyncIterator):
            await connection.send(head, data)
            await connection.begins()
            return
        # A service that has answered wants no more of it.
        sending = asyncio.ensure_future(connection.send(head, data))
        beginning = asyncio.ensure_future(connection.begins())
        try:
            await asyncio.wait({sending, beginning}, return_when=asyncio.FIRST_COMPLETED)
            if not beginning.done():
                sending.result()
            await beginning
        finally:
            for task in (sending, beginning):
                task.cancel()
            await asyncio.gather(sending, beginning, return_exceptions=True)

    def _used(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.open and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _new(self) -> Connection:
        """Raises `Unreachable`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._patience.connect):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._patience), self._host, self._port, ssl=self._tls
                )
        except TimeoutError as error:
            raise Unconnected from error
        except OSError as error:
            raise Unreachable from error
        return connection


async def _chunks(data: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in data:
        if piece:  # an empty one would be the end
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
