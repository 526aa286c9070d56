"""All budgets, of this process: what its answers hold, renewed while they run, and what they have spent."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from chatbot_common.errors import Problem
from chatbot_common.identity import ApiKey
from prometheus_client import Counter
from redis import RedisError

from chatbot_chat.budgets.accounts import Account
from chatbot_chat.budgets.counters import Counters, Hold
from chatbot_chat.budgets.ledger import Entry, Ledger
from chatbot_chat.budgets.prices import Spent
from chatbot_chat.budgets.windows import BudgetUsedUp, Excess, Window, key_named, rfc3339, windows_of
from chatbot_chat.conversation_client import ConversationClient, UsageOf
from chatbot_chat.reach import Reach
from chatbot_chat.settings import BudgetsSettings

log = structlog.get_logger(__name__)

REFUSED = Counter("chat_budgets_refused_total", "Questions refused because a budget was used up", ["budget"])
UNCHECKED = Counter("chat_budgets_unchecked_total", "Questions let through because a store was away", ["store"])

CURRENCY = "USD"
"""Where nothing is said of budgets, and only a key has one."""
ROUND_SECONDS = 3.0
"""Less than a third of a hold: a renewal or two may get lost."""
FLUSH_SECONDS = 1.0
AWAY_SECONDS = 1.0
"""After a failure the ledger is left alone for so long: not every question should wait for a time-out."""
LOAD_SECONDS = 2.0
"""How long a question waits for a window. A load that takes longer goes on while questions pass."""
LONGEST_LOAD_SECONDS = 8.0
"""Less than Redis keeps by name what is counted meanwhile."""
LONGEST_HOLD_SECONDS = 3600.0
"""No answer takes so long: somebody has forgotten to close its account."""


class Budgets:
    """Of this process. Without settings nothing is held or refused, and the ledger is kept all the same.

    Redis or the ledger away: questions are let through and counted as unchecked. What could not be counted then is in
    the ledger, so its windows are loaded anew as soon as Redis is back.
    """

    def __init__(
        self,
        conversation: ConversationClient,
        settings: BudgetsSettings | None = None,
        counters: Counters | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        reach: Reach | None = None,
    ) -> None:
        self._conversation = conversation
        self._settings = settings
        self._currency = settings.currency if settings else CURRENCY
        self._counters = counters
        self._now = now
        self.ledger = Ledger(conversation)
        self._holds: dict[str, tuple[Hold, list[Window]]] = {}
        self._uncounted: dict[str, Window] = {}
        self._reach = reach or Reach(counters.ping if counters else _nothing)
        self._ledger_away_until = 0.0
        self._under_way: dict[str, Account] = {}
        self._told: set[str] = set()
        """Which of them the others know of."""
        self._since: dict[str, float] = {}
        """Name of a hold → since when it is renewed, by the monotonic clock."""
        self._loading = asyncio.Lock()
        self._load_task: asyncio.Task[None] | None = None
        self._renewing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def bounded(self) -> bool:
        """Whether anybody is, whoever asks."""
        return self._settings is not None

    def account(
        self,
        user_id: UUID,
        run_id: UUID,
        attempt: int = 1,
        variant: str | None = None,
        *,
        key: ApiKey | None = None,
        logged: bool = False,
    ) -> Account:
        """Args:
        key: by which the user asks.
        logged: whether a log tells what it has spent.
        """
        return Account(self, user_id, run_id, attempt, variant, key=key, logged=logged)

    def begun(self, account: Account) -> None:
        """From here on the others are told what it has spent, unless its log does."""
        if not account.logged:
            self._under_way[account.name] = account

    def ended(self, account: Account) -> None:
        self._under_way.pop(account.name, None)

    def task(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """One that `close` waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def enter(self, user_id: UUID, run_id: UUID, attempt: int, spent: Spent) -> None:
        """Into the ledger, with the next batch."""
        self.ledger.add(f"{run_id}:{attempt}", self._entry(user_id, run_id, attempt, spent))

    def _entry(self, user_id: UUID, run_id: UUID, attempt: int, spent: Spent) -> Entry:
        named = {"user_id": str(user_id), "run_id": str(run_id), "attempt": attempt}
        return named | {"spent_at": rfc3339(self._now())} | spent.as_json()

    async def reserve(self, user_id: UUID, hold: Hold, key: ApiKey | None = None) -> None:
        """In place of what is held under this name. Raises `BudgetUsedUp`; then nothing changes."""
        windows = self._windows(user_id, key)
        if not windows or self._counters is None:
            return
        before = self._holds.get(hold.name)
        self._holds[hold.name] = hold, windows
        excesses: list[Excess] = []
        try:
            missing, excesses = await self._reach.ask(partial(self._counters.reserve, hold, windows))
            if missing:
                excesses = await self._load_and_reserve(self._counters, hold, windows)
        except RedisError:
            UNCHECKED.labels("redis").inc()
        except (Problem, TimeoutError):
            UNCHECKED.labels("ledger").inc()
        if excesses:
            self._holds.pop(hold.name)
            self._holds |= {hold.name: before} if before else {}
            refusal = BudgetUsedUp(excesses, self._currency, self._now())
            REFUSED.labels(refusal.budget).inc()
            raise refusal

    async def _load_and_reserve(self, counters: Counters, hold: Hold, windows: list[Window]) -> list[Excess]:
        """One after the other: who waited finds the windows there."""
        excesses: list[Excess]
        async with self._loading:
            missing, excesses = await self._reach.ask(partial(counters.reserve, hold, windows))
            if missing:
                await self._load(counters, missing)
                _, excesses = await self._reach.ask(partial(counters.reserve, hold, windows))
        return excesses

    async def _load(self, counters: Counters, windows: Sequence[Window]) -> None:
        """Raises `TimeoutError` and the problems of `ConversationClient`, for a moment after one without asking."""
        if time.monotonic() < self._ledger_away_until or (self._load_task and not self._load_task.done()):
            raise TimeoutError
        self._load_task = loading = self.task(self._loaded(counters, windows))
        loading.add_done_callback(lambda task: task.cancelled() or task.exception())  # perhaps nobody waits any more
        async with asyncio.timeout(LOAD_SECONDS):
            await asyncio.shield(loading)

    async def _loaded(self, counters: Counters, windows: Sequence[Window]) -> None:
        try:
            async with asyncio.timeout(LONGEST_LOAD_SECONDS):
                await self.ledger.flush()
                sums = await self._conversation.usage_sums(map(_asked, windows))
        except (Problem, TimeoutError):
            self._ledger_away_until = time.monotonic() + AWAY_SECONDS
            raise
        for window, found in zip(windows, sums, strict=True):
            await self._reach.ask(partial(counters.load, window, found.tokens, found.cost, found.recent))

    async def settle(
        self, user_id: UUID, name: str, spent: Spent | None, key: ApiKey | None = None, *, disputed: bool = False
    ) -> None:
        """Count what an attempt has spent, in place of what was held for it.

        Where several processes have ended it, only the ledger knows what counts: its windows are loaded anew.
        """
        windows = self._windows(user_id, key)
        held = self._holds.pop(name, None)
        if not windows or self._counters is None or not (held or spent):
            return
        total = Hold(name, spent.tokens, spent.cost) if spent and not disputed else Hold(name, 0, 0)
        async with self._renewing:  # a round that is under way may hold it again, the next one does not know it
            pass
        counted = False
        with contextlib.suppress(RedisError):
            counted = await self._reach.ask(partial(self._counters.settle, total, windows))
        if spent and (disputed or not counted):
            self._uncounted |= {window.name: window for window in windows}

    async def keep(self) -> None:
        """Renew what is held, and bring the ledger what waits, until cancelled."""
        while True:
            end = time.monotonic() + ROUND_SECONDS
            while time.monotonic() < end:
                await asyncio.sleep(FLUSH_SECONDS)
                with contextlib.suppress(Problem, TimeoutError):
                    await self.ledger.flush()
            try:
                await self.renew()
            except RedisError:
                continue
            except Exception as crash:
                log.error("renewing holds crashed", exc_info=crash)

    async def renew(self) -> None:
        """One round. Raises `RedisError`."""
        if self._counters is None:
            return
        await self._tell(self._counters)
        async with self._renewing:
            self._drop_forgotten(time.monotonic())
            if self._holds:
                await self._reach.ask(partial(self._counters.renew, list(self._holds.values())))
            if uncounted := dict(self._uncounted):
                await self._reach.ask(partial(self._counters.forget, list(uncounted.values())))
                self._uncounted = {name: window for name, window in self._uncounted.items() if name not in uncounted}

    async def _tell(self, counters: Counters) -> None:
        """What is under way here, should this process die; and enter what one that has died had told."""
        under_way = {
            name: json.dumps(self._entry(account.user_id, account.run_id, account.attempt, spent))
            for name, account in self._under_way.items()
            if (spent := account.under_way)
        }
        ended = self._told - under_way.keys()
        self._told |= under_way.keys()  # also where Redis does not say in time that it has heard
        dead = await self._reach.ask(partial(counters.tell, under_way, ended))
        self._told = set(under_way)
        for entry in map(json.loads, dead):
            log.warning("answer of a dead process entered", run_id=entry["run_id"])
            self.ledger.add(f"{entry['run_id']}:{entry['attempt']}", entry)
            windows = self._windows(UUID(entry["user_id"]), key_named(entry.get("key_id")))
            self._uncounted |= {window.name: window for window in windows}
        if dead:
            with contextlib.suppress(Problem, TimeoutError):
                await self.ledger.flush()

    def _drop_forgotten(self, now: float) -> None:
        self._since = {name: self._since.get(name, now) for name in self._holds}
        for name in [name for name, since in self._since.items() if now - since > LONGEST_HOLD_SECONDS]:
            log.error("hold was never let go", answer=name)
            del self._holds[name]

    async def close(self) -> None:
        """Once no run is left: everything is counted and entered, as far as the stores are there."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._counters and self._told:  # else others would take what it had told for a dead process's
            with contextlib.suppress(RedisError):
                await self._tell(self._counters)
        await self.ledger.close()
        await self._reach.close()

    def _windows(self, user_id: UUID, key: ApiKey | None) -> list[Window]:
        return windows_of(self._settings, user_id, self._now(), key)


def _asked(window: Window) -> UsageOf:
    since = rfc3339(window.since)
    return (window.user_id, since, window.key.id) if window.key else (window.user_id, since)


async def _nothing() -> None:
    """Of nobody who is asked."""
