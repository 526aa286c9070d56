"""Jobs that turn knowledge into vectors. Each looks at the row as it is now, so running one twice does no harm."""

import asyncio
import re
from uuid import UUID, uuid5

from chatbot_common.database import Database
from semantic_text_splitter import MarkdownSplitter

from chatbot_conversation.embeddings import Embedder
from chatbot_conversation.knowledge import store
from chatbot_conversation.tables import documents, faqs
from chatbot_conversation.vectors import KNOWLEDGE, VectorStore

HEADING = re.compile(r"#{1,6}\s")
CHUNK_CHARACTERS = (300, 900)
"""About 75 to 225 tokens: what the bundled model reads without cutting."""


def indexed_as(model: str, generation: str, content_hash: str) -> str:
    """What `indexed_as` says when the vectors of this content under this model are in this life of the store."""
    return f"{model}:{generation}:{content_hash}"


class KnowledgeIndexer:
    def __init__(self, database: Database, embedder: Embedder, vectors: VectorStore) -> None:
        self._database = database
        self._embedder = embedder
        self._vectors = vectors

    async def index_faq(self, faq_id: UUID) -> None:
        async with self._database.read() as session:
            faq = await store.find(session, faqs, faq_id)
        if faq is None:
            return
        # Asked before: should the store be lost while we write, the row is left marked with what is gone.
        generation = await self._vectors.generation()
        [vector] = await self._embedder.embed([f"{faq.question}\n{faq.answer}\n{', '.join(faq.keywords)}"])
        await self._vectors.upsert(KNOWLEDGE, None, {faq_id: vector})
        async with self._database.write() as session:
            current = await store.mark_indexed(
                session, faqs, faq_id, faq.content_hash, self._made_from(generation, faq.content_hash)
            )
            gone = not current and await store.find(session, faqs, faq_id) is None
        if gone:
            await self._vectors.delete(KNOWLEDGE, None, [faq_id])

    async def index_document(self, document_id: UUID) -> None:
        async with self._database.read() as session:
            document = await store.find(session, documents, document_id)
        if document is None:
            return
        generation = await self._vectors.generation()
        chunks = await asyncio.to_thread(passages_of, document_id, document.text)
        vectors = await self._embedder.embed([f"{document.title}\n{chunk}" for chunk in chunks.values()])
        await self._vectors.upsert(KNOWLEDGE, None, dict(zip(chunks, vectors, strict=True)))
        made_from = self._made_from(generation, document.content_hash)
        async with self._database.write() as session:
            if await store.mark_indexed(session, documents, document_id, document.content_hash, made_from):
                stale = set(await store.passage_ids(session, [document_id])) - set(chunks)
                await store.replace_passages(session, document_id, chunks)
            elif await store.find(session, documents, document_id) is None:
                stale = set(chunks)
            else:
                stale = set()  # changed meanwhile: its own job follows, and may share passages with this one
        await self._vectors.delete(KNOWLEDGE, None, sorted(stale))

    def _made_from(self, generation: str, content_hash: str) -> str:
        return indexed_as(self._embedder.name, generation, content_hash)


def sections_of(text: str) -> list[str]:
    """The text cut before each heading: two short sections are two subjects, however well they fit into one passage.

    A heading directly above another stays with it, and `#` inside a fenced block is no heading.
    """
    sections: list[list[str]] = [[]]
    fenced = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        is_heading = not fenced and bool(HEADING.match(line))
        if is_heading and any(item.strip() and not HEADING.match(item) for item in sections[-1]):
            sections.append([])
        sections[-1].append(line)
    return [section for lines in sections if (section := "\n".join(lines).strip())]


def passages_of(document_id: UUID, text: str) -> dict[UUID, str]:
    """Passages of a Markdown text in reading order; the same text always gets the same ids."""
    splitter = MarkdownSplitter(CHUNK_CHARACTERS)
    chunks = [chunk for section in sections_of(text) for chunk in splitter.chunks(section)]
    return {uuid5(document_id, f"{position}:{chunk}"): chunk for position, chunk in enumerate(chunks)}
