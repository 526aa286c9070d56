"""What costs the services several calls to find out, and anyone may ask for: found out once for all who ask."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """The newest value, kept for as long as whoever fetched it said. One caller fetches, the others wait for it."""

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()
        self._value: T | None = None
        self._until = 0.0

    async def get(self, fetch: Callable[[], Awaitable[tuple[T, float]]]) -> T:
        """The value.

        Args:
            fetch: finds out the value, and for how many seconds it may be kept.
        """
        async with self._one_at_a_time:
            if self._value is None or time.monotonic() >= self._until:
                self._value, seconds = await fetch()
                self._until = time.monotonic() + seconds
            return self._value
