"""What all request and response bodies of this service share: strict closed models, clean text, pages."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

MAX_TEXT = 200_000
"""Characters of one message."""

Status = Literal["completed", "failed", "cancelled", "interrupted", "requires_action"]
"""How an answer ended; `requires_action`: for now, until the user has said whether tools may be called."""
FinishReason = Literal["length", "content_filter"]
"""Why an answer that is `completed` is not whole: its bound of tokens, or a filter of its provider or ours."""
Role = Literal["user", "assistant"]
Json = dict[str, JsonValue]


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the NUL character")
    return text


def without_nul(value: Any) -> Any:
    """The same JSON value without NUL characters: Postgres stores none, and a model may emit some."""
    match value:
        case str():
            return value.replace("\x00", "")
        case list():
            return [without_nul(item) for item in value]
        case dict():
            return {without_nul(key): without_nul(item) for key, item in value.items()}
        case _:
            return value


Text = Annotated[str, AfterValidator(_no_nul)]
CleanText = Annotated[str, AfterValidator(without_nul)]
CleanJson = Annotated[Json, AfterValidator(without_nul)]
# FastAPI validates parsed JSON as Python objects, where a strict UUID would refuse its own text form.
Id = Annotated[UUID, Field(strict=False)]


class Request(BaseModel):
    """A body from outside: unknown fields and wrong JSON types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Response(BaseModel):
    """A body we send, built from a row or from keyword arguments."""

    model_config = ConfigDict(from_attributes=True)


class Rating(Response):
    """What the reader thinks of an answer."""

    rating: Literal["up", "down"]
    comment: str | None


class Message(Response):
    """One message of a conversation; `parts` and `citations` are stored as the chat service sent them."""

    id: UUID
    conversation_id: UUID
    parent_id: UUID | None
    role: Role
    text: str
    parts: list[Json]
    citations: list[Json]
    status: Status
    model: str | None
    usage: Json | None
    error: str | None
    moderation: Json | None
    """`{flagged, categories, category_scores}` where it was flagged."""
    feedback: Rating | None
    variant: str | None
    """The user's side of an A/B test, where it decided who answers."""
    finish_reason: FinishReason | None
    created_at: datetime


Item = TypeVar("Item", bound=Response)


class Page(Response, Generic[Item]):
    """A stretch of a list; `first_id` and `last_id` are the cursors for `before` and `after`."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: UUID | None
    last_id: UUID | None
    has_more: bool


class Window(BaseModel):
    """Which stretch of a list is wanted. `after` goes on from that item, `before` goes back from it."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: UUID | None = None
    before: UUID | None = None


PageWindow = Annotated[Window, Query()]


class AnyWindow(Protocol):
    """A `Window`, whatever its cursors are."""

    limit: int

    @property
    def after(self) -> object: ...

    @property
    def before(self) -> object: ...


def page_of(rows: list[Any], window: Window, make: Callable[[Any], Item]) -> Page[Item]:
    """Page from up to `limit + 1` rows, which come in reading direction (backwards for `before`)."""
    return Page(**paged(rows, window, make))


def paged(rows: list[Any], window: AnyWindow, make: Callable[[Any], Response]) -> dict[str, Any]:
    """Fields of a page whose cursors may be of another kind."""
    more, rows = len(rows) > window.limit, rows[: window.limit]
    if window.before:
        rows.reverse()
    first, last = (rows[0].id, rows[-1].id) if rows else (None, None)
    return {"data": [make(row) for row in rows], "first_id": first, "last_id": last, "has_more": more}
