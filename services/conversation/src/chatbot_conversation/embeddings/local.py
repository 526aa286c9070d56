"""The bundled model as an `Embedder`: loaded when first needed, run in threads, two at most."""

import asyncio
import functools
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chatbot_conversation.embeddings.minilm import MiniLM

CONCURRENCY = 2

_loading = threading.Lock()


class LocalEmbedder:
    name = "all-MiniLM-L6-v2"
    dimensions = 384

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        async with self._slots:
            return await asyncio.to_thread(lambda: _model().encode(texts))

    async def close(self) -> None: ...


def _model() -> "MiniLM":
    with _loading:
        return _load()


@functools.cache
def _load() -> "MiniLM":
    """The process's one copy of the model."""
    # Threads of our own already use the cores; more inside BLAS and the tokenizer only cost memory.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from chatbot_conversation.embeddings.minilm import MiniLM, model_folder

    return MiniLM(model_folder())
