"""Shapes of signing in and staying signed in."""

from typing import Annotated, Literal

from pydantic import BaseModel, StringConstraints

from chatbot_auth.users.schema import Email, KnownPassword, RequestModel

OpaqueToken = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class LoginRequest(RequestModel):
    email: Email
    password: KnownPassword


class RefreshRequest(RequestModel):
    refresh_token: OpaqueToken | None = None
    """Left out by browsers: theirs is in a cookie."""


class LogoutRequest(RefreshRequest):
    pass


class TokenPair(BaseModel):
    access_token: str
    refresh_token: str | None = None
    """Left out for browsers: theirs is in a cookie that no script can read."""
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - RFC 6749's name of a kind of token
    expires_in: int
    """Seconds the access token lives."""


class PublicKey(BaseModel):
    """A public Ed25519 JWK (RFC 8037)."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    kid: str
    x: str
    alg: Literal["EdDSA"] = "EdDSA"
    use: Literal["sig"] = "sig"


class KeySet(BaseModel):
    keys: list[PublicKey]
