"""The ledger of what answers have used: chat counts budgets by it when Redis has lost its counters."""

from datetime import UTC, datetime, timedelta

from chatbot_common.database import Database
from chatbot_common.errors import InvalidRequest

from chatbot_conversation.usage import store
from chatbot_conversation.usage.schema import Entries, Entry, Sum, Sums, Usage, UsagePage, UsageWindow, Windows
from chatbot_conversation.wire import paged

SPAN = timedelta(days=30)


class UsageService:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def enter(self, request: Entries) -> None:
        """Each attempt once: the same one sent again changes nothing."""
        # Of one attempt the provider's count holds; sorted, so that two batches cannot deadlock.
        entries = sorted(request.entries, key=lambda item: not item.estimated)
        rows = {_name(item): item.model_dump() for item in entries}
        async with self._database.write() as session:
            await store.enter(session, [rows[name] for name in sorted(rows)])

    async def sums(self, request: Windows) -> Sums:
        async with self._database.read() as session:
            found = [await store.spent(session, item.user_id, item.since, item.key_id) for item in request.windows]
        return Sums(sums=[Sum(tokens=tokens, cost=cost, recent=recent) for tokens, cost, recent in found])

    async def by(self, window: UsageWindow) -> UsagePage:
        """Raises `InvalidRequest`: the window ends before it begins."""
        until = window.until or datetime.now(UTC)
        since = window.since or until - SPAN
        if since >= until:
            detail = "since must be before until"
            raise InvalidRequest(f"{detail}.", errors=[{"pointer": "/since", "detail": detail}])
        async with self._database.read() as session:
            rows = await store.usage(session, window.by, since, until, window)
        return UsagePage(**paged(rows, window, Usage.model_validate))


def _name(entry: Entry) -> tuple[str, str, int]:
    return str(entry.user_id), str(entry.run_id), entry.attempt
