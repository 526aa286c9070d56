"""Shapes of sign-in links."""

from pydantic import BaseModel

from chatbot_auth.sessions.schema import OpaqueToken
from chatbot_auth.users.schema import RequestModel


class LinkRequest(RequestModel):
    token: OpaqueToken


class NewLinkRequest(RequestModel):
    """Nothing to choose: a link always signs in the administrator."""


class NewLink(BaseModel):
    token: str
    expires_in: int
    """Seconds the link can be used."""
