"""What an answer has used, and what that costs. Pure; money is whole millionths of the currency, rounded up."""

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from chatbot_chat.prompt import weight_of
from chatbot_chat.providers import ModelRequest, Usage
from chatbot_chat.settings import ModelSettings

MOST = 10**15
"""Of tokens and of millionths: what is more is taken for so much, so that sums stay exact in Lua's numbers."""


@dataclass(frozen=True, slots=True)
class Spent:
    """By one attempt. `model` is who spoke last; `estimated`, that a provider did not count and its words were."""

    model: str
    input_tokens: int
    output_tokens: int
    cost: int
    estimated: bool
    variant: str | None = None
    """The user's side of an A/B test, where it decided."""
    key_id: str | None = None
    """The API key by which it was asked."""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def as_json(self) -> dict[str, Any]:
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


def cost_of(model: ModelSettings, usage: Usage) -> int:
    """A price is of a million tokens, and money in millionths: so many millionths for each token."""
    if model.prices is None:
        return 0
    return min(ceil(model.prices.of(usage.input_tokens, usage.output_tokens, usage.cached_input)), MOST)


def spent_of(model: ModelSettings, usage: Usage, before: Spent | None = None, *, estimated: bool) -> Spent:
    """With what the same attempt has spent before: a run with tools asks several times."""
    counted = replace(usage, input_tokens=min(usage.input_tokens, MOST), output_tokens=min(usage.output_tokens, MOST))
    spent = Spent(model.name, counted.input_tokens, counted.output_tokens, cost_of(model, counted), estimated)
    if before is None:
        return spent
    return Spent(
        model.name,
        min(before.input_tokens + spent.input_tokens, MOST),
        min(before.output_tokens + spent.output_tokens, MOST),
        min(before.cost + spent.cost, MOST),
        before.estimated or estimated,
    )


def estimate_of(request: ModelRequest) -> Usage:
    """The most that a request may use: its prompt, as well as it can be counted here, and the longest answer."""
    return Usage(weight_of(request), request.max_tokens)
