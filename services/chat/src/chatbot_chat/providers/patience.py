"""How long an answer may keep us waiting: until its first token, then from one token to the next."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import httpx2

from chatbot_chat.settings import Timeouts

T = TypeVar("T")

WHOLE_SECONDS = 285.0
"""For an answer that is not streamed: its first byte may be as late as its last word. Less than the gateway waits."""


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

    def left(self, waited: float) -> float:
        """Seconds that the next words may take, of which so many have passed without any."""
        return self._idle - waited if self._heard else self._first - asyncio.get_running_loop().time()

    def hear(self) -> None:
        """The first token is there."""
        self._heard = True
