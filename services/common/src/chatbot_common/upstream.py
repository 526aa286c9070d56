"""The client of one server: HTTP/1.1 over connections that stay open, and no more than services and providers need.

It sends a request, tells status and headers, hands on the bytes as they come, no faster than they are taken, and
notices silence. By a profile the general clients took a fifth of what the gateway does for a relayed answer, and a
quarter of what chat does for a turn; see docs/decisions/0022.
"""

import asyncio
import contextlib
import socket
import ssl
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from chatbot_common.answers import BrokenOff, Connection, Data

RawHeaders = list[tuple[bytes, bytes]]

IDLE_SECONDS = 30.0
"""Shorter than the services' own keep-alive, so that a connection is not closed while we pick it up again."""
NEXT_ADDRESS_SECONDS = 0.25
"""After which a host's next address is tried beside the first: one of them may lead nowhere. RFC 8305, 5."""
REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
"""RFC 9110, 9.2.2."""


@dataclass(frozen=True)
class Patience:
    """Seconds: for a connection, for the head of an answer, then for each next word. The whole has no limit."""

    connect: float
    silence: float


class Unreachable(Exception):
    """No connection could be made."""


class Unconnected(Unreachable, TimeoutError):
    """Nor in time."""


class Answer(Protocol):
    """An open response. Reading it raises what asking for it does."""

    status: int
    headers: RawHeaders
    silence: float
    """Seconds that its next piece may take."""

    def pieces(self) -> AsyncGenerator[bytes, None]: ...


class Server(Protocol):
    """Who is asked, whether by `Upstream` or in another way."""

    async def open(
        self, method: str, target: bytes, headers: RawHeaders, data: Data, sent: Callable[[], None] | None = None
    ) -> Any: ...

    async def leave(self, connection: Any) -> None: ...

    async def aclose(self) -> None: ...


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
    async def ask(self, method: str, target: bytes, headers: RawHeaders, data: Data) -> AsyncIterator[Connection]:
        """As `open`, for one block."""
        connection = await self.open(method, target, headers, data)
        try:
            yield connection
        finally:
            await self.leave(connection)

    async def open(
        self, method: str, target: bytes, headers: RawHeaders, data: Data, sent: Callable[[], None] | None = None
    ) -> Connection:
        """The answer, from its headers on, which somebody must `leave`.

        Args:
            target: path and query, encoded.
            headers: without `Host`, and without the length of bytes.
            sent: is told when a request of bytes goes out: from there on the server may work on it.

        Raises:
            Unreachable, BrokenOff, TimeoutError (an `Unreachable` may be one, too), and what `data` raises.
            ValueError: a header cannot be sent.
        """
        if isinstance(data, AsyncIterator) and all(name != b"content-length" for name, _ in headers):
            headers, data = [*headers, (b"transfer-encoding", b"chunked")], _chunks(data)
        head = self._head(method, target, headers, data)
        await self._take_place()
        try:
            return await self._asked(method, head, data, sent)
        except BaseException:
            self._places.release()
            raise

    async def leave(self, connection: Connection) -> None:
        """For the next who asks, if its answer was read to the end; else it is closed."""
        self._places.release()
        self._keep(connection)

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _take_place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()  # at once
            return
        try:
            async with asyncio.timeout(self._patience.silence):  # a thousand at once are served in turn
                await self._places.acquire()
        except TimeoutError as error:
            raise Unconnected from error

    def _keep(self, connection: Connection) -> None:
        """If it can be used again. Those that nobody has used for long go."""
        now = asyncio.get_running_loop().time()
        if connection.reusable:
            connection.idle_since = now
            self._idle.append(connection)
        else:
            connection.close()
        while self._idle and self._idle[0].idle_since < now - IDLE_SECONDS:
            self._idle.popleft().close()

    def _head(self, method: str, target: bytes, headers: RawHeaders, data: Data) -> bytes:
        lines = [b"%b %b%b HTTP/1.1" % (method.encode(), self._path, target), b"host: " + self._authority]
        lines += [name + b": " + value for name, value in headers]
        if isinstance(data, bytes):
            lines.append(b"content-length: %d" % len(data))
        head = b"\r\n".join(lines)
        if head.count(b"\r") >= len(lines) or head.count(b"\n") >= len(lines) or b"\0" in head:
            raise ValueError("a header with a line break would be two")
        return head + b"\r\n\r\n"

    async def _asked(self, method: str, head: bytes, data: Data, sent: Callable[[], None] | None) -> Connection:
        """A connection whose answer has begun. A service may close an old one just when it is asked on it again."""
        while True:
            used = self._used()
            connection = used or await self._new()
            if sent:
                sent()
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
                found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                _, connection = await loop.create_connection(
                    lambda: Connection(self._patience.silence),
                    sock=await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS),
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
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
