"""What no stored reply brings to conversation's ledger: in batches, and kept while conversation is away."""

import asyncio
from collections import OrderedDict
from typing import Any

import structlog
from chatbot_common.errors import Problem
from chatbot_common.http import UpstreamProblem
from prometheus_client import Counter

from chatbot_chat.conversation_client import ConversationClient

log = structlog.get_logger(__name__)

LOST = Counter("chat_ledger_lost_total", "Answers whose usage was given up: conversation was away, or refused it")
REFUSALS = (400, 413, 422)
"""What conversation says of the entries; what it says of us, or of the moment, may be different the next time."""
ROOM = 20_000
BATCH = 500
CALL_SECONDS = 2.0
FAREWELL_SECONDS = 5.0

Entry = dict[str, Any]


class Ledger:
    """Entries go out in the order they came; the same one sent again is not entered twice."""

    def __init__(self, conversation: ConversationClient, room: int = ROOM) -> None:
        self._conversation = conversation
        self._room = room
        self._waiting: OrderedDict[str, Entry] = OrderedDict()
        self._sending = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """How many entries are not there yet."""
        return len(self._waiting)

    def add(self, name: str, entry: Entry) -> None:
        """Taken along by the next `flush`; where there is no room, the oldest is lost, and counted."""
        self._waiting[name] = entry
        if len(self._waiting) > self._room:
            self._waiting.popitem(last=False)
            LOST.inc()

    async def flush(self) -> None:
        """Send what waits. Raises the problems of `ConversationClient`, `TimeoutError`; what was not taken waits on."""
        async with self._sending:
            while batch := dict(list(self._waiting.items())[:BATCH]):
                await self._send(batch)

    async def _send(self, batch: dict[str, Entry]) -> None:
        """One that is refused must not keep the others waiting: a batch with one in it is sent in halves."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self._conversation.enter_usage(list(batch.values()))
        except UpstreamProblem as problem:
            if problem.status not in REFUSALS:
                raise
            if len(batch) > 1:
                names = list(batch)
                for half in (names[: len(names) // 2], names[len(names) // 2 :]):
                    await self._send({name: batch[name] for name in half})
                return
            LOST.inc()
            log.error("usage refused", answer=next(iter(batch)), error=problem.kind, errors=problem.errors)
        for name, entry in batch.items():
            if self._waiting.get(name) is entry:
                del self._waiting[name]

    async def close(self) -> None:
        """Send what waits, for a few seconds; what is left then is lost."""
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._persistently()
        except TimeoutError:
            LOST.inc(len(self._waiting))
            log.error("usage lost", answers=len(self._waiting))

    async def _persistently(self) -> None:
        while True:
            try:
                return await self.flush()
            except (Problem, TimeoutError):
                await asyncio.sleep(0.2)
