"""The queue between events and reconciles, with the work replaced by what each test needs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest
from chatbot_operator import queue
from chatbot_operator.faults import Unavailable
from chatbot_operator.queue import Key, Queue, Work

from tests.support.patience import within

A, B = ("ns", "a"), ("ns", "b")


@contextlib.asynccontextmanager
async def running(work: Work, workers: int = 2) -> AsyncIterator[Queue]:
    work_queue = Queue(work, workers)
    task = asyncio.create_task(work_queue.run())
    try:
        yield work_queue
    finally:
        work_queue.stop()
        async with within(5):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with within(5):
        while not condition():
            await asyncio.sleep(0.005)


class Recorder:
    """Work that notes when it was called, and ends when told to."""

    def __init__(self, again: float | None = None) -> None:
        self.calls: list[tuple[Key, float]] = []
        self.active: dict[Key, int] = {}
        self.most = 0
        self.overlapped = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.again = again
        self.errors: list[BaseException] = []

    async def __call__(self, key: Key) -> float | None:
        self.calls.append((key, time.monotonic()))
        self.overlapped |= self.active.get(key, 0) > 0
        self.active[key] = self.active.get(key, 0) + 1
        self.most = max(self.most, sum(self.active.values()))
        try:
            await self.gate.wait()
            if self.errors:
                raise self.errors.pop(0)
            return self.again
        finally:
            self.active[key] -= 1

    def of(self, key: Key) -> list[float]:
        return [when for called, when in self.calls if called == key]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(queue, "FIRST_RETRY_SECONDS", 0.05)


class TestCoalescing:
    async def test_many_events_are_one_reconcile(self) -> None:
        work = Recorder()
        work_queue = Queue(work, 2)
        for _ in range(100):
            work_queue.add(A)
        assert work_queue.depth() == 1
        task = asyncio.create_task(work_queue.run())
        await until(lambda: bool(work.calls))
        work_queue.stop()
        await task
        assert len(work.calls) == 1

    async def test_what_comes_while_it_is_worked_on_is_one_more_reconcile_afterwards(self, quick: None) -> None:
        work = Recorder()
        work.gate.clear()
        async with running(work) as work_queue:
            work_queue.add(A)
            await until(lambda: len(work.calls) == 1)
            for _ in range(10):
                work_queue.add(A)
            work.gate.set()
            await until(lambda: len(work.calls) == 2)
            await asyncio.sleep(0.1)
        assert len(work.calls) == 2
        assert not work.overlapped

    async def test_two_reconciles_of_one_resource_are_a_pause_apart(self) -> None:
        work = Recorder(again=60)
        async with running(work) as work_queue:
            work_queue.add(A)
            await until(lambda: len(work.calls) == 1)
            work_queue.add(A)
            await until(lambda: len(work.calls) == 2)
        first, second = work.of(A)
        assert second - first >= queue.PAUSE_SECONDS * 0.9


class TestBounds:
    async def test_no_more_at_once_than_there_are_workers(self) -> None:
        work = Recorder()
        work.gate.clear()
        async with running(work, workers=3) as work_queue:
            for number in range(10):
                work_queue.add(("ns", str(number)))
            await until(lambda: len(work.calls) == 3)
            await asyncio.sleep(0.05)
            assert work_queue.depth() == 7
            work.gate.set()
            await until(lambda: len(work.calls) == 10)
        assert work.most == 3

    async def test_the_age_of_the_oldest_counts_what_is_stuck_in_a_worker(self) -> None:
        work = Recorder()
        work.gate.clear()
        async with running(work, workers=1) as work_queue:
            assert work_queue.oldest() == 0
            work_queue.add(A)
            work_queue.add(B, delay=60)
            await until(lambda: len(work.calls) == 1)
            await asyncio.sleep(0.1)
            assert 0.1 <= work_queue.oldest() < 5
            assert work_queue.depth() == 0
            work.gate.set()
            await until(lambda: work_queue.oldest() == 0)

    async def test_stopping_lets_what_is_under_way_end_and_begins_nothing(self) -> None:
        work = Recorder()
        work.gate.clear()
        work_queue = Queue(work, 1)
        task = asyncio.create_task(work_queue.run())
        work_queue.add(A)
        work_queue.add(B)
        await until(lambda: len(work.calls) == 1)
        work_queue.stop()
        await asyncio.sleep(0.05)
        assert not task.done()
        work.gate.set()
        async with within(5):
            await task
        assert [key for key, _ in work.calls] == [A]


class TestAgain:
    async def test_it_comes_back_when_it_said_so(self, quick: None) -> None:
        work = Recorder(again=0.1)
        async with running(work) as work_queue:
            work_queue.add(A)
            await until(lambda: len(work.calls) == 3)
        first, second, third = work.of(A)[:3]
        assert second - first >= 0.1
        assert third - second >= 0.1

    async def test_an_event_comes_before_the_resync(self, quick: None) -> None:
        work = Recorder(again=60)
        async with running(work) as work_queue:
            work_queue.add(A)
            await until(lambda: len(work.calls) == 1)
            await until(lambda: work_queue.oldest() == 0)
            work_queue.add(A)
            await until(lambda: len(work.calls) == 2)

    async def test_what_is_gone_is_not_looked_at_again(self, quick: None) -> None:
        work = Recorder(again=None)
        async with running(work) as work_queue:
            work_queue.add(A)
            await until(lambda: len(work.calls) == 1)
            await asyncio.sleep(0.15)
            assert len(work.calls) == 1


class TestErrors:
    async def test_each_retry_waits_longer(self, quick: None) -> None:
        work = Recorder()
        work.errors = [ValueError("no"), ValueError("no"), ValueError("no")]
        async with running(work) as work_queue:
            work_queue.add(A)
            await until(lambda: len(work.calls) == 4)
        gaps = [after - before for before, after in zip(work.of(A), work.of(A)[1:], strict=False)]
        assert 0.04 <= gaps[0] < gaps[1] < gaps[2]

    async def test_a_reconcile_that_is_cancelled_from_within_ends_no_worker(self, quick: None) -> None:
        work = Recorder()
        work.errors = [asyncio.CancelledError() for _ in range(3)]
        async with running(work, workers=2) as work_queue:
            work_queue.add(A)
            await until(lambda: len(work.calls) == 4)

    async def test_what_a_reconcile_leaves_of_cancellations_ends_with_it(self, quick: None) -> None:
        """As a failed TaskGroup leaves it: Python 3.11.2 took the worker's next time-out for its end."""
        left: list[int] = []

        async def work(_: Key) -> float:
            task = asyncio.current_task()
            assert task
            left.append(task.cancelling())
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            return 0.05

        async with running(work, workers=1) as work_queue:
            work_queue.add(A)
            await until(lambda: len(left) == 3)
        assert left == [0, 0, 0]

    async def test_one_resource_in_trouble_does_not_hold_up_another(self, quick: None) -> None:
        work = Recorder()
        work.errors = [Unavailable("busy", retry_after=30)]
        async with running(work, workers=1) as work_queue:
            work_queue.add(A)
            await until(lambda: len(work.calls) == 1)
            work_queue.add(B)
            await until(lambda: bool(work.of(B)))

    async def test_retry_after_is_honoured_even_when_an_event_comes(self, quick: None) -> None:
        work = Recorder()
        work.errors = [Unavailable("too many requests", retry_after=0.5)]
        async with running(work) as work_queue:
            work_queue.add(A)
            await until(lambda: len(work.calls) == 1)
            await asyncio.sleep(0.05)
            work_queue.add(A)
            await until(lambda: len(work.calls) == 2)
        first, second = work.of(A)
        assert second - first >= 0.5

    async def test_an_event_shortens_a_long_back_off(self, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(queue, "FIRST_RETRY_SECONDS", 60.0)
        monkeypatch.setattr(queue, "EAGER_RETRY_SECONDS", 0.1)
        work = Recorder()
        work.errors = [ValueError("no")]
        async with running(work) as work_queue:
            work_queue.add(A)
            await until(lambda: len(work.calls) == 1)
            await asyncio.sleep(0.02)
            work_queue.add(A)
            await until(lambda: len(work.calls) == 2)
        first, second = work.of(A)
        assert 0.1 <= second - first < 5
