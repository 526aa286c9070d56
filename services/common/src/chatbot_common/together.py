"""Work that costs little more for many than for one: who asks while it is busy goes together with the next."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass
class Asked(Generic[Q, A]):
    """One question on its way."""

    question: Q
    answer: "asyncio.Future[A]"
    context: Context

    def settle(self, answer: A | Exception) -> None:
        if self.answer.done():
            return  # whoever wanted it has left
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


class Together(Generic[Q, A]):
    """Answers questions in batches. What is asked alone is answered at once, by itself.

    Args:
        work: the answers to a batch, in its order; an exception among them is for who asked that question, one that is
            raised is for everybody. It runs in the context of the first, so its spans are in that one's trace.
        lanes: batches under way at the same time.
        most: questions in a batch; more would let somebody's one question wait for another's thousand.
    """

    def __init__(
        self, work: Callable[[list[Q]], Coroutine[Any, Any, Sequence[A | Exception]]], *, lanes: int, most: int
    ) -> None:
        self._work = work
        self._lanes = lanes
        self._most = most
        self._waiting: list[Asked[Q, A]] = []
        self._under_way = set[asyncio.Task[None]]()

    async def ask(self, question: Q) -> A:
        """Raises what `work` has for this question."""
        [answer] = await self.ask_all([question])
        return answer

    async def ask_all(self, questions: Iterable[Q]) -> list[A]:
        """The answers in order. Raises what `work` has for the first that failed."""
        loop, context = asyncio.get_running_loop(), copy_context()
        asked = [Asked[Q, A](question, loop.create_future(), context) for question in questions]
        self._waiting += asked
        self._begin()
        return list(await asyncio.gather(*(item.answer for item in asked)))

    def _begin(self) -> None:
        while self._waiting and len(self._under_way) < self._lanes:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            # A task of its own: who asked first may leave, and others wait with them.
            task = asyncio.get_running_loop().create_task(self._answer(batch), context=batch[0].context)
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._begin()

    async def _answer(self, batch: list[Asked[Q, A]]) -> None:
        try:
            answers = await self._work([item.question for item in batch])
        except Exception as error:
            answers = [error] * len(batch)
        for item, answer in zip(batch, answers, strict=True):
            item.settle(answer)
