"""Bodies the gateway writes itself."""

from typing import Literal

from pydantic import BaseModel


class Ticket(BaseModel):
    """Opens one socket, within `expires_in` seconds."""

    ticket: str
    expires_in: int


class ServiceHealth(BaseModel):
    """How one service is, by its own account."""

    status: Literal["ok", "degraded", "unreachable", "failing"]
    """`failing`: it answers, but not with its health."""
    checks: dict[str, str] = {}
    """Dependency → `ok` or the kind of error."""


class Health(BaseModel):
    """How everything is."""

    status: Literal["ok", "degraded"]
    services: dict[str, ServiceHealth]
