"""The clients: connections that stay open, a request at a time on each, as cheap as Python gets: it shares the cores.

Every answer is looked at: a benchmark of failures is none.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Self, cast

import httptools

ANSWER_SECONDS = 240.0


class Failed(Exception):
    """Somebody did not do what is to be measured."""


@dataclass(frozen=True)
class Question:
    """What to send, and what an answer has to have in it. `path` and `body` make one HTTP request."""

    path: str
    body: bytes
    check: Callable[[bytes], bool]
    accept: str = "application/json"


@dataclass(frozen=True)
class Target:
    """Whom to ask, and how they know us."""

    name: str
    port: int
    headers: dict[str, str] = field(default_factory=dict)
    processes: dict[str, list[int]] = field(default_factory=dict)
    """Their ids, by what the figures call them."""

    def request(self, question: Question) -> bytes:
        """The whole HTTP request."""
        own = {
            "Host": f"127.0.0.1:{self.port}",
            "Content-Type": "application/json",
            "Accept": question.accept,
            "Content-Length": str(len(question.body)),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in (own | self.headers).items())
        return f"POST {question.path} HTTP/1.1\r\n{head}\r\n".encode() + question.body


@dataclass
class Open:
    """Answers that have begun and not ended, now and at most."""

    now: int = 0
    most: int = 0

    def begun(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def ended(self) -> None:
        self.now -= 1


class Connection(asyncio.Protocol):
    """`ask` may be called again when it has returned, until the connection is `spent`: whoever answers may close it."""

    spent = False

    def __init__(self, answers: Open) -> None:
        self._answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self._body:
            self._answers.begun()
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._body:
            self._answers.ended()
        status, body = self._parser.get_status_code(), b"".join(self._body)
        self.spent = not self._parser.should_keep_alive()
        self._parser, self._body = httptools.HttpResponseParser(self), []
        if self._answer and not self._answer.done():
            self._answer.set_result((status, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(Failed("The connection was closed before its answer had ended."))

    async def ask(self, request: bytes, question: Question) -> bytes:
        """The answer's body. Raises `Failed`."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(ANSWER_SECONDS):
            status, body = await self._answer
        if status != 200 or not question.check(body):
            shown = body if len(body) < 600 else body[:200] + b" ... " + body[-400:]
            raise Failed(f"answered {status}: {shown.decode(errors='replace')}")
        return body

    def close(self) -> None:
        self._transport.close()


class Clients:
    """Connections to one target."""

    def __init__(self, target: Target, question: Question, number: int) -> None:
        self._target = target
        self._question = question
        self._request = target.request(question)
        self._number = number
        self._connections: list[Connection] = []
        self.answers = Open()

    async def __aenter__(self) -> Self:
        self._connections = [await self._connected() for _ in range(self._number)]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, _: object, trace: TracebackType | None) -> None:
        for connection in self._connections:
            connection.close()

    async def flat_out(self, seconds: float) -> list[float]:
        """Latencies in seconds, of as many answers as there are in this time."""
        until, taken = time.perf_counter() + seconds, list[float]()

        async def client(number: int) -> None:
            while (began := time.perf_counter()) < until:
                await self._ask(number)
                taken.append(time.perf_counter() - began)

        await _all(client(number) for number in range(self._number))
        return taken

    async def at_rate(self, rate: float, seconds: float) -> list[float]:
        """Latencies at so many a second, counted from when each was due: who makes us wait pays for it."""
        began, numbers, taken = time.perf_counter(), count(), list[float]()

        async def client(number: int) -> None:
            while (due := next(numbers) / rate) < seconds:
                await asyncio.sleep(began + due - time.perf_counter())
                await self._ask(number)
                taken.append(time.perf_counter() - began - due)

        await _all(client(number) for number in range(self._number))
        return taken

    async def once_each(self) -> list[bytes]:
        """One answer to every connection, all at the same time."""
        return list(await asyncio.gather(*(self._ask(number) for number in range(self._number))))

    async def times(self, number: int) -> None:
        """So many answers in all."""
        numbers = iter(range(number))

        async def client(number: int) -> None:
            for _ in numbers:
                await self._ask(number)

        await _all(client(number) for number in range(self._number))

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self.answers), "127.0.0.1", self._target.port)
        return connection

    async def _ask(self, number: int) -> bytes:
        try:
            if self._connections[number].spent:
                self._connections[number] = await self._connected()
            return await self._connections[number].ask(self._request, self._question)
        except (Failed, TimeoutError) as failed:
            raise Failed(f"{self._target.name} {str(failed) or 'did not answer in time'}") from failed


async def _all(clients: Iterable[Coroutine[object, object, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client)
    except* Failed as failures:
        raise failures.exceptions[0] from None
