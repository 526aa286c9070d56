"""Wire shapes of conversations."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from chatbot_conversation.wire import Request, Response, Role, Status, Text

Title = Annotated[Text, Field(min_length=1, max_length=200)]
Model = Annotated[Text, Field(min_length=1, max_length=128)]
"""A name as the chat service lists it, which alone knows which there are."""
Tag = Annotated[Text, Field(min_length=1, max_length=50)]
Tags = Annotated[list[Tag], Field(max_length=20), AfterValidator(lambda tags: list(dict.fromkeys(tags)))]


class NewConversation(Request):
    title: Title = "New conversation"
    tags: Tags = Field(default_factory=list)
    language: Annotated[Text, Field(min_length=1, max_length=35)] | None = None
    model: Model | None = None
    """Who answers questions that name none; the default where it is None."""


class ConversationChanges(Request):
    """Only what is sent changes."""

    title: Title | None = None
    archived: bool | None = None
    tags: Tags | None = None
    model: Model | None = None
    """Null: the default answers again."""

    @property
    def values(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True) | self.model_dump(include={"model"}, exclude_unset=True)


class GivenFeedback(Request):
    """What the reader of an answer thinks of it."""

    rating: Literal["up", "down"]
    comment: Annotated[Text, Field(max_length=2000)] | None = None


class Feedback(Response):
    message_id: UUID
    rating: Literal["up", "down"]
    comment: str | None
    created_at: datetime
    updated_at: datetime


class LastMessage(Response):
    """The newest message, its text cut to 200 characters."""

    id: UUID
    role: Role
    text: str
    status: Status
    created_at: datetime


class Conversation(Response):
    id: UUID
    title: str
    language: str | None
    archived: bool
    tags: list[str]
    model: str | None
    message_count: int
    last_message: LastMessage | None
    created_at: datetime
    updated_at: datetime
    """When it was last spoken in, or changed."""
