"""The bundled model as an `Embedder`: loaded when first needed, run in threads, two at most.

Texts that wait for a thread are embedded together, whoever asked for them: many at once cost little more than one.
"""

import asyncio
import functools
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chatbot_common.together import Together

if TYPE_CHECKING:
    from chatbot_conversation.embeddings.minilm import MiniLM

CONCURRENCY = 2
TOGETHER = 64
"""Texts of one go: more would let a question wait for somebody's whole document."""

_loading = threading.Lock()


class LocalEmbedder:
    name = "all-MiniLM-L6-v2"
    dimensions = 384

    def __init__(self) -> None:
        self._together = Together[str, list[float]](_embed, lanes=CONCURRENCY, most=TOGETHER)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return await self._together.ask_all(texts)

    async def close(self) -> None: ...


async def _embed(texts: list[str]) -> list[list[float]]:
    return await asyncio.to_thread(lambda: _model().encode(texts))


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
