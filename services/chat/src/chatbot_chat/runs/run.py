"""One attempt of a run, in the process that executes it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import structlog
from redis import RedisError

from chatbot_chat.budgets.accounts import Account
from chatbot_chat.conversation_client import Turn
from chatbot_chat.runs.events import Event, EventType
from chatbot_chat.runs.log import Appended, RunLog

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 0.05
SIGN_OF_LIFE_SECONDS = 1.0


class Run:
    """Events as they happen. Followers see each at once; the log gets them in batches."""

    def __init__(self, user_id: UUID, turn: Turn, account: Account) -> None:
        self.user_id = user_id
        self.turn = turn
        self.account = account
        self.events: list[Event] = []
        self.text = ""
        self.stop_reason: str | None = None
        """Why the answer must end early: `cancelled`, `interrupted` or `superseded`."""
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()

    @property
    def id(self) -> UUID:
        return self.turn.turn_id

    @property
    def attempt(self) -> int:
        return self.turn.attempt

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1].terminal

    def emit(self, kind: EventType, /, **data: Any) -> None:
        """Append an event and wake everybody who follows."""
        if kind == "text.delta":
            self.text += data["text"]
        elif kind in ("run.snapshot", "text.replaced"):
            self.text = data["text"]
        self.events.append(Event(kind, self.id, self.attempt, len(self.events) + 1, data))
        self._changed.set()
        self._changed = asyncio.Event()

    def stop(self, reason: str) -> None:
        """Ask for the end; the first reason counts."""
        self.stop_reason = self.stop_reason or reason
        self._stopped.set()

    def obey(self, answer: Appended) -> None:
        """What the log says to who writes it."""
        if answer in ("cancel", "superseded"):
            self.stop("cancelled" if answer == "cancel" else "superseded")

    async def stopped(self) -> None:
        await self._stopped.wait()

    async def follow(self, after: int = 0) -> AsyncIterator[Event]:
        """Events with `seq` above `after`, until the run has ended."""
        while True:
            changed = self._changed
            for event in self.events[after:]:
                after = event.seq
                yield event
                if event.terminal:
                    return
            if after >= len(self.events):
                await changed.wait()

    async def keep_log(self, run_log: RunLog) -> None:
        """Copy events to Redis until the run has ended; meanwhile obey a wish to stop that arrived there.

        Without Redis the run goes on for those who follow it here, and is stored all the same.
        """
        written, available = 0, True
        while True:
            changed = self._changed
            batch = self.events[written:]
            ended = self.ended
            try:
                answer = await run_log.append(self.id, self.attempt, batch)
                if answer == "gap":
                    written = 0
                    continue
                written += len(batch)
                if not ended:
                    self.obey(answer)
            except RedisError as error:
                if available:
                    log.warning("run log unavailable", run_id=str(self.id), error=type(error).__name__)
                available = False
            except Exception as crash:  # a defect of ours: a run is answered and stored without its log, too
                log.error("writing the run log crashed", run_id=str(self.id), exc_info=crash)
            if ended:
                return
            await self._pause(changed)

    async def _pause(self, changed: asyncio.Event) -> None:
        """Until something happens, then a moment more so that it travels in one batch."""
        try:
            async with asyncio.timeout(SIGN_OF_LIFE_SECONDS):
                await changed.wait()
        except TimeoutError:
            return
        if not self.ended:
            await asyncio.sleep(FLUSH_SECONDS)
