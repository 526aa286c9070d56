"""A provider's open response on its way to our client, as bytes, held to the time that any answer has."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from chatbot_chat.providers.openai_chunks import FirstWords, is_comment
from chatbot_chat.providers.patience import Patience
from chatbot_chat.providers.relaying import Relayed


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

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Only what is waited for counts, and a comment is no more than a silence."""
        clock, waited = asyncio.get_running_loop().time, 0.0
        beginning = FirstWords() if self.streamed else None
        if beginning is None:
            self._patience.hear()
        async with aclosing(self._answer.pieces()) as pieces:
            while True:
                since = clock()
                self._answer.allow(self._patience.left(waited))
                piece = await anext(pieces, None)
                if piece is None:
                    return
                waited = waited + clock() - since if self.streamed and is_comment(piece) else 0.0
                if beginning and beginning.heard(piece):
                    beginning = None
                    self._patience.hear()
                    self._spoke()
                yield piece
