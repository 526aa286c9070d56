"""Seeds over time: synced at start, and again whenever the file or the folder looks different."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from chatbot_common.app import Check
from chatbot_common.database import Database

from chatbot_conversation.knowledge.seeds import BadDocumentsFolder, BadFaqFile
from chatbot_conversation.knowledge.sync import sync_documents, sync_faqs
from chatbot_conversation.settings import Settings

log = structlog.get_logger(__name__)

Look = tuple[tuple[str, int, int], ...]
"""Name, time of change and size of every file there is."""


class NotSynced(Exception):
    """Seeds have not been brought into the database yet."""


class _Source:
    """One file or folder, how it looked when it was last synced, and what was wrong with it."""

    def __init__(self, path: str | None, sync: Callable[[], Awaitable[None]]) -> None:
        self._path = path
        self._sync = sync
        self._synced: Look | None = None
        self._trouble: Exception | None = NotSynced("not synced yet")

    async def check(self) -> None:
        if self._trouble:
            raise self._trouble

    async def sync(self) -> None:
        look = await asyncio.to_thread(_look, self._path)
        if look == self._synced:
            return
        try:
            await self._sync()
        except (BadFaqFile, BadDocumentsFolder) as error:
            if str(error) != str(self._trouble):
                log.error("seeds cannot be used; those of before stay", reason=str(error))
            self._trouble = error
            return
        self._synced, self._trouble = look, None


class SeedWatch:
    """`checks` go into the worker's readiness; `sync` raises when the database cannot be reached."""

    def __init__(self, database: Database, settings: Settings, model: str) -> None:
        faq_file, folder = settings.faq_file, settings.documents_dir
        self._faqs = _Source(faq_file, lambda: sync_faqs(database, faq_file, model))
        self._documents = _Source(folder, lambda: sync_documents(database, folder, model))
        self.checks: dict[str, Check] = {"faq_file": self._faqs.check, "documents_dir": self._documents.check}

    async def sync(self) -> None:
        await self._faqs.sync()
        await self._documents.sync()


def _look(path: str | None) -> Look:
    if path is None or not Path(path).exists():
        return ()
    root = Path(path)
    files = sorted(root.rglob("*")) if root.is_dir() else [root]
    found = [(str(file), file.stat()) for file in files if file.is_file()]
    return tuple((name, state.st_mtime_ns, state.st_size) for name, state in found)
