"""What clients send to `/v1/responses`. Unknown fields are tolerated; what would be answered wrongly is refused."""

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from chatbot_chat.openai_api.raw import Refused
from chatbot_chat.openai_api.schema import ChatMessage, ContentPart

Name = Annotated[str, StringConstraints(max_length=64)]
Value = Annotated[str, StringConstraints(max_length=512)]
MAX_ITEMS = 2000
TEXTS = ("input_text", "output_text", "text")
ROLES = ("user", "assistant", "system", "developer")
SKIPPED = ("reasoning",)
"""Items that clients send back as they got them, and that no model here needs."""


class InputItem(BaseModel):
    """A message; `type` may be missing."""

    model_config = ConfigDict(extra="allow")

    type: str = "message"
    role: str = ""
    content: str | list[ContentPart] | None = None

    @property
    def text(self) -> str:
        """Raises `Refused` for what is not text."""
        if not isinstance(self.content, list):
            return self.content or ""
        for part in self.content:
            if part.get("type") not in TEXTS:
                raise Refused("input", f"Only text is understood here, not {str(part.get('type'))[:40]!r}.")
        return "\n".join(str(part.get("text", "")) for part in self.content)


class ConversationName(BaseModel):
    id: UUID


def _no_tools(tools: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    if tools:
        raise ValueError(
            "tools of the client are taken by /v1/chat/completions only; the assistant's own need not be named"
        )
    return tools


def _plain(text: dict[str, Any] | None) -> dict[str, Any] | None:
    form = (text or {}).get("format")
    if isinstance(form, dict) and form.get("type", "text") != "text":
        raise ValueError("only format type text is given here; /v1/chat/completions takes response_format")
    return text


class ResponseRequest(BaseModel):
    """A response. It is stored unless `store` is false, as OpenAI has it; then it is a turn of a conversation."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"model": "demo", "input": "Hello"}]})

    model: str
    input: str | list[InputItem]
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: UUID | ConversationName | None = None
    """One of the native face, to go on with."""
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    metadata: Annotated[dict[Name, Value], Field(max_length=16)] | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    tools: Annotated[list[dict[str, Any]] | None, AfterValidator(_no_tools)] = None
    text: Annotated[dict[str, Any] | None, AfterValidator(_plain)] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.previous_response_id and self.conversation:
            raise ValueError("previous_response_id and conversation exclude each other")
        if self.store is False:
            for field in ("background", "previous_response_id", "conversation"):
                if getattr(self, field):
                    raise ValueError(f"{field} needs store: true; what is not stored has to be sent along in input")
        return self

    @property
    def stored(self) -> bool:
        return self.store is not False

    @property
    def conversation_id(self) -> UUID | None:
        return self.conversation.id if isinstance(self.conversation, ConversationName) else self.conversation

    @property
    def messages(self) -> list[ChatMessage]:
        """What is asked and was said before, instructions first. Raises `Refused`."""
        items = [InputItem(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        if len(items) > MAX_ITEMS:
            raise Refused("input", f"At most {MAX_ITEMS} items are taken at once.")
        said = [_message(item) for item in items if item.type not in SKIPPED]
        if not said or said[-1].role != "user" or not said[-1].text.strip():
            raise Refused("input", "The last item of input must be a user's text.")
        return [ChatMessage(role="system", content=self.instructions), *said] if self.instructions else said


def _message(item: InputItem) -> ChatMessage:
    if item.type != "message" or item.role not in ROLES:
        known = ", ".join(ROLES)
        raise Refused(
            "input", f"Items of input are messages of {known}; this one is {(item.role or item.type)[:40]!r}."
        )
    return ChatMessage(role=item.role, content=item.text)
