"""The keys access tokens are signed with: one signs, all are published, so that keys can be exchanged without a gap.

To exchange a key: add the next one and wait until verifiers have seen it, make it current, and remove the old one when
its last token has expired.
"""

import time
from base64 import urlsafe_b64encode
from typing import Any, Literal, Self
from uuid import UUID

import jwt
from chatbot_common.identity import ALGORITHM, private_key
from chatbot_common.ids import uuid7
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from chatbot_auth.sessions.schema import KeySet, PublicKey
from chatbot_auth.tables import Account, ApiKey


class _PrivateJwk(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    kid: str = Field(min_length=1)
    x: str
    d: SecretStr

    def private(self) -> Ed25519PrivateKey:
        return private_key(self.d.get_secret_value())

    def public(self) -> PublicKey:
        return PublicKey(kid=self.kid, x=self.x)

    @model_validator(mode="after")
    def _halves_match(self) -> Self:
        raw = self.private().public_key().public_bytes_raw()
        if urlsafe_b64encode(raw).rstrip(b"=").decode() != self.x:
            raise ValueError("x is not the public half of d")
        return self


class _SigningKeys(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    current: str
    keys: list[_PrivateJwk]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        kids = [key.kid for key in self.keys]
        if len(set(kids)) != len(kids):
            raise ValueError("two keys have the same kid")
        if self.current not in kids:
            raise ValueError("current names no key")
        return self


class SigningKeys:
    """Signs access tokens of one bot."""

    def __init__(self, document: SecretStr, issuer: str, audience: str, seconds: int) -> None:
        """Read `Settings.signing_keys`. Raises `pydantic.ValidationError`, which holds no key material."""
        parsed = _SigningKeys.model_validate_json(document.get_secret_value())
        self._kid = parsed.current
        self._key = next(key.private() for key in parsed.keys if key.kid == parsed.current)
        self._issuer = issuer
        self._audience = audience
        self.seconds = seconds
        self.public = KeySet(keys=[key.public() for key in parsed.keys])

    def access_token(self, account: Account, session_id: UUID) -> str:
        """A token that says who this is, for `seconds` from now."""
        own = {"type": "access", "role": account.role, "sid": str(session_id)}
        return self._signed(account, int(time.time()) + self.seconds, own)

    def key_token(self, account: Account, key: ApiKey, expires_at: int) -> str:
        """A token that says whose API key this is and what it may do: never what only an administrator may."""
        own: dict[str, Any] = {"type": "key", "role": "user", "scope": " ".join(key.scopes)}
        own |= {"key_id": str(key.id), "key_name": key.name, "budget": key.budget}
        return self._signed(account, expires_at, own)

    def _signed(self, account: Account, expires_at: int, own: dict[str, Any]) -> str:
        claims = {
            "sub": str(account.id),
            "email": account.email,
            "iat": int(time.time()),
            "exp": expires_at,
            "jti": str(uuid7()),
            "iss": self._issuer,
            "aud": self._audience,
        }
        return jwt.encode(claims | own, self._key, algorithm=ALGORITHM, headers={"kid": self._kid})
