"""Where answers come from. A provider turns one request into a stream of events; everything else is the turn's."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import httpx2
from chatbot_common.errors import Problem

from chatbot_chat.conversation_client import Knowledge


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a provider needs for one answer. `model` is the provider's own name; `max_tokens` bounds the answer."""

    model: str
    messages: list[Message]
    question: str
    knowledge: Knowledge = field(default_factory=Knowledge)
    max_tokens: int = 1000
    temperature: float = 0.7


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Finish:
    reason: Literal["stop", "length", "content_filter"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which public model is about to speak; a fallback's, when the one asked for failed before its first word."""

    model: str


ModelEvent = Chosen | TextDelta | Usage | Finish


class ChatProvider(Protocol):
    """One place where models run."""

    name: str

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Events of one answer, `Finish` last. Raises `ProviderError`."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class RelayingProvider(Protocol):
    """A provider that speaks OpenAI's protocol itself, so that its bytes can be passed on as they are."""

    name: str

    def relay(self, body: Mapping[str, Any]) -> AbstractAsyncContextManager[httpx2.Response]:
        """The provider's open response to a chat completion; leaving the block closes it.

        Raises:
            ProviderError: there is no answer, or one that only concerns us and the provider.
        """
        ...


class ProviderError(Problem):
    """A provider did not answer as it should. The words are ours: the provider's may hold keys or addresses."""

    status, kind, title = 502, "provider-failed", "The model provider failed"


class ProviderUnreachable(ProviderError):
    kind, title = "provider-unreachable", "The model provider cannot be reached"


class ProviderTimeout(ProviderError):
    status, kind, title = 504, "provider-timeout", "The model provider did not answer in time"


class ProviderRefused(ProviderError):
    kind, title = "provider-refused", "The model provider refused the request"


class ProviderOverloaded(ProviderError):
    status, kind, title = 503, "provider-overloaded", "The model provider is busy"
