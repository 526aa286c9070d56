"""Internal routes of embeddings: the chat service asks for those of its clients, with the model that search uses."""

from typing import Annotated

import structlog
from chatbot_common.errors import Problem, Unavailable
from chatbot_common.identity import calling_service
from fastapi import APIRouter, Depends, Request

from chatbot_conversation.embeddings import Embedder
from chatbot_conversation.embeddings.schema import Embed, EmbeddingModel, Embeddings

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/internal/embeddings", tags=["embeddings"], dependencies=[Depends(calling_service("chat"))])


async def _embedder(request: Request) -> Embedder:
    embedder: Embedder = request.app.state.embedder
    return embedder


Model = Annotated[Embedder, Depends(_embedder)]


@router.get("")
async def describe(embedder: Model) -> EmbeddingModel:
    """Which model embeds here."""
    return EmbeddingModel(model=_name(embedder), dimensions=embedder.dimensions)


@router.post("")
async def embed(body: Embed, embedder: Model) -> Embeddings:
    """Vectors of texts."""
    try:
        vectors = await embedder.embed(body.texts)
    except Problem:
        raise
    except Exception as error:
        log.warning("embedding failed", error=type(error).__name__)
        raise Unavailable("Texts cannot be embedded right now.") from error
    return Embeddings(model=_name(embedder), dimensions=embedder.dimensions, vectors=vectors)


def _name(embedder: Embedder) -> str:
    """Without the dimensions that tell two of the same model apart."""
    return embedder.name.rpartition("@")[0] or embedder.name
