"""Keys and tokens for tests: what auth and the operator would have made."""

import json
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import jwt
from chatbot_common.ids import uuid7
from chatbot_resource.configuration import OPERATOR, SERVICES
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

BOT = "demo"


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(frozen=True)
class KeyPair:
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def private_text(self) -> str:
        return _text(self.private.private_bytes_raw())

    @property
    def public_text(self) -> str:
        return _text(self.private.public_key().public_bytes_raw())


@dataclass(frozen=True)
class Keys:
    """Auth's signing key and one pair per service."""

    user: KeyPair = field(default_factory=KeyPair)
    services: dict[str, KeyPair] = field(default_factory=lambda: {name: KeyPair() for name in (*SERVICES, OPERATOR)})

    @property
    def public(self) -> dict[str, str]:
        return {name: pair.public_text for name, pair in self.services.items()}

    @property
    def signing_keys(self) -> str:
        """Content of auth's `signing_keys` secret."""
        jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": self.user.public_text, "d": self.user.private_text}
        return json.dumps({"current": "k1", "keys": [jwk]})

    def jwks_app(self) -> Starlette:
        """Serves the public key set the way auth does."""
        jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": self.user.public_text, "alg": "EdDSA", "use": "sig"}

        async def jwks(_: Request) -> JSONResponse:
            return JSONResponse({"keys": [jwk]})

        return Starlette(routes=[Route("/api/v1/.well-known/jwks.json", jwks)])

    def access_token(self, user_id: UUID | None = None, role: str = "user", **overrides: Any) -> str:
        """A token as auth would sign it; `overrides` replace claims."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "sub": str(user_id or uuid7()),
            "email": "ada@example.com",
            "role": role,
            "type": "access",
            "iat": now,
            "exp": now + 900,
            "jti": str(uuid7()),
            "iss": BOT,
            "aud": BOT,
            "sid": str(uuid7()),
        }
        return jwt.encode(claims | overrides, self.user.private, algorithm="EdDSA", headers={"kid": "k1"})

    def key_token(self, user_id: UUID, key_id: UUID | None = None, scope: str = "chat", **budget: int) -> str:
        """A token as auth would sign it for the API key `ci`."""
        named = str(key_id or uuid7())
        return self.access_token(user_id, type="key", key_id=named, key_name="ci", scope=scope, budget=budget)

    def bearer(self, user_id: UUID | None = None, role: str = "user") -> dict[str, str]:
        """Headers of a signed-in user."""
        return {"Authorization": f"Bearer {self.access_token(user_id, role)}"}

    def service_token(self, name: str, audience: str) -> str:
        """A token with which service `name` calls service `audience`."""
        now = int(time.time())
        claims = {"iss": name, "aud": audience, "iat": now, "exp": now + 60, "jti": str(uuid7()), "type": "service"}
        return jwt.encode(claims, self.services[name].private, algorithm="EdDSA")

    def service_headers(self, name: str, audience: str) -> dict[str, str]:
        return {"X-Service-Authorization": f"Bearer {self.service_token(name, audience)}"}
