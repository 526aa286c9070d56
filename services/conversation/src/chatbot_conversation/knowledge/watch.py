"""Seeds over time: synced at start, whenever the file or the folder looks different, and when vectors were lost."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from chatbot_common.app import Check
from chatbot_common.database import Database
from chatbot_common.errors import Unavailable

from chatbot_conversation.knowledge.seeds import BadDocumentsFolder, BadFaqFile
from chatbot_conversation.knowledge.sync import sync_documents, sync_faqs
from chatbot_conversation.settings import Settings
from chatbot_conversation.vectors import VectorStore

log = structlog.get_logger(__name__)

Look = tuple[tuple[str, int, int], ...]
"""Name, time of change and size of every file there is."""
Sync = Callable[[str | None], Awaitable[None]]
"""Takes the vector store's generation, None while the store is away."""


class NotSynced(Exception):
    """Seeds have not been brought into the database yet."""


class _Source:
    """One file or folder, how it and the vector store looked at the last sync, and what was wrong with it."""

    def __init__(self, path: str | None, sync: Sync) -> None:
        self._path = path
        self._sync = sync
        self._synced: tuple[Look, str | None] | None = None
        self._trouble: Exception | None = NotSynced("not synced yet")

    async def check(self) -> None:
        if self._trouble:
            raise self._trouble

    async def sync(self, generation: str | None) -> None:
        seen = await asyncio.to_thread(_look, self._path), generation
        if seen == self._synced:
            return
        try:
            await self._sync(generation)
        except (BadFaqFile, BadDocumentsFolder) as error:
            if str(error) != str(self._trouble):
                log.error("seeds cannot be used; those of before stay", reason=str(error))
            self._trouble = error
            return
        self._synced, self._trouble = seen, None


class SeedWatch:
    """`checks` go into the worker's readiness; `sync` raises when the database cannot be reached."""

    def __init__(self, database: Database, settings: Settings, model: str, vectors: VectorStore) -> None:
        faq_file, folder = settings.faq_file, settings.documents_dir
        self._vectors = vectors
        self._faqs = _Source(faq_file, lambda generation: sync_faqs(database, faq_file, model, generation))
        self._documents = _Source(folder, lambda generation: sync_documents(database, folder, model, generation))
        self.checks: dict[str, Check] = {"faq_file": self._faqs.check, "documents_dir": self._documents.check}

    async def sync(self) -> None:
        generation = await self._generation()
        await self._faqs.sync(generation)
        await self._documents.sync(generation)

    async def _generation(self) -> str | None:
        """None while the store is away: FAQs can be read without it, and are indexed once it is back."""
        try:
            return await self._vectors.generation()
        except Unavailable:
            return None


def _look(path: str | None) -> Look:
    if path is None or not Path(path).exists():
        return ()
    root = Path(path)
    files = sorted(root.rglob("*")) if root.is_dir() else [root]
    found = [(str(file), file.stat()) for file in files if file.is_file()]
    return tuple((name, state.st_mtime_ns, state.st_size) for name, state in found)
