"""What the service and its worker are both made of, put together once per process."""

from dataclasses import dataclass

from chatbot_common.database import Database

from chatbot_conversation.embeddings import Embedder
from chatbot_conversation.embeddings.local import LocalEmbedder
from chatbot_conversation.embeddings.measured import Measured
from chatbot_conversation.knowledge.service import KnowledgeService
from chatbot_conversation.settings import EmbeddingSettings, Settings, VectorSettings
from chatbot_conversation.turns.service import TurnService
from chatbot_conversation.vectors import VectorStore
from chatbot_conversation.vectors.pgvector import PGVectorStore


@dataclass(frozen=True, slots=True)
class Context:
    database: Database
    embedder: Embedder
    vectors: VectorStore
    knowledge: KnowledgeService
    turns: TurnService
    signs: Database
    """For signs of life, which must not wait behind a thousand replies for a connection."""

    async def close(self) -> None:
        await self.embedder.close()
        await self.vectors.close()
        await self.signs.close()
        await self.database.close()


def make_context(settings: Settings, *, pool_size: int, max_overflow: int) -> Context:
    """Nothing is connected or loaded yet.

    Raises:
        ValueError: the settings name something that does not exist or does not fit together.
    """
    url = settings.database_url.get_secret_value()
    database = Database(url, pool_size=pool_size, max_overflow=max_overflow)
    signs = Database(url, pool_size=1, max_overflow=0, observed=False)
    embedder = make_embedder(settings)
    vectors = make_vectors(settings, database)
    knowledge = KnowledgeService(database, embedder, vectors)
    turns = TurnService(database, signs, knowledge, settings.turn_seconds)
    return Context(database, embedder, vectors, knowledge, turns, signs)


def make_embedder(settings: Settings) -> Embedder:
    match settings.embeddings:
        case EmbeddingSettings(type="Local", dimensions=LocalEmbedder.dimensions):
            return Measured(LocalEmbedder(), "local", LocalEmbedder.name)
        case EmbeddingSettings(type="Local", dimensions=dimensions):
            raise ValueError(f"the bundled model has {LocalEmbedder.dimensions} dimensions, not {dimensions}")
        case EmbeddingSettings(base_url=str(base_url), model=str(model), dimensions=dimensions):
            # Imported here: an HTTP client costs memory that the bundled model has no use for.
            from chatbot_conversation.embeddings.openai_compatible import OpenAICompatibleEmbedder

            key = settings.embeddings_key.get_secret_value() if settings.embeddings_key else None
            embedder = OpenAICompatibleEmbedder(base_url, model, dimensions, key)
            return Measured(embedder, "openai", model, base_url)
        case _:
            raise ValueError("embeddings of type OpenAICompatible need base_url and model")


def make_vectors(settings: Settings, database: Database) -> VectorStore:
    dimensions = settings.embeddings.dimensions
    match settings.vectors:
        case VectorSettings(type="PGVector"):
            return PGVectorStore(database, dimensions)
        case VectorSettings(url=str(url), grpc_port=grpc_port):
            # Imported here: the client costs a second and 30 MB that a laptop has no use for.
            from chatbot_conversation.vectors.weaviate import WeaviateStore

            key = settings.weaviate_key.get_secret_value() if settings.weaviate_key else None
            return WeaviateStore(settings.bot, dimensions, url, grpc_port, key)
        case _:
            raise ValueError("a vector store of type Weaviate needs a url")
