"""Signs of life: this process keeps its own runs alive, and closes those of a process that has died or was frozen.

Conversation decides by its rows who is alive; chat has the words so far, in the run's log. So whichever replica finds
an abandoned run reads its words from the log, stores them as how the attempt ended, and only then fences the log.
Several may try: the first is the one that counts, unless the run has given a sign of life in between. Without Redis
nobody knows the words; conversation's worker closes the run later.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import structlog
from chatbot_common.errors import Problem
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext
from redis import RedisError

from chatbot_chat.budgets.prices import Spent, spent_of
from chatbot_chat.budgets.service import Budgets
from chatbot_chat.budgets.windows import key_named
from chatbot_chat.conversation_client import Attempt, ConversationClient, ending
from chatbot_chat.providers import Usage
from chatbot_chat.runs.events import Event, text_of
from chatbot_chat.runs.log import RunLog
from chatbot_chat.runs.parts import parts_of
from chatbot_chat.runs.run import Run
from chatbot_chat.settings import ModelSettings
from chatbot_chat.tokens import estimate_tokens

log = structlog.get_logger(__name__)

RENEW_SECONDS = 3.0
"""Less than a third of a lease: a renewal or two may get lost."""
CALL_SECONDS = 3.0
RETRY_SECONDS = 1.0
SURE_SECONDS = 5.0
"""For how long a run must have been seen abandoned: after an outage of conversation every lease has ended, and the
living need a moment to renew theirs, longer than one call and another try."""
BEGIN_SECONDS = 0.2
"""How long the first sign of life waits for those of other runs: many begin at once, and some have ended by then."""
CLOSED_AT_ONCE = 8


class Leases:
    """`runs` are those of this process."""

    def __init__(
        self,
        conversation: ConversationClient,
        run_log: RunLog,
        runs: Callable[[], Iterable[Run]],
        *,
        budgets: Budgets | None = None,
        models: Mapping[str, ModelSettings] | None = None,
        sure_seconds: float = SURE_SECONDS,
    ) -> None:
        self._conversation = conversation
        self._budgets = budgets or Budgets(conversation)
        self._models = models or {}
        self._log = run_log
        self._runs = runs
        self._sure_seconds = sure_seconds
        self._begun: list[Run] = []
        self._suspects: dict[Attempt, float] = {}
        """Abandoned in the round before → since when, by the monotonic clock."""

    async def keep(self) -> None:
        """Renew and look around, until cancelled."""
        while True:
            try:
                with trace.use_span(_unsampled()):
                    await self.renew()
            except (Problem, TimeoutError) as problem:
                log.warning("leases not renewed", error=type(problem).__name__)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as crash:
                log.error("renewing leases crashed", exc_info=crash)
                await asyncio.sleep(RENEW_SECONDS)
            else:
                await asyncio.sleep(RENEW_SECONDS)

    async def begin(self, run: Run) -> None:
        """The first sign of life of a run: without one its turn has its first lease only. A round makes up for it."""
        self._begun.append(run)
        if len(self._begun) > 1:
            return  # whoever was first tells of all
        await asyncio.sleep(BEGIN_SECONDS)
        begun, self._begun = self._begun, []
        if attempts := _attempts(begun):
            with contextlib.suppress(Problem, TimeoutError), trace.use_span(_unsampled()):
                async with asyncio.timeout(CALL_SECONDS):
                    await self._conversation.renew(attempts)

    async def renew(self) -> None:
        """One round. Raises the problems of `ConversationClient`, `TimeoutError`."""
        own = {run.id: run for run in self._runs()}
        async with asyncio.timeout(CALL_SECONDS):
            leases = await self._conversation.renew(_attempts(own.values()))
        for turn_id in leases.lost:
            own[turn_id].stop("superseded")
        before, now = self._suspects, time.monotonic()
        self._suspects = {attempt: before.get(attempt, now) for attempt in leases.abandoned}
        await self._close_all(
            [item for item in before.keys() & self._suspects if now - before[item] >= self._sure_seconds]
        )

    async def _close_all(self, attempts: list[Attempt]) -> None:
        """As many as a round has time for: a pod may have left a thousand, and our own leases must not wait."""
        random.shuffle(attempts)  # another replica begins with others
        places = asyncio.Semaphore(CLOSED_AT_ONCE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RENEW_SECONDS):
                ends = await asyncio.gather(*(self._close(item, places) for item in attempts), return_exceptions=True)
                for crash in filter(None, ends):
                    log.error("closing an abandoned run crashed", exc_info=crash)

    async def _close(self, attempt: Attempt, places: asyncio.Semaphore) -> None:
        async with places:
            await self._close_one(attempt)

    async def _close_one(self, attempt: Attempt) -> None:
        try:
            events = await self._log.said(attempt.turn_id, attempt.attempt)
            text, parts = text_of(events), parts_of(events)
            model, variant = _told(events, "model"), _told(events, "variant")
            told = await self._log.spent(attempt.turn_id, attempt.attempt)
            spent = self._spent(model, variant, told, events)
            body = ending(attempt.attempt, "interrupted", model=model, text=text, parts=parts, variant=variant)
            body |= {"abandoned": True, "spent": spent.as_json() if spent else None}
            stored = await self._conversation.store_reply(attempt.turn_id, body)
            name = f"{attempt.turn_id}:{attempt.attempt}"
            key = key_named(spent.key_id if spent else None)
            await self._budgets.settle(stored.user_id, name, spent, key, disputed=True)
            log.warning("abandoned run closed", run_id=str(attempt.turn_id), characters=len(text))
            await self._log.close(attempt.turn_id, attempt.attempt)
        except RedisError as error:
            log.warning("log of abandoned run left alone", run_id=str(attempt.turn_id), error=type(error).__name__)
        except Problem as problem:  # it lives, another replica was faster, or conversation is away: the next round sees
            log.info("abandoned run not closed", run_id=str(attempt.turn_id), error=problem.kind)

    def _spent(
        self, model: str | None, variant: str | None, told: Spent | None, events: Iterable[Event]
    ) -> Spent | None:
        """What its process has told, and the words that are not in it; what it has not told of prompts nobody knows."""
        said = "".join(event.data["text"] for event in events if event.type in ("text.delta", "reasoning.delta"))
        left = estimate_tokens(said) - (told.output_tokens if told else 0)
        name = told.model if told else model
        if left <= 0 or name is None or name not in self._models:
            return told
        spent = spent_of(self._models[name], Usage(0, left), told, estimated=True)
        return replace(spent, variant=variant, key_id=told.key_id if told else None)


def _attempts(runs: Iterable[Run]) -> list[Attempt]:
    """Those that still need a lease."""
    return [Attempt(turn_id=run.id, attempt=run.attempt) for run in runs if not run.ended]


def _told(events: list[Event], name: str) -> str | None:
    """With the start of the run."""
    return next((event.data.get(name) for event in events if event.type == "run.started"), None)


def _unsampled() -> NonRecordingSpan:
    """What comes by itself every few seconds belongs to no request, so to no trace, in no service."""
    return NonRecordingSpan(SpanContext(random.getrandbits(128) | 1, random.getrandbits(64) | 1, is_remote=False))
