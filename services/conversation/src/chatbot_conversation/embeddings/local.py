"""The bundled model as an `Embedder`: loaded when first needed, run in threads, two at most.

Texts that wait for a thread are embedded together, whoever asked for them: many at once cost little more than one.
"""

import asyncio
import functools
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

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
        self._waiting: list[tuple[str, asyncio.Future[list[float]]]] = []
        self._free = CONCURRENCY
        self._working = set[asyncio.Task[None]]()

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        loop = asyncio.get_running_loop()
        wanted = [(text, loop.create_future()) for text in texts]
        self._waiting += wanted
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._work())
            self._working.add(task)
            task.add_done_callback(self._working.discard)
        return list(await asyncio.gather(*(vector for _, vector in wanted)))

    async def _work(self) -> None:
        """Embeds until nobody waits. A task of its own: who asked first may leave, and others wait with them."""
        while self._waiting:
            batch, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
            await _embed(batch)
        self._free += 1

    async def close(self) -> None: ...


async def _embed(batch: list[tuple[str, asyncio.Future[list[float]]]]) -> None:
    """Settle all of the batch, one way or the other."""
    try:
        vectors: list[list[float]] = await asyncio.to_thread(lambda: _model().encode([text for text, _ in batch]))
    except Exception as error:
        for _, vector in batch:
            if not vector.done():
                vector.set_exception(error)
        return
    for (_, vector), found in zip(batch, vectors, strict=True):
        if not vector.done():  # whoever wanted it may have left
            vector.set_result(found)


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
