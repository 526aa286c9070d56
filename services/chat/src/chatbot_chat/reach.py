"""Whether Redis answers: one verdict of the process, for all that it is asked for.

Whoever finds it away says so, and from then on nobody waits for a time-out: a task of its own tries until it answers
again. Without that, each turn would wait anew, once for its budgets and once for its log.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from redis import RedisError
from redis.exceptions import ConnectionError as Unconnected
from redis.exceptions import TimeoutError as TimedOut

log = structlog.get_logger(__name__)

Result = TypeVar("Result")
PAUSE_SECONDS = 0.5
"""From one try to the next."""


class Away(RedisError):
    """Redis did not answer a moment ago, and was not asked."""


class Reach:
    """Args:
    ping: asks Redis for a sign of life; bounded by its own time-out.
    """

    def __init__(self, ping: Callable[[], Awaitable[Any]]) -> None:
        self._ping = ping
        self._trying: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        return self._trying is not None

    async def ask(self, asked: Callable[[], Awaitable[Result]]) -> Result:
        """Raises `RedisError`: `Away` where it is known not to answer, without asking."""
        self.expect()
        try:
            return await asked()
        except (Unconnected, TimedOut) as error:
            self._lost(error)
            raise

    def expect(self) -> None:
        """For who asks by another client, whose troubles are its own. Raises `Away`."""
        if self.away:
            raise Away("Redis does not answer")

    def _lost(self, error: RedisError) -> None:
        if self._trying is None:
            log.warning("Redis does not answer, going on without it", error=type(error).__name__)
            self._trying = asyncio.create_task(self._try())

    async def _try(self) -> None:
        while True:
            if await self._answers():
                break
            await asyncio.sleep(PAUSE_SECONDS)
        self._trying = None
        log.info("Redis answers again")

    async def _answers(self) -> bool:
        """Whatever goes wrong: a task that ended here would leave the process without Redis for good."""
        try:
            await self._ping()
        except RedisError:
            return False
        except Exception as crash:
            log.error("asking Redis for a sign of life crashed", exc_info=crash)
            return False
        return True

    async def close(self) -> None:
        """Stop trying."""
        if trying := self._trying:
            trying.cancel()
            await asyncio.gather(trying, return_exceptions=True)
