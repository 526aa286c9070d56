"""Who may pass, and to where: the routing table, the anonymous routes, identity and limits. No bytes move here."""

from dataclasses import dataclass
from typing import Literal

from chatbot_common.errors import NotFound, TooManyRequests, Unauthenticated
from chatbot_common.identity import UserVerifier, bearer
from starlette.datastructures import Headers
from starlette.types import Scope

from chatbot_gateway.api_keys import PREFIX, ApiKeys, WrongKey
from chatbot_gateway.edge import Exchange
from chatbot_gateway.limits import Limiter, subject_of_address

ServiceName = Literal["auth", "chat", "conversation"]
SERVICES: tuple[ServiceName, ...] = ("auth", "chat", "conversation")

# In order: the first prefix that fits decides. `/internal` is in none of them.
PREFIXES: tuple[tuple[str, ServiceName], ...] = (
    ("/api/v1/auth", "auth"),
    ("/api/v1/users", "auth"),
    ("/api/v1/admin/usage", "conversation"),
    ("/api/v1/admin", "auth"),
    ("/api/v1/.well-known", "auth"),
    ("/api/v1/chat", "chat"),
    ("/api/v1/conversations/{conversation_id}/messages/{message_id}/regenerate", "chat"),
    ("/api/v1/conversations/{conversation_id}/messages/{message_id}/edit", "chat"),
    ("/v1", "chat"),
    ("/api/v1", "conversation"),
)

# By their method, these go elsewhere than their prefix says.
EXCEPTIONS: tuple[tuple[str, str, ServiceName], ...] = (("DELETE", "/api/v1/conversations/{conversation_id}", "chat"),)

# The only routes that need no token. A new one is added here on purpose or asks for a token.
ANONYMOUS = frozenset(
    (
        ("POST", "/api/v1/auth/register"),
        ("POST", "/api/v1/auth/login"),
        ("POST", "/api/v1/auth/refresh"),
        ("POST", "/api/v1/auth/logout"),
        ("POST", "/api/v1/auth/link"),
        ("GET", "/api/v1/.well-known/jwks.json"),
    )
)


@dataclass(frozen=True, slots=True)
class Door:
    """Lets a request pass or raises the reason why not."""

    users: UserVerifier
    limiter: Limiter
    keys: ApiKeys

    async def admit(self, scope: Scope, current: Exchange) -> None:
        """Check path, credential and limits; what is left of the limits goes onto the answer.

        In the request's headers an API key is replaced by the token that stands for it.

        Raises:
            NotFound: the path could mean something else to the service than it means here.
            Unauthenticated: no token or API key, or not a valid one.
            Unavailable: auth's signing keys were never reached, or an API key cannot be checked.
            TooManyRequests: a limit is used up.
        """
        _refuse_ambiguous(scope["path"])
        try:
            subject = await self._subject(scope, current)
        except Unauthenticated as refusal:
            # Guessing costs the guesser's address, before the answer says that the guess was wrong.
            await self._spend_guess(scope, current, of_key=isinstance(refusal, WrongKey))
            raise
        await self._spend(subject, scope, current)

    async def _subject(self, scope: Scope, current: Exchange) -> str:
        if (scope["method"], scope["path"]) in ANONYMOUS:
            _authorise(scope, None)
            return _address(scope)
        sent = Headers(scope=scope).getlist("authorization")
        token = bearer(sent[0]) if len(sent) == 1 else None
        if token is None:
            raise Unauthenticated("Send one access token or API key: 'Authorization: Bearer <token>'.")
        if token.startswith(PREFIX):
            token = await current.awaits(self.keys.token(token, _address(scope)))
            _authorise(scope, token)
        user = await self.users.verify(token)
        return f"user:{user.id}"

    async def _spend_guess(self, scope: Scope, current: Exchange, *, of_key: bool) -> None:
        address = _address(scope)
        try:
            await self._spend(address, scope, current)
        except TooManyRequests:
            if of_key:
                self.keys.bar(address)
            raise

    async def _spend(self, subject: str, scope: Scope, current: Exchange) -> None:
        try:
            current.headers |= await self.limiter.spend(subject, openai=scope["path"].startswith("/v1/"))
        except TooManyRequests as refusal:
            current.headers |= refusal.headers
            raise


def _authorise(scope: Scope, token: str | None) -> None:
    """Put a token in place of what the client sent: no service gets a key."""
    kept = [item for item in scope["headers"] if item[0] != b"authorization"]
    scope["headers"] = [*kept, (b"authorization", f"Bearer {token}".encode())] if token else kept


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return subject_of_address(client[0] if client else "")


def _refuse_ambiguous(path: str) -> None:
    """`..`, `//` and backslashes are read differently by different servers; no route of ours has them."""
    parts = path.split("/")[1:]
    if any(part in (".", "..") for part in parts) or "" in parts[:-1] or "\\" in path or not path.isprintable():
        raise NotFound
