"""What a run or a completion may spend, and has spent. Nobody asks a provider before its account admits it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING
from uuid import UUID

from chatbot_common.identity import ApiKey

from chatbot_chat.budgets.counters import Hold
from chatbot_chat.budgets.prices import Spent, estimate_of, spent_of
from chatbot_chat.budgets.windows import PriceUnknown, counts_cost
from chatbot_chat.providers import Chosen, ModelEvent, ModelRequest, ReasoningDelta, TextDelta, Usage, Written
from chatbot_chat.settings import ModelSettings
from chatbot_chat.tokens import BYTES_PER_TOKEN, size_of

if TYPE_CHECKING:
    from chatbot_chat.budgets.service import Budgets


class Account:
    """Of one attempt at an answer, which may ask models several times. Must be closed."""

    def __init__(
        self,
        budgets: "Budgets",
        user_id: UUID,
        run_id: UUID,
        attempt: int,
        variant: str | None,
        *,
        key: ApiKey | None,
        logged: bool,
    ) -> None:
        self.key = key
        self.logged = logged
        """Whether a log tells what was spent, should this process die: a run's."""
        self.user_id, self.run_id, self.attempt, self.variant = user_id, run_id, attempt, variant
        self.spent: Spent | None = None
        self.so_far: Spent | None = None
        """With the prompt of the answer that is being heard: what must not be lost with this process."""
        self.entered = False
        """Whether somebody has brought to the ledger what was spent: the reply that was stored."""
        self._budgets = budgets
        self._said: Callable[[], int] | None = None
        """Bytes of the answer that is being heard."""
        self._asked: tuple[ModelSettings, Callable[[], Usage]] | None = None
        self._held = Hold(self.name, -1, -1)
        self._closed = False

    @property
    def name(self) -> str:
        return f"{self.run_id}:{self.attempt}"

    @property
    def bounded(self) -> bool:
        """Whether any budget may refuse it."""
        return self._budgets.bounded or bool(self.key and self.key.budget)

    async def admit(self, model: ModelSettings, request: ModelRequest) -> None:
        """Hold what asking this model may cost, beside what was spent. Raises `BudgetUsedUp`, `PriceUnknown`."""
        await self.admit_estimated(model, lambda: estimate_of(request))

    async def admit_estimated(self, model: ModelSettings, estimate: Callable[[], Usage]) -> None:
        if self.key and model.prices is None and counts_cost(self.key):
            raise PriceUnknown(model.name, self.key)
        self._asked = model, cache(estimate)
        if not self.bounded:
            return
        needed = spent_of(model, estimate(), self.spent, estimated=True)
        if needed.tokens <= self._held.tokens and needed.cost <= self._held.cost:
            return  # another model, or another deployment, that is no dearer
        self._held = Hold(self.name, max(needed.tokens, self._held.tokens), max(needed.cost, self._held.cost))
        await self._budgets.reserve(self.user_id, self._held, self.key)

    async def watched(self, events: AsyncGenerator[ModelEvent, None]) -> AsyncGenerator[ModelEvent, None]:
        """The same events, counted: by who spoke, also when the answer breaks off."""
        usage, characters = None, 0

        def said() -> int:
            return characters

        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    if isinstance(event, Usage):
                        usage = event
                    elif isinstance(event, Chosen):
                        self.hears(said)
                        self.so_far = self._with(None, 0)
                    elif isinstance(event, Written):
                        characters += event.size
                        continue
                    elif isinstance(event, TextDelta | ReasoningDelta):
                        characters += size_of(event.text)
                    yield event
        finally:
            self.count(usage, characters)

    def hears(self, said: Callable[[], int]) -> None:
        """Who was asked last answers, and charges for the prompt from here on. `said` tells the bytes so far."""
        self._said = said
        self._budgets.begun(self)

    @property
    def under_way(self) -> Spent | None:
        """What was spent, and what is being heard."""
        return self._with(None, self._said()) if self._said else self.spent

    def give_again(self, model: str) -> None:
        """The cache has the answer: it counts among those of the model, and costs nothing."""
        self.spent = self._marked(Spent(model, 0, 0, 0, estimated=False))

    def cut(self, written: int = 0) -> None:
        """Who was asked last has the prompt, and nobody waits for its first word any more.

        Args:
            written: bytes of calls that were on their way.
        """
        self.count(None, written, taken=True)

    def count(self, usage: Usage | None, said: int, *, taken: bool = False) -> None:
        """Who was asked last has spoken, or has not: `said` is in bytes. A provider that did not count is estimated.

        Args:
            taken: whether it charges for the prompt also when it has said nothing.
        """
        self._said = None
        if self._asked is None or (usage is None and not said and not taken):
            return
        self.spent = self.so_far = self._with(usage, said)

    def estimate(self, usage: Usage) -> None:
        """Who was asked last has used so much until now: it speaks of nothing, and counts nothing either."""
        if self._asked:
            self.spent = self._marked(spent_of(self._asked[0], usage, estimated=True))

    def _with(self, usage: Usage | None, said: int) -> Spent | None:
        """What was spent, and this by who was asked last."""
        if self._asked is None:
            return self.spent
        model, estimate = self._asked
        counted = usage or Usage(estimate().input_tokens, -(-said // BYTES_PER_TOKEN))
        return self._marked(spent_of(model, counted, self.spent, estimated=usage is None))

    def _marked(self, spent: Spent) -> Spent:
        return replace(spent, variant=self.variant, key_id=str(self.key.id) if self.key else None)

    async def close(self, *, disputed: bool = False) -> None:
        """Count what was spent and let go of the rest, however this is called or cancelled.

        Args:
            disputed: another process has ended this attempt as well, and may have counted it.
        """
        if not self._closed:
            self._closed = True
            self._budgets.ended(self)
            if not self.bounded:  # nothing to wait for
                self._enter()
                return
            await asyncio.shield(self._budgets.task(self._close(disputed)))

    async def _close(self, disputed: bool) -> None:
        self._enter()
        await self._budgets.settle(self.user_id, self.name, self.spent, self.key, disputed=disputed)

    def _enter(self) -> None:
        if self.spent and not self.entered:
            self._budgets.enter(self.user_id, self.run_id, self.attempt, self.spent)
