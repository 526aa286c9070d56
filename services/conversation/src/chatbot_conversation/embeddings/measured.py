"""An embedder, each call of which is measured and traced, whoever needs vectors."""

from collections.abc import Sequence

from chatbot_common.genai import Operation
from opentelemetry import trace

from chatbot_conversation.embeddings import Embedder

tracer = trace.get_tracer(__name__)


class Measured:
    """`provider` is the protocol by which it is asked; `url` where, None inside of this process."""

    def __init__(self, embedder: Embedder, provider: str, model: str, url: str | None = None) -> None:
        self._embedder = embedder
        self._operation = Operation("embeddings", provider, model, url)

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        with self._operation.measured(tracer) as span:
            span.set_attribute("gen_ai.embeddings.dimension.count", self.dimensions)
            return await self._embedder.embed(texts)

    async def close(self) -> None:
        await self._embedder.close()
