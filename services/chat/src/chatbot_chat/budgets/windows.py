"""Which budgets an answer counts against, when each renews, and what someone is told who has used one up. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Any, Literal
from uuid import UUID

from chatbot_common.errors import Problem
from chatbot_common.identity import ApiKey

from chatbot_chat.settings import BudgetsSettings

Whose = Literal["perUser", "perKey", "total"]
Period = Literal["Day", "Month"]
Kind = Literal["tokens", "cost"]
Bounds = Mapping[str, int | None]
"""Of tokens and cost in a day and a month, by the names of `BudgetSettings`; None and what is missing is no bound."""
PASSING_SECONDS = 5
"""When to ask again where only others' answers are in the way; holds of a process that has died last 10 s."""


@dataclass(frozen=True, slots=True)
class Window:
    """A day or a month in UTC, of one user, of one of their keys, or (None) of all.

    `tokens` and `cost` are its limits; None is no limit.
    """

    user_id: UUID | None
    period: Period
    since: datetime
    until: datetime
    tokens: int | None
    cost: int | None
    key: ApiKey | None = None

    @property
    def whose(self) -> Whose:
        if self.key:
            return "perKey"
        return "perUser" if self.user_id else "total"

    @property
    def scope(self) -> str:
        """Whose holds count here: the same for day and month."""
        if self.key:
            return f"key:{self.key.id}"
        return f"user:{self.user_id}" if self.user_id else "total"

    @property
    def name(self) -> str:
        """`user:…:2026-11-21`, `key:…:2026-11-21` or `total:2026-11`."""
        return f"{self.scope}:{self.since:%Y-%m-%d}" if self.period == "Day" else f"{self.scope}:{self.since:%Y-%m}"

    def limit(self, kind: Kind) -> int | None:
        return self.tokens if kind == "tokens" else self.cost

    def budget(self, kind: Kind) -> str:
        """As the resource names it: `perUser.tokensPerDay`."""
        return f"{self.whose}.{kind}Per{self.period}"


def windows_of(
    settings: BudgetsSettings | None, user_id: UUID, now: datetime, key: ApiKey | None = None
) -> list[Window]:
    """Those that have a limit. Of a key its own and that of every key count, the smaller one."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    next_month = (month + timedelta(days=31)).replace(day=1)
    return [
        window
        for owner, by, told in _bounded(settings, user_id, key)
        for window in (
            Window(owner, "Day", day, day + timedelta(days=1), *_of(told, "day"), by),
            Window(owner, "Month", month, next_month, *_of(told, "month"), by),
        )
        if window.tokens is not None or window.cost is not None
    ]


def _bounded(
    settings: BudgetsSettings | None, user_id: UUID, key: ApiKey | None
) -> Iterator[tuple[UUID | None, ApiKey | None, Bounds]]:
    if settings:
        yield user_id, None, settings.per_user.model_dump()
    if key:
        every = settings.per_key.model_dump() if settings and settings.per_key else {}
        yield user_id, key, {name: _smaller(every.get(name), key.budget.get(name)) for name in {*every, *key.budget}}
    if settings:
        yield None, None, settings.total.model_dump()


def _of(bounds: Bounds, period: str) -> tuple[int | None, int | None]:
    return bounds.get(f"tokens_per_{period}"), bounds.get(f"cost_per_{period}")


def _smaller(one: int | None, other: int | None) -> int | None:
    return min((bound for bound in (one, other) if bound is not None), default=None)


def key_named(key_id: str | None) -> ApiKey | None:
    """One of which no more is known than its id: its windows can be named, and nothing can be judged by them."""
    nothing = {"tokens_per_day": 0, "tokens_per_month": 0}
    return ApiKey(UUID(key_id), "", frozenset(), nothing) if key_id else None


def counts_cost(key: ApiKey) -> bool:
    """Whether it is bounded in money by itself. Where the resource does so, every model has prices."""
    return not {"cost_per_day", "cost_per_month"}.isdisjoint(key.budget)


class PriceUnknown(Problem):
    """A bound that counts nothing would be none, and who has the key chooses the model."""

    status, kind, title = 403, "price-unknown", "What this model costs is not known"

    def __init__(self, model: str, key: ApiKey) -> None:
        super().__init__(
            f"Model {model} has no prices, and the API key '{key.name}' may spend only so much money: ask a model that "
            "has them, use a key whose budget counts tokens, or have an administrator set the model's prices."
        )


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that an answer might exceed: what is left of it, and what the answer may need."""

    window: Window
    kind: Kind
    left: int
    needed: int
    passing: bool = False
    """It is only what other answers hold while they are given, or for some seconds after their process has died."""

    @property
    def hopeless(self) -> bool:
        """Also an unused budget would not suffice."""
        limit = self.window.limit(self.kind)
        return limit is not None and self.needed > limit


class BudgetUsedUp(Problem):
    """Names the budget that renews last of those that are used up: before that, asking again helps nobody.

    Where none is used up, and other answers only hold what is left, it is another kind of problem, and soon over.
    """

    status, kind, title = 429, "budget-used-up", "A budget is used up"

    def __init__(self, excesses: list[Excess], currency: str, now: datetime) -> None:
        worst = max(excesses, key=lambda item: (item.hopeless, not item.passing, item.window.until))
        self.budget = worst.window.budget(worst.kind)
        self._key = worst.window.key
        self._passing = worst.passing
        self._renews = None if worst.hopeless or worst.passing else worst.window.until
        self._seconds = PASSING_SECONDS if worst.passing else ceil((worst.window.until - now).total_seconds())
        if worst.passing:
            self.kind, self.title = "budget-held", "Other answers hold what is left of a budget"
        headers = {} if worst.hopeless else {"Retry-After": str(self._seconds)}
        super().__init__(" ".join(_sentence(worst, currency)), headers=headers)

    def as_json(self) -> dict[str, Any]:
        """With the name of the budget and when it renews, for those who do not see headers."""
        when: dict[str, Any] = {"renews_at": rfc3339(self._renews)} if self._renews else {}
        when |= {"retry_after": self._seconds} if self.headers else {}
        when |= {"key_id": str(self._key.id)} if self._key else {}
        return super().as_json() | {"budget": self.budget} | when

    def as_openai(self) -> dict[str, Any]:
        """What passes is no lack of quota: OpenAI's clients ask again."""
        if self._passing:
            return super().as_openai()
        named = {"type": "insufficient_quota", "param": None, "code": "insufficient_quota"}
        return {"error": {"message": str(self)} | named}


def _sentence(excess: Excess, currency: str) -> Iterator[str]:
    """How much a user's own budget is, is theirs to know; that of all is not."""
    window, kind = excess.window, excess.kind
    period = window.period.lower()
    if excess.passing:
        others, whose = ("Your other answers", "your") if window.whose == "perUser" else ("Other answers", "the")
        if window.key:
            others, whose = f"Other answers to the API key '{window.key.name}'", "its"
        yield f"{others} under way hold what is left of {whose} budget of a {period} ({window.budget(kind)});"
        yield "ask again in a few seconds."
        return
    if window.whose == "total":
        yield f"What all users together may spend in a {period} does not suffice for this answer;"
    else:
        limit, left, needed = (
            _amount(kind, value, currency) for value in (window.limit(kind), excess.left, excess.needed)
        )
        whose, owner = ("the", f" of the API key '{window.key.name}'") if window.key else ("your", "")
        yield f"Of {whose} {limit} a {period}{owner} {left} are left, and this answer may need {needed};"
    if excess.hopeless:
        yield "ask for a shorter answer, or shorten the question."
    else:
        yield f"the budget renews at {rfc3339(window.until)}."


def _amount(kind: Kind, value: int | None, currency: str) -> str:
    return f"{value} tokens" if kind == "tokens" else f"{money(value or 0)} {currency}"


def money(micros: int) -> str:
    """`2500000` → `2.50`."""
    whole, _, fraction = f"{Decimal(micros).scaleb(-6):.6f}".partition(".")
    return f"{whole}.{fraction.rstrip('0'):0<2}"


def rfc3339(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
