"""What stands between us and one provider: its places, and its breaker."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator

from chatbot_chat.providers.breaker import Attempt, Breaker
from chatbot_chat.providers.errors import ProviderError, ProviderSpared
from chatbot_chat.providers.metering import AI_RESTING, AI_SPARED
from chatbot_chat.settings import ProviderSettings


class Guard:
    """Of one provider, shared by all its models."""

    def __init__(self, settings: ProviderSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = settings.name
        self._patience = settings.timeouts.connect
        self._places = asyncio.Semaphore(settings.max_concurrency)
        self._breaker = Breaker(clock)
        self._resting = AI_RESTING.labels(self._name)
        self._resting.set(0)

    @contextlib.asynccontextmanager
    async def admitted(self) -> AsyncIterator[Callable[[], None]]:
        """One request; call what this gives once the provider has spoken.

        Raises:
            ProviderSpared: the provider is not to be asked now.
        """
        self._check()
        await self._take_place()
        try:
            self._check()  # again: it may have failed for others while this one waited
            with self._judged() as attempt:
                yield lambda: self._breaker.spoke(attempt)
        finally:
            self._places.release()

    def check(self) -> None:
        """Raises `ProviderSpared` while the provider is left alone."""
        if rest := self._breaker.rest():
            raise ProviderSpared(f"Provider {self._name} keeps failing, and is left alone for now.", retry_after=rest)

    def _check(self) -> None:
        try:
            self.check()
        except ProviderSpared:
            AI_SPARED.labels(self._name, "resting").inc()
            raise

    async def _take_place(self) -> None:
        """One of `maxConcurrency` places; who waits longer than a connection may take is told to come back."""
        if not self._places.locked():
            await self._places.acquire()  # at once
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            AI_SPARED.labels(self._name, "full").inc()
            raise ProviderSpared(f"Provider {self._name} has no free place; try again shortly.") from None

    @contextlib.contextmanager
    def _judged(self) -> Iterator[Attempt]:
        attempt = self._breaker.begin()
        try:
            yield attempt
        except ProviderError as error:
            if error.outage:
                self._breaker.failed(attempt)
            else:
                self._breaker.refused(attempt)
            raise
        except BaseException:
            self._breaker.gave_up(attempt)
            raise
        else:
            self._breaker.succeeded(attempt)
        finally:
            self._resting.set(self._breaker.open)
