"""Embeddings from any server that speaks OpenAI's `POST /embeddings`."""

from collections.abc import Sequence
from typing import Any

import httpx2
from chatbot_common.errors import UpstreamFailed

BATCH = 64
TIMEOUT = httpx2.Timeout(30, connect=5)


class OpenAICompatibleEmbedder:
    def __init__(self, base_url: str, model: str, dimensions: int, key: str | None) -> None:
        self.name = f"{model}@{dimensions}"
        self.dimensions = dimensions
        self._model = model
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.AsyncClient(base_url=base_url.rstrip("/") + "/", headers=headers, timeout=TIMEOUT)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Raises `UpstreamFailed` when the server refuses or answers something else than asked."""
        vectors: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            vectors += await self._embed_batch(list(texts[start : start + BATCH]))
        return vectors

    async def close(self) -> None:
        await self._client.aclose()

    async def _embed_batch(self, texts: list[str]) -> list[list[float]]:
        response = await self._client.post("embeddings", json={"model": self._model, "input": texts})
        if response.is_error:
            raise UpstreamFailed(f"The embeddings server answered {response.status_code}.")
        try:
            body: dict[str, Any] = response.json()
            items = sorted(body["data"], key=lambda item: item["index"])
            vectors = [[float(number) for number in item["embedding"]] for item in items]
        except (ValueError, KeyError, TypeError) as error:
            raise UpstreamFailed("The embeddings server answered something that is not embeddings.") from error
        if len(vectors) != len(texts) or any(len(vector) != self.dimensions for vector in vectors):
            raise UpstreamFailed(f"The embeddings server did not answer vectors of {self.dimensions} dimensions.")
        return vectors
