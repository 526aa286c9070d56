"""Searching and reading knowledge. Vectors find ids, Postgres says what they stand for."""

import asyncio
import time
from collections.abc import Mapping
from uuid import UUID

import structlog
from chatbot_common.database import Database
from chatbot_common.errors import NotFound, Unavailable
from chatbot_common.genai import traced
from opentelemetry import trace

from chatbot_conversation.embeddings import Embedder
from chatbot_conversation.knowledge import store
from chatbot_conversation.knowledge.schema import Faq, Knowledge, Passage
from chatbot_conversation.tables import AnyRow
from chatbot_conversation.vectors import KNOWLEDGE, Hit, VectorStore
from chatbot_conversation.wire import Page, Window, page_of

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

RETRIEVAL = {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": KNOWLEDGE}
PASSAGES = 5
SEARCH_SECONDS = 10
ABOUT_SECONDS = 1.0
"""For which turns are told what the knowledge was about: that it is new is told so much later."""
SPARE = 5
"""Vectors fetched beyond the limit: some may stand for what was just removed."""


class KnowledgeService:
    def __init__(self, database: Database, embedder: Embedder, vectors: VectorStore) -> None:
        self._database = database
        self._embedder = embedder
        self._vectors = vectors
        self._about: tuple[list[str], list[str]] = ([], [])
        self._look_again = 0.0

    async def search(self, query: str, limit: int = PASSAGES) -> Knowledge:
        """The passages nearest to the query, best first, with topics and questions. Raises `Unavailable`."""
        try:
            hits = await self._hits(query, limit)
        except Exception as error:
            log.warning("knowledge search failed", error=type(error).__name__)
            raise Unavailable("Knowledge cannot be searched right now.") from error
        async with self._database.read() as session:
            rows = await store.quotable(session, [hit.id for hit in hits])
            return _knowledge(hits, rows, await store.about(session), limit)

    async def find_for_turn(self, query: str) -> Knowledge:
        """As `search`, but a turn goes on without passages when the search fails."""
        about = await self._remembered()
        if not about[0]:  # there is none: the question would be embedded in vain
            return _knowledge([], {}, about, PASSAGES)
        try:
            hits = await self._hits(query, PASSAGES)
        except Exception as error:
            log.warning("turn goes on without passages", error=type(error).__name__)
            hits = []
        if not hits:
            return _knowledge([], {}, about, PASSAGES)
        async with self._database.read() as session:
            return _knowledge(hits, await store.quotable(session, [hit.id for hit in hits]), about, PASSAGES)

    async def _remembered(self) -> tuple[list[str], list[str]]:
        """Topics and questions, as they were a moment ago: of a turn's statements these change least."""
        now = time.monotonic()
        if now >= self._look_again:
            async with self._database.read() as session:
                self._about = await store.about(session)
            self._look_again = now + ABOUT_SECONDS
        return self._about

    async def _hits(self, query: str, limit: int) -> list[Hit]:
        async with asyncio.timeout(SEARCH_SECONDS):
            with traced(tracer, f"retrieval {KNOWLEDGE}", RETRIEVAL):
                [vector] = await self._embedder.embed([query])
                return await self._vectors.search(KNOWLEDGE, None, vector, limit + SPARE)

    async def faqs(self, category: str | None, window: Window) -> Page[Faq]:
        async with self._database.read() as session:
            rows = await store.published_faqs(session, category, window)
        return page_of(rows, window, Faq.model_validate)

    async def faq(self, faq_id: UUID) -> Faq:
        """Raises `NotFound` for a draft too."""
        async with self._database.read() as session:
            row = await store.published_faq(session, faq_id)
        if row is None:
            raise NotFound("There is no such FAQ.")
        return Faq.model_validate(row)


def _knowledge(
    hits: list[Hit], rows: Mapping[UUID, AnyRow], about: tuple[list[str], list[str]], limit: int
) -> Knowledge:
    """What the hits stand for, as far as that is still there."""
    passages = [
        Passage(url=None, score=round(hit.score, 4), **row._mapping) for hit in hits if (row := rows.get(hit.id))
    ]
    topics, questions = about
    return Knowledge(passages=passages[:limit], topics=topics, questions=questions)
