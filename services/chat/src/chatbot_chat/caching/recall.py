"""One answer and the cache: given from there, or heard while a model gives it, and then kept if it may be."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from opentelemetry import trace

from chatbot_chat.agent import AgentEvent
from chatbot_chat.caching.kept import Answer
from chatbot_chat.providers import Chosen, Finish, ReasoningDelta, TextDelta, Usage

Keep = Callable[[Answer], Awaitable[None]]
_SAID: dict[str, type[TextDelta | ReasoningDelta]] = {"text": TextDelta, "reasoning": ReasoningDelta}


class Recall:
    """Without anything it is no cache at all: events pass, nothing is kept.

    Args:
        model: that was asked for; a fallback's answer is not kept, for it is only there until that one is back.
        found: the answer that there is.
        keep: takes the answer that is to be kept.
        status: for the header `Cache-Status` (RFC 9211).
    """

    def __init__(
        self, model: str = "", found: Answer | None = None, keep: Keep | None = None, status: str | None = None
    ) -> None:
        self._model = model
        self.found = found
        self._keep = keep
        self._heard: Answer | None = None
        self.headers = {"Cache-Status": f"chatbot; {status}"} if status else {}

    @property
    def hit(self) -> bool:
        return self.found is not None

    @property
    def keeps(self) -> bool:
        """Whether an answer that may be kept is wanted."""
        return self._keep is not None

    def through(
        self, events: AsyncGenerator[AgentEvent, None], given: Callable[[str], None]
    ) -> AsyncGenerator[AgentEvent, None]:
        """The answer that there is, or these events. `given` is told of which model it is, once all of it was taken."""
        if self.found is not None:
            return self._again(self.found, given)
        return self._listened(events) if self._keep else events

    async def keep(self) -> None:
        """Once it is known that the answer is whole, and nothing is said against it."""
        if self._keep and self._heard:
            await self._keep(self._heard)

    async def keep_bytes(self, body: bytes, content_type: str) -> None:
        """Of a provider's response that was passed on whole."""
        if self._keep:
            with suppress(UnicodeDecodeError):
                await self._keep({"body": body.decode(), "type": content_type})

    async def _again(self, answer: Answer, given: Callable[[str], None]) -> AsyncGenerator[AgentEvent, None]:
        trace.get_current_span().set_attribute("chatbot.cache", "hit")
        yield Chosen(self._model)
        for piece in answer["said"]:
            yield _SAID[piece["type"]](piece["text"])
        yield Usage(**answer["usage"], cached=True)
        yield Finish("stop")
        given(self._model)

    async def _listened(self, events: AsyncGenerator[AgentEvent, None]) -> AsyncGenerator[AgentEvent, None]:
        """Whoever closes this before its end, because the answer is cut short or withheld, has nothing kept."""
        said: list[dict[str, Any]] = []
        usage, plain, reason = Usage(0, 0), True, ""
        async with aclosing(events):
            async for event in events:
                match event:
                    case Chosen(model=model):
                        plain = plain and model == self._model
                    case TextDelta(text=text):
                        _say(said, "text", text)
                    case ReasoningDelta(text=text):
                        _say(said, "reasoning", text)
                    case Usage():
                        usage = event
                    case Finish():
                        reason = event.reason
                    case _:  # what a tool says today it need not say tomorrow
                        plain = False
                yield event
        if plain and reason == "stop" and any(piece["type"] == "text" for piece in said):
            self._heard = {
                "said": said,
                "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
            }


class Replayed:
    """A provider's response that was kept, as it came."""

    status = 200

    def __init__(self, answer: Answer) -> None:
        self.content_type: str = answer["type"]
        self._body: bytes = answer["body"].encode()

    @property
    def content_length(self) -> str:
        return str(len(self._body))

    @property
    def streamed(self) -> bool:
        return "text/event-stream" in self.content_type

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        yield self._body


def _say(said: list[dict[str, Any]], kind: str, text: str) -> None:
    if not said or said[-1]["type"] != kind:
        said.append({"type": kind, "text": ""})
    said[-1]["text"] += text
