"""Wire shapes of `/v1`. Unknown fields are tolerated, as OpenAI's clients expect; the provider judges them, see `asked`
and providers/held.py."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

ContentPart = dict[str, Any]


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[ContentPart] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The text of the message; parts of other kinds are left out."""
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")
        return self.content or ""

    @property
    def others(self) -> list[str]:
        """The kinds of its parts that are no text."""
        parts = self.content if isinstance(self.content, list) else []
        return [str(part.get("type"))[:40] for part in parts if part.get("type") not in ("text", "refusal")]


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = None


class CompletionRequest(BaseModel):
    """A chat completion. `max_tokens` and `max_completion_tokens` both bound the answer."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [{"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}]},
    )

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    logprobs: bool | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with how much was used."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def parallel(self) -> bool:
        """Whether several calls may be made at once."""
        return self.parallel_tool_calls is not False

    @property
    def format(self) -> dict[str, Any] | None:
        """None is plain text."""
        plain = (self.response_format or {}).get("type", "text") == "text"
        return None if plain else self.response_format

    @property
    def asked(self) -> dict[str, Any]:
        """What nobody here reads: how the model is to answer, for who answers to be held to."""
        own = {"temperature": self.temperature, "top_p": self.top_p, "logprobs": self.logprobs}
        return {name: value for name, value in (own | (self.model_extra or {})).items() if value is not None}

    @property
    def answer_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens
