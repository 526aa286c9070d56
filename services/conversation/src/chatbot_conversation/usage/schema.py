"""Wire shapes of the ledger, as the chat service writes and reads it, and as administrators see it."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from chatbot_conversation.wire import CleanText, Id, Request, Response

MAX_COUNT = 10**15
"""Of tokens and of millionths: sums of them stay whole numbers everywhere, also in Lua."""

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class Spent(Request):
    """What an attempt has used. `cost` is in millionths of the currency that prices are in.

    `estimated`: the provider did not count, so the words were. `variant` is the user's side of an A/B test,
    `key_id` the API key by which it was asked.
    """

    model: CleanText | None
    input_tokens: Count
    output_tokens: Count
    cost: Count
    estimated: bool
    variant: CleanText | None = None
    key_id: Id | None = None


class Entry(Spent):
    """Of an answer that is not stored, or not by who gave it."""

    user_id: Id
    run_id: Id
    attempt: Annotated[int, Field(ge=1)]
    spent_at: Annotated[AwareDatetime, Field(strict=False)]


class Entries(Request):
    entries: Annotated[list[Entry], Field(max_length=1000)]


class Window(Request):
    """From a moment on; of one user, of one of their API keys, or of all."""

    user_id: Id | None
    key_id: Id | None = None
    since: Annotated[AwareDatetime, Field(strict=False)]


class Windows(Request):
    windows: Annotated[list[Window], Field(min_length=1, max_length=8)]


class Sum(Response):
    """Input and output tokens together. `recent` names what was entered in the last seconds: `run_id:attempt`."""

    tokens: int
    cost: int
    recent: list[str]


class Sums(Response):
    sums: list[Sum]


By = Literal["day", "model", "user", "variant", "key"]


class UsageWindow(BaseModel):
    """Which groups of what is between two moments, `until` excluded. The cursors are ids of groups."""

    model_config = ConfigDict(extra="forbid")

    by: By = "day"
    since: AwareDatetime | None = None
    """Default: 30 days before `until`."""
    until: AwareDatetime | None = None
    """Default: now."""
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    before: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class Usage(Response):
    """Of one group. `id` is a day (UTC), a model, a user's id, a variant or the id of an API key; `-` where
    there is none.

    `cost` is in millionths of the currency that prices are in. Thumbs are those of the answers in between, given
    whenever; they are not told by key.
    """

    id: str
    answers: int
    input_tokens: int
    output_tokens: int
    cost: int
    thumbs_up: int
    thumbs_down: int


class UsagePage(Response):
    object: Literal["list"] = "list"
    data: list[Usage]
    first_id: str | None
    last_id: str | None
    has_more: bool
