"""The port to the vector store: it holds ids and vectors only, and can be rebuilt from Postgres at any time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

Collection = Literal["knowledge", "messages"]
KNOWLEDGE: Collection = "knowledge"
"""Shared by all users; no tenant."""
MESSAGES: Collection = "messages"
"""One tenant per user, named by the user's id."""

Vector = Sequence[float]


@dataclass(frozen=True, slots=True)
class Hit:
    """A vector near the one searched for. `score` is cosine similarity, clipped to 0..1."""

    id: UUID
    score: float


class VectorStore(Protocol):
    """`tenant` is None for a shared collection. Nobody finds another tenant's vectors.

    Every method connects when it has to, and raises `Unavailable` when the store does not answer in time.
    """

    async def ensure(self) -> None:
        """Create what is missing; safe to run from several places at once."""
        ...

    async def generation(self) -> str:
        """Names the present life of the knowledge collection: another one when it was lost and made anew.

        What was indexed under another generation is not there and has to be indexed again.
        """
        ...

    async def upsert(self, collection: Collection, tenant: UUID | None, vectors: dict[UUID, Vector]) -> None: ...

    async def search(self, collection: Collection, tenant: UUID | None, vector: Vector, limit: int) -> list[Hit]:
        """Nearest vectors, best first."""
        ...

    async def delete(self, collection: Collection, tenant: UUID | None, ids: Sequence[UUID]) -> None: ...

    async def ping(self) -> None:
        """Raises when the store cannot answer."""
        ...

    async def close(self) -> None: ...
