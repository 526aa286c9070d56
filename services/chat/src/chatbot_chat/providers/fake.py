"""Repeats the question, word by word: to try the platform, or its speed under load, without a model. No network."""

import re
from collections.abc import AsyncGenerator

from chatbot_chat.providers import Finish, ModelEvent, ModelRequest, TextDelta, Usage
from chatbot_chat.tokens import estimate_tokens


class Fake:
    """The provider behind models of type `Fake`; a resource with profile Production cannot have one."""

    protocol = "fake"

    def __init__(self, name: str) -> None:
        self.name = name

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        text = f"You said: {request.question}"
        for piece in re.findall(r"\S+\s*|\s+", text):
            yield TextDelta(piece)
        yield Usage(sum(estimate_tokens(message.content) for message in request.messages), estimate_tokens(text))
        yield Finish("stop")

    async def close(self) -> None:
        """Nothing is held."""
