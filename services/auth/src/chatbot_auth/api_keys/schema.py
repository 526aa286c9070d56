"""Shapes of API keys on the wire."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal, Self
from uuid import UUID

from chatbot_common.identity import KeyScope
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from chatbot_auth.users.schema import RequestModel, ShortLine

Tokens = Annotated[int, Field(ge=1, le=1_000_000_000_000)]
Cost = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def micros(cost: str | None) -> int | None:
    """Money is counted in millionths, which are whole numbers."""
    return int(Decimal(cost) * 1_000_000) if cost is not None else None


def amount(cost: int | None) -> str | None:
    """`2500000` → `2.5`."""
    return f"{Decimal(cost) / 1_000_000:f}" if cost is not None else None


class KeyBudget(RequestModel):
    """What a key may spend, beside the budgets of its owner and of all. A day and a month begin at midnight UTC; what
    is unset is not bounded. A cost is a text, in the currency of the prices."""

    tokens_per_day: Tokens | None = None
    tokens_per_month: Tokens | None = None
    cost_per_day: Cost | None = None
    cost_per_month: Cost | None = None

    @model_validator(mode="after")
    def _within_the_month(self) -> Self:
        if self.tokens_per_day and self.tokens_per_month and self.tokens_per_day > self.tokens_per_month:
            raise ValueError("tokens_per_day must not exceed tokens_per_month: lower the one, or raise the other")
        if self.cost_per_day and self.cost_per_month and Decimal(self.cost_per_day) > Decimal(self.cost_per_month):
            raise ValueError("cost_per_day must not exceed cost_per_month: lower the one, or raise the other")
        return self


def _to_ask() -> list[KeyScope]:
    return ["chat"]


class NewKeyRequest(RequestModel):
    name: ShortLine
    scopes: list[KeyScope] = Field(default_factory=_to_ask, min_length=1, max_length=8)
    """`chat`: ask and be answered; `conversations`: read, change and delete conversations."""
    expires_at: Annotated[AwareDatetime, Field(strict=False)] | None = None
    budget: KeyBudget = KeyBudget()

    @field_validator("expires_at")
    @classmethod
    def _to_come(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        try:
            value = value.astimezone(UTC)
        except OverflowError:
            raise ValueError("no calendar has this moment in UTC; leave it out for a key that never expires") from None
        if value <= datetime.now(UTC):
            raise ValueError("this moment has passed; a key expires in the future, or never")
        return value


class Key(BaseModel):
    """A key as its owner sees it, without what it is made of."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    prefix: str
    """Its first characters, to tell it from others."""
    scopes: list[KeyScope]
    budget: KeyBudget
    expires_at: datetime | None
    created_at: datetime
    last_used_at: datetime | None
    """To the minute."""


class NewKey(Key):
    key: str
    """The key itself: shown this once, and kept nowhere."""


class KeyList(BaseModel):
    """All of a user's keys, newest first."""

    object: Literal["list"] = "list"
    data: list[Key]
    first_id: UUID | None
    last_id: UUID | None
    has_more: Literal[False] = False


class ExchangeRequest(RequestModel):
    digest: Digest
    """SHA-256 of the key."""


class Exchanged(BaseModel):
    """A token that stands for the key; None where there is no such key, or not any more."""

    access_token: str | None
    expires_at: int = 0
    """Seconds since 1970."""
