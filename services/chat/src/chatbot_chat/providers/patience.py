"""How long an answer may keep us waiting: until its first token, then from one token to the next."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from chatbot_chat.settings import Timeouts

T = TypeVar("T")

WHOLE_SECONDS = 285.0
"""For an answer that is not streamed: its first byte may be as late as its last word. Less than the gateway waits."""
LOOK_SECONDS = 0.1
"""Until the next look at a consumer who takes its time, once the first token is overdue."""


def http_timeout(timeouts: Timeouts) -> httpx2.Timeout:
    """For the connection; whether an answer comes in time is for `Patience` to say."""
    longest = max(timeouts.first_token, timeouts.idle)
    return httpx2.Timeout(longest, connect=timeouts.connect, pool=timeouts.connect)


def reader_of(stream: Any) -> AsyncGenerator[Any, None]:
    """What an SDK's stream reads by. They hold each other: unless it is closed, only the garbage collector ends it, at
    any later time, or never when the loop has gone."""
    reader: AsyncGenerator[Any, None] = stream._iterator
    return reader


class Patience:
    """Begins with the request. What says nothing, such as a role or a count, does not make the first token come."""

    def __init__(self, timeouts: Timeouts, *, streamed: bool = True) -> None:
        self._idle = timeouts.idle
        first = timeouts.first_token if streamed else max(timeouts.first_token, WHOLE_SECONDS)
        self._first = asyncio.get_running_loop().time() + timeouts.connect + first
        self._heard = False

    def wait(self) -> asyncio.Timeout:
        """A block that raises `TimeoutError` when the next thing does not come in time.

        Only what is waited for counts: a consumer that takes its time is not the provider's fault.
        """
        return asyncio.timeout(self._idle) if self._heard else asyncio.timeout_at(self._first)

    @asynccontextmanager
    async def listening(
        self, items: AsyncGenerator[T, None], speaks: Callable[[T], bool]
    ) -> AsyncIterator[AsyncGenerator[T, None]]:
        """The items as `over` has them; they end with the block."""
        async with aclosing(items), aclosing(self.over(items, speaks)) as heard:
            yield heard

    async def over(self, items: AsyncIterator[T], speaks: Callable[[T], bool]) -> AsyncGenerator[T, None]:
        """The items as they come. Raises `TimeoutError`."""
        while True:
            try:
                async with self.wait():
                    item = await anext(items)
            except StopAsyncIteration:
                return
            self._heard = self._heard or speaks(item)
            yield item

    def due(self, since: float) -> float:
        """When what has been waited for since then has to be there."""
        return since + self._idle if self._heard else self._first

    def hear(self) -> bool:
        """The first token is there. Returns whether that is new."""
        new, self._heard = not self._heard, True
        return new


class Watch:
    """The same for what is passed on in pieces, by one timer for all: one for each costs as much as to pass it on.

    Args:
        late: ends the answer; called when the next words do not come in time.
    """

    def __init__(self, patience: Patience, late: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._late = late
        self._since: float | None = None
        self._waited = 0.0

    def __enter__(self) -> Self:
        self._look_at(self._patience.due(self._loop.time()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def waits(self) -> None:
        """For the next piece. The time from one that came until then is the consumer's."""
        self._since = self._loop.time() - self._waited

    def heard(self, *, words: bool, speaks: bool) -> None:
        """A piece came; without words it is no more than a silence."""
        now = self._loop.time()
        self._waited = 0.0 if words or self._since is None else now - self._since
        self._since = None
        if speaks and self._patience.hear():
            self._timer.cancel()
            self._look_at(self._patience.due(now))

    def _look_at(self, moment: float) -> None:
        self._timer = self._loop.call_at(moment, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        due = self._patience.due(now if self._since is None else self._since)
        if self._since is not None and due <= now:
            self._late()
        else:
            self._look_at(max(due, now + LOOK_SECONDS))
