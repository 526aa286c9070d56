"""Wire shapes of turns, as the chat service sends and reads them."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from chatbot_conversation.knowledge.schema import Knowledge
from chatbot_conversation.usage.schema import Spent
from chatbot_conversation.wire import (
    MAX_TEXT,
    CleanJson,
    CleanText,
    FinishReason,
    Id,
    Json,
    Request,
    Response,
    Role,
    Status,
    Text,
)

TurnState = Literal["started", "running", "completed", "failed", "cancelled", "interrupted", "requires_action"]
"""`started` is only ever an answer: it tells this caller, and no other, to run the attempt. Stored is `running`."""


HistoryTokens = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""How much of what was said before the caller has use for: as the room for a prompt is counted, 4 bytes a token."""
SOME_TOKENS = 32_000


class Spoken(Request):
    """A message of a conversation that was held elsewhere."""

    role: Role
    text: Annotated[Text, Field(min_length=1, max_length=MAX_TEXT)]


class StartTurn(Request):
    text: Annotated[Text, Field(min_length=1, max_length=MAX_TEXT)]
    parts: list[CleanJson] | None = None
    conversation_id: Id | None = None
    parent_message_id: Id | None = None
    edited_message_id: Id | None = None
    """The question in whose stead this one is asked: it stays, and this one is its sibling."""
    client_message_id: Annotated[Text, Field(min_length=1, max_length=128)]
    language: Annotated[Text, Field(min_length=1, max_length=35)] | None = None
    retry: bool = False
    earlier: Annotated[list[Spoken], Field(max_length=2000)] = Field(default_factory=list)
    """What was said before the question and is not stored yet, oldest first; it is stored with it."""
    options: CleanJson | None = None
    """How the turn is to be answered: the chat service's own, for this and all later attempts."""
    moderation: CleanJson | None = None
    """How the question was flagged, where it was."""
    history_tokens: HistoryTokens = SOME_TOKENS


class Regenerate(Request):
    """Answer a question again, named by itself or by one of its answers. `client_message_id` names this request."""

    conversation_id: Id
    message_id: Id
    client_message_id: Annotated[Text, Field(min_length=1, max_length=128)]
    retry: bool = False
    options: CleanJson | None = None
    """As of `StartTurn`."""
    history_tokens: HistoryTokens = SOME_TOKENS


class HistoryMessage(Response):
    role: Role
    text: str


class Reply(Response):
    text: str
    parts: list[Json]
    status: Status
    citations: list[Json]
    model: str | None
    usage: Json | None
    error: str | None
    finish_reason: FinishReason | None


class WaitingCall(Request):
    """A call of a tool that the user must agree to; `approved` is None until they have answered."""

    tool_call_id: Annotated[Text, Field(min_length=1, max_length=128)]
    name: CleanText
    arguments: CleanText
    approved: bool | None = None


class Waiting(Request):
    """What an attempt that ended as `requires_action` waits for; `resume` is the chat service's own, for the next."""

    calls: Annotated[list[WaitingCall], Field(min_length=1, max_length=64)]
    resume: CleanJson


class Approval(Request):
    """The user's answer."""

    tool_call_id: Annotated[Text, Field(min_length=1, max_length=128)]
    approved: bool
    history_tokens: HistoryTokens = SOME_TOKENS


class Turn(Response):
    """What the chat service needs to run a turn, or to repeat how it ended.

    `history`, `summary`, `instructions`, `model` and `knowledge` are filled only for the caller that is told `started`.
    `model` is who answers where the request names none: the one that has given the answer that is wanted again, or the
    one that the user has chosen for the conversation.
    `waiting` is there while calls of tools wait, and for the caller whose answer to the last one `started` the turn.
    """

    turn_id: UUID
    attempt: int
    state: TurnState
    conversation_id: UUID
    user_message_id: UUID
    reply_message_id: UUID
    deadline: datetime
    text: str
    options: Json | None = None
    history: list[HistoryMessage] = Field(default_factory=list)
    summary: str | None = None
    instructions: str | None = None
    model: str | None = None
    knowledge: Knowledge = Knowledge()
    waiting: Waiting | None = None
    reply: Reply | None = None


class ToldMessage(Response):
    id: UUID
    role: Role
    text: str


class Told(Response):
    """A turn's question, and before it what came along with that."""

    messages: list[ToldMessage]


class Usage(Request):
    input_tokens: Annotated[int, Field(ge=0)]
    output_tokens: Annotated[int, Field(ge=0)]
    cached_input_tokens: Annotated[int, Field(ge=0)] | None = None
    """Those of the input that the provider had in a cache of its own."""
    reasoning_tokens: Annotated[int, Field(ge=0)] | None = None
    """Those of the output in which the model thought."""
    cached: Literal[True] | None = None
    """The answer is one that was given before: it has cost nothing."""


class StoreReply(Request):
    attempt: Annotated[int, Field(ge=1)]
    status: Status
    text: CleanText
    parts: list[CleanJson]
    citations: list[CleanJson]
    usage: Usage | None
    model: CleanText | None
    error: CleanText | None
    moderation: CleanJson | None = None
    """How the answer was flagged, where it was."""
    variant: CleanText | None = None
    """The user's side of an A/B test, where it decided who answers."""
    finish_reason: FinishReason | None = None
    spent: Spent | None = None
    """What goes into the ledger with it; None when no model was asked."""
    abandoned: bool = False
    """Sent by another process than the one that answered, which is taken for dead: counts only while it is overdue."""
    waiting: Waiting | None = None

    @model_validator(mode="after")
    def _waits_for_something(self) -> Self:
        if (self.status == "requires_action") != (self.waiting is not None):
            raise ValueError("waiting is for status requires_action, which needs it")
        return self


class Attempt(Request):
    turn_id: Id
    attempt: Annotated[int, Field(ge=1)]


class Renewal(Request):
    """The attempts that a process of the chat service is working on."""

    turns: Annotated[list[Attempt], Field(max_length=10_000)]


class AbandonedTurn(Response):
    turn_id: UUID
    attempt: int


class Leases(Response):
    """`lost`: attempts of the caller that are not running any more. `abandoned`: anybody's, whose lease has ended."""

    lost: list[UUID]
    abandoned: list[AbandonedTurn]


class StoredReply(Response):
    state: Status
    message_id: UUID
    user_id: UUID
