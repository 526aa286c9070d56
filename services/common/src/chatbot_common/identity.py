"""Who is calling. Every service checks this itself; none trusts the gateway in front of it.

A *user* travels as a short-lived EdDSA JWT signed by auth (`Authorization: Bearer`): an access token of a session, or
the token that the gateway gets in exchange for an API key. A *service* proves itself with a JWT signed by its own
Ed25519 key (`X-Service-Authorization: Bearer`), valid for one callee and one minute.
"""

import asyncio
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from fastapi import Depends, Request
from jwt.algorithms import OKPAlgorithm

from chatbot_common.errors import Forbidden, Unauthenticated, Unavailable
from chatbot_common.ids import uuid7
from chatbot_common.verified import Verified

log = structlog.get_logger(__name__)

ALGORITHM = "EdDSA"
SERVICE_HEADER = "X-Service-Authorization"
SERVICE_TOKEN_SECONDS = 60
SERVICE_TOKEN_REUSED_SECONDS = 20
"""Signing anew for each call would cost both sides more than most calls."""
JWKS_REFETCH_SECONDS = 30
JWKS_RETRY_SECONDS = 1

Role = Literal["user", "admin"]
KeyScope = Literal["chat", "conversations"]
"""What an API key may be for: to ask and be answered; to read, change and delete its owner's conversations."""
JwksFetch = Callable[[], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """By which its owner asks. `budget` bounds it: a count by its name, such as `tokens_per_day`."""

    id: UUID
    name: str
    scopes: frozenset[str]
    budget: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class User:
    """The verified claims of a user's token. `token` is kept only to call another service for the same user."""

    id: UUID
    email: str
    role: Role
    session_id: UUID | None
    """None where an API key asks."""
    expires_at: int
    token: str
    key: ApiKey | None = None


def decode_key(text: str) -> bytes:
    """32 key bytes from unpadded base64url."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def public_key(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(decode_key(text))


def private_key(text: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(decode_key(text))


def verify_user(token: str, key: Ed25519PublicKey, issuer: str, audience: str) -> User:
    """Check signature, times, issuer and audience of a user's token.

    Raises:
        Unauthenticated: the token is forged, expired, meant for another bot, or not a user's.
    """
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=issuer,
            audience=audience,
            options={"require": ["sub", "email", "role", "type", "exp", "iat", "jti", "iss", "aud"]},
        )
        # Two types, so that a service from before there were keys does not take a key's token for a session's.
        if claims["type"] not in ("access", "key") or claims["role"] not in ("user", "admin"):
            raise Unauthenticated("This is not an access token.")
        by_key = claims["type"] == "key"
        session = None if by_key else UUID(claims["sid"])
        told = _key(claims) if by_key else None
        return User(UUID(claims["sub"]), claims["email"], claims["role"], session, claims["exp"], token, told)
    except jwt.ExpiredSignatureError:
        raise Unauthenticated("The access token has expired; refresh it.") from None
    except (jwt.InvalidTokenError, ValueError, TypeError, KeyError):
        raise Unauthenticated("The access token is not valid; sign in again.") from None


def _key(claims: Mapping[str, Any]) -> ApiKey:
    scopes = frozenset(str(claims["scope"]).split())
    return ApiKey(UUID(claims["key_id"]), claims["key_name"], scopes, claims.get("budget", {}))


class UserVerifier:
    """Verifies access tokens against auth's published keys, without a call per request.

    Keys are fetched again when an unknown key id appears, at most every 30 s (every second while they cannot be read,
    so that requests do not queue up behind one attempt each).
    """

    def __init__(self, fetch_jwks: JwksFetch, issuer: str, audience: str) -> None:
        self._fetch = fetch_jwks
        self._issuer = issuer
        self._audience = audience
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._read = False
        """Whether the last attempt has read them: if not, a token of an unknown key may be as good as any."""
        self._fetch_after = float("-inf")
        self._fetching = asyncio.Lock()
        self._verified = Verified[User]()

    async def verify(self, token: str) -> User:
        """Raises `Unauthenticated`, or `Unavailable` where its key is not known and auth's cannot be read."""
        if known := self._verified.get(token):
            return known
        user = verify_user(token, await self._key(token), self._issuer, self._audience)
        self._verified.put(token, user, user.expires_at)
        return user

    async def _key(self, token: str) -> Ed25519PublicKey:
        try:
            kid = jwt.get_unverified_header(token).get("kid", "")
        except jwt.InvalidTokenError:
            raise Unauthenticated("The access token is not valid; sign in again.") from None
        if kid not in self._keys:
            await self._refresh()
        try:
            return self._keys[kid]
        except KeyError:
            if not self._read:
                raise Unavailable("Sign-in keys cannot be read from the auth service; try again shortly.") from None
            raise Unauthenticated("The access token was signed with an unknown key.") from None

    async def _refresh(self) -> None:
        async with self._fetching:
            if time.monotonic() >= self._fetch_after:
                found = await self._fetched()
                self._keys, self._read = found or self._keys, bool(found)
                self._fetch_after = time.monotonic() + (JWKS_REFETCH_SECONDS if found else JWKS_RETRY_SECONDS)

    async def _fetched(self) -> dict[str, Ed25519PublicKey]:
        """The published keys, none when they cannot be read."""
        try:
            document = await self._fetch()
            keys = {key["kid"]: OKPAlgorithm.from_jwk(key) for key in document["keys"]}
        except Exception as error:
            log.warning("sign-in keys cannot be read", error=type(error).__name__)
            return {}
        return {kid: key for kid, key in keys.items() if isinstance(key, Ed25519PublicKey)}


class ServiceIdentity:
    """This service's own identity, and the public keys of the others."""

    def __init__(self, name: str, key: str, peers: Mapping[str, str]) -> None:
        self.name = name
        self._key = private_key(key)
        self._peers = {peer: public_key(text) for peer, text in peers.items()}
        self._signed: dict[str, tuple[float, str]] = {}
        """By audience: until when the token is used again, and the token."""
        self._verified = Verified[str]()

    def token(self, audience: str) -> str:
        """A token that proves to `audience`, for 40 seconds at least, that this service is calling."""
        until, token = self._signed.get(audience, (0.0, ""))
        if time.time() >= until:
            token = self._sign(audience)
            self._signed[audience] = (time.time() + SERVICE_TOKEN_REUSED_SECONDS, token)
        return token

    def _sign(self, audience: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.name,
            "aud": audience,
            "iat": now,
            "exp": now + SERVICE_TOKEN_SECONDS,
            "jti": str(uuid7()),
            "type": "service",
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def verify(self, token: str) -> str:
        """Name of the calling service. Raises `Unauthenticated`."""
        if known := self._verified.get(token):
            return known
        try:
            issuer = str(jwt.decode(token, options={"verify_signature": False}).get("iss"))
            claims = jwt.decode(
                token,
                self._peers[issuer],
                algorithms=[ALGORITHM],
                audience=self.name,
                issuer=issuer,
                options={"require": ["iss", "aud", "exp", "iat", "type"]},
            )
        except (jwt.InvalidTokenError, KeyError, TypeError):
            raise Unauthenticated("The service token is not valid.") from None
        if claims["type"] != "service":
            raise Unauthenticated("The service token is not valid.")
        self._verified.put(token, issuer, claims["exp"])
        return issuer


@dataclass(frozen=True, slots=True)
class Identity:
    """What `app.state.identity` holds."""

    users: UserVerifier
    service: ServiceIdentity


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization: Bearer` header, None when there is none."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


async def current_user(request: Request) -> User:
    """FastAPI dependency: the signed-in user, else 401; 403 for an API key, to which a route must be opened."""
    return await _user(request)


def user_or_key(*scopes: KeyScope) -> Callable[[Request], Awaitable[User]]:
    """FastAPI dependency: the signed-in user, or the owner of an API key with one of these scopes; else 401 or 403."""

    async def dependency(request: Request) -> User:
        return await _user(request, *scopes)

    return dependency


async def _user(request: Request, *scopes: KeyScope) -> User:
    token = bearer(request.headers.get("Authorization"))
    if token is None:
        raise Unauthenticated("Send an access token: 'Authorization: Bearer <token>'.")
    identity: Identity = request.app.state.identity
    user = await identity.users.verify(token)
    if user.key and user.key.scopes.isdisjoint(scopes):
        needed = f"this needs one with the scope {' or '.join(scopes)}" if scopes else "sign in for that"
        raise Forbidden(f"This API key may not do that; {needed}.")
    return user


async def current_admin(user: Annotated[User, Depends(current_user)]) -> User:
    """FastAPI dependency: a signed-in administrator, else 401 or 403."""
    if user.role != "admin":
        raise Forbidden("Only an administrator may do that.")
    return user


def calling_service(*allowed: str) -> Callable[[Request], Awaitable[str]]:
    """FastAPI dependency for internal routes: only the named services may call."""

    async def dependency(request: Request) -> str:
        token = bearer(request.headers.get(SERVICE_HEADER))
        if token is None:
            raise Unauthenticated("This route is for services of the platform only.")
        identity: Identity = request.app.state.identity
        name = identity.service.verify(token)
        if name not in allowed:
            raise Forbidden(f"Service {name} may not call this route.")
        return name

    return dependency


asking_user = user_or_key("chat")

CurrentUser = Annotated[User, Depends(current_user)]
AskingUser = Annotated[User, Depends(asking_user)]
KeepingUser = Annotated[User, Depends(user_or_key("conversations"))]
AnyUser = Annotated[User, Depends(user_or_key("chat", "conversations"))]
CurrentAdmin = Annotated[User, Depends(current_admin)]
