"""Keys on their way from handlers.py to reconcile.py: each once, never two of one resource at a time, bounded overall.

A key that fails comes back later and later; one that succeeds comes back when its reconcile says so.
"""

import asyncio
import contextlib
import heapq
import math
import random
import time
from collections.abc import Awaitable, Callable

import structlog

from chatbot_operator.faults import ApiFault, Unavailable

Key = tuple[str, str]
"""Namespace and name of a resource."""

PAUSE_SECONDS = 0.25
"""Between two reconciles of one resource, so that the events of one rollout share a few of them."""
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 300.0
EAGER_RETRY_SECONDS = 5.0
"""A new event may shorten a back-off to this: somebody may just have mended the cause."""

Work = Callable[[Key], Awaitable[float | None]]
"""Reconciles a resource; returns the seconds until it wants to be called again, or None: never, it is gone."""

log = structlog.get_logger("queue")


class Queue:
    def __init__(self, work: Work, workers: int) -> None:
        self._work = work
        self._workers = workers
        self._heap: list[tuple[float, Key]] = []
        self._due: dict[Key, float] = {}
        """When each waiting key is due; the heap may hold older entries of the same key, which are skipped."""
        self._active: dict[Key, float] = {}
        """Keys being worked on, and when they were due."""
        self._again: dict[Key, float] = {}
        """Asked for while active."""
        self._not_before: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()
        self._stopping = False

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Reconcile this soon. What is already asked for is only ever brought forward."""
        when = time.monotonic() + delay
        if key in self._active:
            self._again[key] = min(when, self._again.get(key, math.inf))
        else:
            self._put(key, max(when, self._not_before.get(key, 0.0)))

    def depth(self) -> int:
        """Keys that are due and wait for a worker."""
        now = time.monotonic()
        return sum(when <= now for when in self._due.values())

    def oldest(self) -> float:
        """Seconds since the oldest key that is due, or being worked on, became due."""
        now = time.monotonic()
        return max(0.0, now - min([*self._due.values(), *self._active.values()], default=now))

    async def run(self) -> None:
        """Work until `stop`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._worker())

    def stop(self) -> None:
        """Begin nothing new; `run` returns when what is being worked on has ended."""
        self._stopping = True
        self._changed.set()

    def _put(self, key: Key, when: float) -> None:
        if when < self._due.get(key, math.inf):
            self._due[key] = when
            heapq.heappush(self._heap, (when, key))
            self._changed.set()

    async def _worker(self) -> None:
        while (key := await self._next()) is not None:
            delay = await self._run(key)
            del self._active[key]
            again = self._again.pop(key, None)
            if delay is not None:
                self._put(key, time.monotonic() + delay)
            elif again is None:
                self._not_before.pop(key, None)
            if again is not None:
                self._put(key, max(again, self._not_before.get(key, 0.0)))

    async def _next(self) -> Key | None:
        """The key that is due longest; None when stopping."""
        while not self._stopping:
            while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
                heapq.heappop(self._heap)
            wait = self._heap[0][0] - time.monotonic() if self._heap else None
            if wait is not None and wait <= 0:
                when, key = heapq.heappop(self._heap)
                del self._due[key]
                self._active[key] = when
                return key
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()
        return None

    async def _run(self, key: Key) -> float | None:
        """Work in a task of its own, so that no cancellation in there ends this worker.

        A TaskGroup that fails leaves its task marked as being cancelled, and Python before 3.11.3 (Debian 12 has
        3.11.2) then takes the task's next time-out for its end: after one failure per worker nobody worked any more.
        """
        work = asyncio.ensure_future(self._work(key))
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait({work})
            raise
        if work.cancelled():
            return self._failed(key, RuntimeError("the reconcile was cancelled"))
        if isinstance(error := work.exception(), Exception):
            return self._failed(key, error)
        self._failures.pop(key, None)
        self._not_before[key] = time.monotonic() + PAUSE_SECONDS
        return work.result()

    def _failed(self, key: Key, error: Exception) -> float:
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        delay = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 20)) * jitter()
        asked = error.retry_after if isinstance(error, Unavailable) else 0.0
        delay = max(delay, asked)
        self._not_before[key] = time.monotonic() + max(min(delay, EAGER_RETRY_SECONDS), asked)
        namespace, name = key
        # A fault of the API server is told in one line; anything else is a mistake of ours, and needs its traceback.
        expected = isinstance(error, ApiFault)
        log.warning(
            "reconcile failed",
            namespace=namespace,
            bot=name,
            error=f"{type(error).__name__}: {error}",
            failures=failures,
            again_in=round(delay, 1),
            exc_info=None if expected else error,
        )
        return delay


def jitter() -> float:
    """A factor around 1, so that what began together does not stay together."""
    return random.uniform(0.8, 1.2)  # noqa: S311 - no secret
