"""The port to embeddings: text in, unit vectors out."""

from collections.abc import Sequence
from typing import Protocol


class Embedder(Protocol):
    """`name` changes when vectors stop being comparable; what was indexed under another name is indexed again."""

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector per text, in order, of length `dimensions`. Raises when the model cannot be reached."""
        ...

    async def close(self) -> None: ...
