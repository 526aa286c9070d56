"""Wire shapes of the ledger, as the chat service writes and reads it."""

from typing import Annotated

from pydantic import AwareDatetime, Field

from chatbot_conversation.wire import CleanText, Id, Request, Response

MAX_COUNT = 10**15
"""Of tokens and of millionths: sums of them stay whole numbers everywhere, also in Lua."""

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class Spent(Request):
    """What an attempt has used. `cost` is in millionths of the currency that prices are in.

    `estimated`: the provider did not count, so the words were. `variant` is the user's side of an A/B test.
    """

    model: CleanText | None
    input_tokens: Count
    output_tokens: Count
    cost: Count
    estimated: bool
    variant: CleanText | None = None


class Entry(Spent):
    """Of an answer that is not stored, or not by who gave it."""

    user_id: Id
    run_id: Id
    attempt: Annotated[int, Field(ge=1)]
    spent_at: Annotated[AwareDatetime, Field(strict=False)]


class Entries(Request):
    entries: Annotated[list[Entry], Field(max_length=1000)]


class Window(Request):
    """From a moment on; of one user, or of all."""

    user_id: Id | None
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
