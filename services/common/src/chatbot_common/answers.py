"""One HTTP/1.1 connection as a client has it, and the answer that it is reading."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

import httptools

HELD_BYTES = 2**16
"""Of an answer that nobody takes; then the service waits."""
HEAD_BYTES = 2**16
"""Of an answer, beside its body."""

Data = bytes | AsyncIterator[bytes] | None


class BrokenOff(Exception):
    """The service closed the connection, or said something that is not HTTP."""


class Connection(asyncio.Protocol):
    """One connection, and the answer that it is reading."""

    def __init__(self, silence: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._usual_silence = silence
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._closed = False
        self.idle_since = 0.0

    def begin(self, method: str) -> None:
        """Forget the last answer."""
        self.silence = self._usual_silence
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
        """Not where its end came unread: it reads no more, and would hear nothing of the next answer."""
        return self.open and self.ended and self._reusable and not (self.cut or self._paused)

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
        end = self._loop.time() + self.silence
        while not self.begun:
            await self._more(end)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, each piece within `silence` seconds. Raises `BrokenOff`, `TimeoutError`."""
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
                await self._more(self._loop.time() + self.silence)

    async def _more(self, end: float) -> None:
        if self._error:
            raise self._error
        self._waiting = self._loop.create_future()
        # `asyncio.timeout_at` would cost four times as much, which every request pays twice.
        timer = self._loop.call_at(end, self._tire, self._waiting)
        try:
            await self._waiting
        finally:
            timer.cancel()

    @staticmethod
    def _tire(waiting: "asyncio.Future[None]") -> None:
        if not waiting.done():
            waiting.set_exception(TimeoutError())

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
