"""Shapes of accounts on the wire, and the rules for what people type about themselves."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from chatbot_common.identity import Role
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

PASSWORD_MIN = 8
PASSWORD_MAX = 256

# Only a message proves an address; this stops slips and control characters. Lower case: one mailbox, one account.
Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        to_lower=True,
        max_length=255,
        pattern=r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f.]+(\.[^@\s\x00-\x1f\x7f.]+)*$",
    ),
]
NewPassword = Annotated[SecretStr, Field(min_length=PASSWORD_MIN, max_length=PASSWORD_MAX)]
# Shorter than a new one is not worth its own error: it is simply wrong.
KnownPassword = Annotated[SecretStr, Field(min_length=1, max_length=PASSWORD_MAX)]

_LINE = r"^[^\x00-\x1f\x7f]+$"
ShortLine = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=_LINE)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_LINE)]


class RequestModel(BaseModel):
    """A request body: unknown fields are refused, types are JSON's own."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class RegisterRequest(RequestModel):
    email: Email
    password: NewPassword
    username: ShortLine | None = None
    name: Name | None = None


class Me(BaseModel):
    """The signed-in person, as they may see themselves."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    username: str | None
    name: str | None
    role: Role
    language: str
    timezone: str
    created_at: datetime
    last_login_at: datetime | None
