"""The ledger of what answers have used: chat counts budgets by it when Redis has lost its counters."""

from chatbot_common.database import Database

from chatbot_conversation.usage import store
from chatbot_conversation.usage.schema import Entries, Entry, Sum, Sums, Windows


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
            found = [await store.spent(session, window.user_id, window.since) for window in request.windows]
        return Sums(sums=[Sum(tokens=tokens, cost=cost, recent=recent) for tokens, cost, recent in found])


def _name(entry: Entry) -> tuple[str, str, int]:
    return str(entry.user_id), str(entry.run_id), entry.attempt
