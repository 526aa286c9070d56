"""A provider's open response on its way to our client, as bytes, held to the time that any answer has."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from chatbot_chat.providers.errors import no_answer
from chatbot_chat.providers.openai_chunks import begins
from chatbot_chat.providers.patience import Patience
from chatbot_chat.providers.relaying import Relayed
from chatbot_chat.providers.server_sent import Frames


class Passed:
    """See `RelayedAnswer`. `spoke` is told once that the model does."""

    def __init__(self, answer: Relayed, patience: Patience, spoke: Callable[[], None]) -> None:
        self._answer = answer
        self._patience = patience
        self._spoke = spoke
        self.status = answer.status
        self.content_type = answer.content_type
        self.content_length = answer.content_length
        self.streamed = "text/event-stream" in answer.content_type
        if not self.streamed:
            spoke()

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """A stream's by whole events, and at last what follows them."""
        return self._events() if self.streamed else self._bytes()

    async def _bytes(self) -> AsyncGenerator[bytes, None]:
        self._patience.hear()
        async with aclosing(self._answer.pieces()) as pieces:
            while True:
                self._answer.allow(self._patience.left(0.0))
                if (piece := await anext(pieces, None)) is None:
                    return
                yield piece

    async def _events(self) -> AsyncGenerator[bytes, None]:
        """Only what is waited for counts, and a comment is no more than a silence."""
        clock, waited, frames, silent = asyncio.get_running_loop().time, 0.0, Frames(), True
        async with aclosing(self._answer.pieces()) as pieces:
            while True:
                since = clock()
                self._answer.allow(self._patience.left(waited))
                if (piece := await anext(pieces, None)) is None:
                    break
                events = self._whole(frames, piece)
                waited = waited + clock() - since if frames.quiet(events) else 0.0
                if silent and begins(events):
                    silent = False
                    self._patience.hear()
                    self._spoke()
                if events:
                    yield events
        if rest := frames.rest():
            yield rest

    def _whole(self, frames: Frames, piece: bytes) -> bytes:
        try:
            return frames.feed(piece)
        except ValueError as error:
            raise no_answer(self._answer.provider) from error
