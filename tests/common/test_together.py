"""Work done for many at once."""

import asyncio
from contextvars import ContextVar

import pytest
from chatbot_common.together import Together

NAME = ContextVar("NAME", default="nobody")


class Doubling:
    """Doubles numbers once it is let; a word is refused, and 13 breaks everything."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.batches: list[list[object]] = []
        self.names: list[str] = []

    async def __call__(self, questions: list[object]) -> list[int | Exception]:
        self.batches.append(questions)
        self.names.append(NAME.get())
        await self.go.wait()
        if 13 in questions:
            raise ConnectionError("13")
        return [item * 2 if isinstance(item, int) else ValueError(item) for item in questions]


def asking(together: Together[object, int], *questions: object) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(together.ask(question)) for question in questions]


async def a_moment() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class TestTogether:
    async def test_who_asks_alone_does_not_wait(self) -> None:
        work = Doubling()
        work.go.set()
        assert await Together[object, int](work, lanes=1, most=10).ask(2) == 4

    async def test_what_comes_while_all_lanes_are_busy_goes_in_one_batch(self) -> None:
        work = Doubling()
        together = Together[object, int](work, lanes=2, most=3)
        asked = asking(together, 1, 2, 3, 4, 5, 6, 7)
        await a_moment()
        assert work.batches == [[1], [2]]
        work.go.set()
        assert await asyncio.gather(*asked) == [2, 4, 6, 8, 10, 12, 14]
        assert work.batches == [[1], [2], [3, 4, 5], [6, 7]]

    async def test_a_failure_is_told_to_whom_it_concerns(self) -> None:
        work = Doubling()
        together = Together[object, int](work, lanes=1, most=10)
        asked = asking(together, 1, 2, "word", 3)
        await a_moment()
        work.go.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [found[0], found[1], type(found[2]), found[3]] == [2, 4, ValueError, 6]

    async def test_a_broken_batch_is_told_to_all_of_it_and_the_next_goes_on(self) -> None:
        work = Doubling()
        together = Together[object, int](work, lanes=1, most=2)
        asked = asking(together, 1, 13, 2, 3)
        await a_moment()
        work.go.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(item) for item in found] == [int, ConnectionError, ConnectionError, int]

    async def test_who_leaves_takes_nobody_along(self) -> None:
        work = Doubling()
        together = Together[object, int](work, lanes=1, most=10)
        first, second, third = asking(together, 1, 2, 3)
        await a_moment()
        first.cancel()
        second.cancel()
        work.go.set()
        assert await third == 6

    async def test_nothing_is_nothing(self) -> None:
        assert await Together[object, int](Doubling(), lanes=1, most=10).ask_all([]) == []

    async def test_a_batch_belongs_to_the_trace_of_its_first(self) -> None:
        work = Doubling()
        together = Together[object, int](work, lanes=1, most=10)
        work.go.set()

        async def ask(name: str) -> int:
            NAME.set(name)
            return await together.ask(1)

        await asyncio.gather(*(asyncio.create_task(ask(name)) for name in ("ada", "bea", "cyd")))
        assert work.names == ["ada", "bea"]

    async def test_many_answers_keep_their_order(self) -> None:
        work = Doubling()
        work.go.set()
        together = Together[object, int](work, lanes=2, most=7)
        with pytest.raises(ValueError, match="word"):
            await together.ask_all([1, "word", 2])
        assert await together.ask_all(range(20, 70)) == [2 * number for number in range(20, 70)]
