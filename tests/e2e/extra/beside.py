"""A bot under our operator, beside somebody else's real controller."""

import asyncio
from collections.abc import Callable

from tests.operator.running import Run, World
from tests.support.patience import within


class Beside:
    """A resource that is reconciled again and again, while others do their part.

    Args:
        apis: optional ones that the operator is told of.
    """

    def __init__(self, world: World, apis: frozenset[str]) -> None:
        self.world = world
        self.apis = apis
        self.run = Run(world, lambda: apis)

    async def until(self, what: str, true: Callable[[], bool], seconds: float = 150) -> None:
        """An AssertionError with `what` and what was told last, when it does not come true."""
        try:
            async with within(seconds):
                while not true():
                    await self.run.reconcile(self.world.key)
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"waited {seconds:.0f} s for {what}: {self.told()}") from None

    async def settles(self) -> None:
        """Until a look writes nothing; then none does any more, nor after a restart, whatever the others do."""
        async with within(60):
            while await self._writes(self.run):
                await asyncio.sleep(0.2)
        before = self.run.status()
        for again in (self.run, Run(self.world, lambda: self.apis), self.run):
            written = await self._writes(again)
            assert not written, f"{written} writes: {before} became {self.run.status()}"

    async def _writes(self, run: Run) -> int:
        before = self.world.writes()
        await run.reconcile(self.world.key)
        return self.world.writes() - before

    def said(self, kind: str) -> str:
        """The message of a condition."""
        return next(item.message for item in self.run.status().conditions if item.type == kind)

    def told(self) -> object:
        """What the others say, for who has to mend it."""
        return self.run.status().conditions
