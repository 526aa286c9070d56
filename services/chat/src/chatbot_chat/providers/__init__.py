"""Where answers come from. A provider turns one request into a stream of events; everything else is the turn's."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from chatbot_chat.conversation_client import FinishReason, Knowledge
from chatbot_chat.providers.errors import ProviderError as ProviderError
from chatbot_chat.providers.errors import ProviderOverloaded as ProviderOverloaded
from chatbot_chat.providers.errors import ProviderRefused as ProviderRefused
from chatbot_chat.providers.errors import ProviderTimeout as ProviderTimeout
from chatbot_chat.providers.errors import ProviderUnheld as ProviderUnheld
from chatbot_chat.providers.errors import ProviderUnreachable as ProviderUnreachable

NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}
"""Parameters of a tool that takes none."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the model may call; `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = False
    """Whether calls have to fit the schema exactly."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model wants made. `arguments` is JSON as the model wrote it: whole, and perhaps not valid."""

    id: str
    name: str
    arguments: str
    extra: Mapping[str, Any] | None = None
    """What the provider wants back with the call, unread, and as `by` its name: Gemini refuses a result without its
    `thought_signature`, Anthropic one without the thoughts that led to the call. Nobody else is told it."""


@dataclass(frozen=True, slots=True)
class Message:
    """`tool_calls` are an assistant's; a message of role `tool` is the result of the call `tool_call_id`."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a provider needs for one answer. `model` is the provider's own name; `max_tokens` bounds the answer."""

    model: str
    messages: list[Message]
    question: str
    knowledge: Knowledge = field(default_factory=Knowledge)
    max_tokens: int = 1000
    asked: Mapping[str, Any] = field(default_factory=dict)
    """What else its client has asked for, by OpenAI's names. Who cannot be held to it does not answer: see held.py."""
    wishes: Mapping[str, Any] = field(default_factory=dict)
    """By the same names. Who does not know them, or refuses them, answers without."""
    stop: tuple[str, ...] = ()
    """Texts before which the answer ends."""
    tools: tuple[ToolSpec, ...] = ()
    may_call: bool = True
    """False: the model is told of the tools, because it has used them, and has to answer without another call."""
    must_call: bool | str = False
    """Whether the model has to call a tool; a text names which."""
    parallel: bool = True
    """Whether it may make several calls at once."""
    format: Mapping[str, Any] | None = None
    """In which it has to answer, as `response_format` of chat completions; None is as it likes."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """What the model thinks before it answers, where it shows that."""

    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them. `cached`: for an answer from the cache, so they cost nothing this time.

    `cached_input` are those of `input_tokens` that the provider had in a cache of its own: they may cost less.
    `thoughts` are those of `output_tokens` in which the model thought.
    """

    input_tokens: int
    output_tokens: int
    cached: bool = False
    cached_input: int = 0
    thoughts: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            cached_input=self.cached_input + other.cached_input,
            thoughts=self.thoughts + other.thoughts,
        )

    def as_json(self) -> dict[str, int]:
        counts = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        details = {"cached_input_tokens": self.cached_input, "reasoning_tokens": self.thoughts}
        known = {name: count for name, count in details.items() if count}
        return counts | known | ({"cached": True} if self.cached else {})


@dataclass(frozen=True, slots=True)
class Finish:
    reason: Literal["stop", "length", "content_filter", "tool_calls"]

    @property
    def cut(self) -> FinishReason | None:
        """Why there is not all of it."""
        return self.reason if self.reason == "length" or self.reason == "content_filter" else None


@dataclass(frozen=True, slots=True)
class Taken:
    """The provider has the request, and charges for the prompt from here on, whoever waits. Only routing hears it."""


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes of calls that are told whole later: a provider charges for them also when that is cut off. Only budgets
    hear it."""

    size: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which public model is about to speak; a fallback's, when the one asked for failed before its first word."""

    model: str


ModelEvent = Taken | Written | Chosen | TextDelta | ReasoningDelta | ToolCall | Usage | Finish
SPEECH = (TextDelta, ReasoningDelta, ToolCall)
"""After one of these a client has heard the model: its answer can no longer be replaced by another's."""


class ChatProvider(Protocol):
    """One place where models run. `protocol` is what it speaks, as OpenTelemetry names providers."""

    name: str
    protocol: str

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Events of one answer, `Finish` last; an answer that fails raises `ProviderError`, wherever it stands."""
        ...

    async def close(self) -> None: ...


class RelayedAnswer(Protocol):
    """A provider's open response."""

    status: int

    @property
    def content_type(self) -> str: ...

    @property
    def content_length(self) -> str | None:
        """Of an answer that is not streamed."""
        ...

    @property
    def streamed(self) -> bool:
        """Whether it comes as events; an error does not, whatever was asked for."""
        ...

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """The bytes as they come, once. Raises `ProviderError`."""
        ...


@runtime_checkable
class RelayingProvider(Protocol):
    """A provider that speaks OpenAI's protocol itself, so that its bytes can be passed on as they are."""

    name: str

    def relay(
        self,
        body: Mapping[str, Any],
        spoke: Callable[[], None],
        longest: int | None = None,
        taken: Callable[[], None] | None = None,
    ) -> AbstractAsyncContextManager[RelayedAnswer]:
        """The provider's open response to a chat completion; leaving the block closes it.

        Args:
            spoke: is told once that the model does: when a stream's first words come, or a whole answer.
            longest: tokens of an answer that the client itself has not bounded.
            taken: is told when the request goes out: from there on its prompt costs.

        Raises:
            ProviderError: there is no answer, or one that only concerns us and the provider.
        """
        ...
