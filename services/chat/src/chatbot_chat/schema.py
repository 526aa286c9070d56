"""Wire shapes of the native chat routes."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from chatbot_chat.conversation_client import FinishReason, Turn

MAX_CONTENT = 100_000

Id = Annotated[UUID, Field(strict=False)]
"""JSON has no type for it, so a string is what a strict model must accept."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Text = Annotated[str, StringConstraints(max_length=MAX_CONTENT), AfterValidator(_not_blank)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: Text


class Named(BaseModel):
    """What all requests for an answer share. The same `client_message_id` attaches to the run there is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    client_message_id: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    model: Annotated[str, StringConstraints(max_length=128)] | None = None
    language: Language | None = None
    retry: bool = False
    """Try a failed or interrupted turn again."""


class Regenerate(Named):
    """Answer a question again. Both answers stay: the new one is a sibling of the old."""


class Asking(Named):
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=32)]

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)

    @property
    def parts(self) -> list[dict[str, Any]]:
        if isinstance(self.content, str):
            return [{"type": "text", "text": self.content}]
        return [part.model_dump() for part in self.content]


class Edit(Asking):
    """Ask something else in a question's stead. Both questions stay: the new one is a sibling of the old."""


class SendRequest(Asking):
    """A message to the assistant. The same `client_message_id` never answers twice: it attaches to the run there is."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"content": "What are your opening hours?"}]},
    )

    conversation_id: Id | None = None
    parent_message_id: Id | None = None


class Answer(BaseModel):
    """A finished run. `usage` is tokens as the provider counted them; `finish_reason` says why it is not whole."""

    run_id: UUID
    conversation_id: UUID
    user_message_id: UUID
    message_id: UUID
    content: str
    citations: list[dict[str, Any]]
    usage: dict[str, Any] | None
    finish_reason: FinishReason | None = None


class Approval(BaseModel):
    """The user's answer to a call of a tool."""

    model_config = ConfigDict(extra="forbid", strict=True)

    approved: bool = True


class Question(BaseModel):
    """A call of a tool that waits for the user; `arguments` is JSON as the model wrote it."""

    tool_call_id: str
    name: str
    arguments: str


class RunView(BaseModel):
    """How a run stands. One that `requires_action` goes on once each of `approvals` is answered."""

    run_id: UUID
    attempt: int
    state: Literal["running", "completed", "failed", "cancelled", "interrupted", "requires_action"]
    conversation_id: UUID
    user_message_id: UUID
    message_id: UUID
    deadline: datetime
    content: str | None
    citations: list[dict[str, Any]]
    finish_reason: FinishReason | None = None
    approvals: list[Question] = Field(default_factory=list)


class ModelView(BaseModel):
    name: str
    default: bool
    context_window: int
    max_output_tokens: int


class Models(BaseModel):
    data: list[ModelView]


class ToolView(BaseModel):
    """`asks`: the user must agree to each call. `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]
    asks: bool


class Tools(BaseModel):
    """`missing` names tools and MCP servers that the bot should have, and that are not there now."""

    data: list[ToolView]
    missing: list[str]


def run_view(turn: Turn) -> RunView:
    reply = turn.reply
    return RunView(
        run_id=turn.turn_id,
        attempt=turn.attempt,
        state="running" if turn.state == "started" else turn.state,
        conversation_id=turn.conversation_id,
        user_message_id=turn.user_message_id,
        message_id=turn.reply_message_id,
        deadline=turn.deadline,
        content=reply.text if reply else None,
        citations=reply.citations if reply else [],
        finish_reason=reply.finish_reason if reply else None,
        approvals=[Question.model_validate(call.model_dump()) for call in turn.undecided],
    )
