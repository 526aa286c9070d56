"""One connection to Redis for many commands at once: each is sent with its tick of the loop, answers come in order.

redis-py makes the connection (address, TLS, login, sentinels) and closes it; between that, its way takes ten times the
CPU of the command: a connection of its own for each, a task for each write, a span, retries. See docs/decisions/0022.
"""

import asyncio
from collections import deque
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as Silent

Answer = asyncio.Future[Any]


class Wire(asyncio.Protocol):
    """An open connection. When it is lost or silent, whoever waits is told, and `open` is False."""

    def __init__(self, connection: AbstractConnection, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._reader = hiredis.Reader(replyError=failure)
        self._waiting: deque[tuple[float, Answer]] = deque()
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self.open = True
        self.connection = connection
        self._transport = cast(asyncio.Transport, cast(asyncio.StreamWriter, connection._writer).transport)
        self._former = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def ask(self, *command: str | bytes | int | float) -> Answer:
        """The answer to come. It raises `redis.RedisError`."""
        answer = self._loop.create_future()
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # it takes any number
        self._waiting.append((self._loop.time() + self._seconds, answer))
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)
        return answer

    def _send(self) -> None:
        if self.open:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _look(self) -> None:
        """Whether the oldest has waited too long. Nobody's answer can come before it."""
        self._timer = None
        if not self._waiting:
            return
        if (left := self._waiting[0][0] - self._loop.time()) > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._end(Silent("Redis did not answer in time"))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (found := self._reader.gets()) is not False:
                if not isinstance(found, hiredis.PushNotification):
                    self._settle(found)
        except hiredis.ProtocolError:
            self._end(Lost("Redis said something that is no answer"))

    def _settle(self, found: Any) -> None:
        if not self._waiting:
            return self._end(Lost("Redis said something that nobody has asked"))
        _, answer = self._waiting.popleft()
        if isinstance(found, ReadOnlyError):
            self._end(found)  # it is not the master any more; who asks again finds the new one
        if answer.done():
            return None  # whoever wanted it has left
        return answer.set_exception(found) if isinstance(found, RedisError) else answer.set_result(found)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(Lost("the connection to Redis was lost"))
        self._former.connection_lost(error)  # redis-py waits for it when it closes the connection

    def _end(self, why: RedisError) -> None:
        self.open = False
        self._transport.abort()  # to close it would wait for what a host that is gone does not take
        if self._timer:
            self._timer.cancel()
        while self._waiting:
            _, answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(why)


class Line:
    """The wire of one client; a new one when the last is lost. All who find none wait for the same attempt."""

    def __init__(self, pool: ConnectionPool, seconds: float) -> None:
        self._pool = pool
        self._seconds = seconds
        self._wire: Wire | None = None
        self._connecting: asyncio.Task[Wire] | None = None

    async def ask(self, *command: str | bytes | int | float) -> Any:
        """Raises `redis.RedisError`. What a connection has lost that was older than the command is asked once more."""
        used = self._wire
        wire = await self._connected()
        try:
            return await wire.ask(*command)
        except Lost:
            if wire is not used:
                raise
        return await (await self._connected()).ask(*command)

    async def _connected(self) -> Wire:
        if self._wire and self._wire.open:
            return self._wire
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(self._ended)
        return await asyncio.shield(self._connecting)

    def _ended(self, connecting: asyncio.Task[Wire]) -> None:
        self._connecting = None
        if not connecting.cancelled():
            connecting.exception()  # told to whoever waits, if anybody still does

    async def _connect(self) -> Wire:
        if self._wire:
            await self._wire.connection.disconnect(nowait=True)
            await self._pool.release(self._wire.connection)
            self._wire = None
        self._wire = Wire(await self._pool.get_connection(), self._seconds)  # type: ignore[no-untyped-call]
        return self._wire


def failure(text: str) -> RedisError:
    kind, _, rest = text.partition(" ")
    match kind:
        case "NOSCRIPT":
            return NoScriptError(text)
        case "READONLY":
            return ReadOnlyError(text)
        case "ERR":
            return ResponseError(rest)
        case _:
            return ResponseError(text)
