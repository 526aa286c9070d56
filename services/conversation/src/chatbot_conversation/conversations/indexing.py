"""The job that makes a message searchable for its owner."""

from uuid import UUID

from chatbot_common.database import Database
from sqlalchemy import select

from chatbot_conversation.embeddings import Embedder
from chatbot_conversation.tables import messages
from chatbot_conversation.vectors import MESSAGES, VectorStore


class MessageIndexer:
    def __init__(self, database: Database, embedder: Embedder, vectors: VectorStore) -> None:
        self._database = database
        self._embedder = embedder
        self._vectors = vectors

    async def index_message(self, user_id: UUID, message_id: UUID) -> None:
        """Embed the message as it is now; nothing when it is gone or has no text."""
        text = await self._text(user_id, message_id)
        if not text:
            return
        [vector] = await self._embedder.embed([text])
        await self._vectors.upsert(MESSAGES, user_id, {message_id: vector})
        # Deleted or erased while it was embedded: the job that forgets it may have run before the vector was there.
        if not await self._text(user_id, message_id):
            await self._vectors.delete(MESSAGES, user_id, [message_id])

    async def _text(self, user_id: UUID, message_id: UUID) -> str | None:
        query = select(messages.c.text).where(messages.c.user_id == user_id, messages.c.id == message_id)
        async with self._database.read() as session:
            text: str | None = (await session.execute(query)).scalar()
            return text
