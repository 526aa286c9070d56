"""Tickets for sockets: a browser cannot send a header with one, and a token in an address would end up in logs.

A ticket is random, opens one socket within 30 seconds, and stands for the access token that asked for it. Redis holds
the token sealed with the ticket, under the ticket's hash: whoever reads Redis gets neither.
"""

import secrets
from hashlib import sha256
from typing import Any

import structlog
from chatbot_common.errors import Unauthenticated, Unavailable
from chatbot_common.redis import open_redis
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

TICKET_SECONDS = 30
REDIS_SECONDS = 1.0
NONCE = bytes(12)
"""Each key seals one text only."""


class Tickets:
    def __init__(self, redis_url: str) -> None:
        self._redis = open_redis(redis_url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)

    async def issue(self, token: str) -> str:
        """A ticket for the bearer of this token. Raises `Unavailable` while Redis is away."""
        ticket = secrets.token_urlsafe(32)
        sealed = AESGCM(_digest("key", ticket)).encrypt(NONCE, token.encode(), None)
        try:
            await self._redis.set(_name(ticket), sealed, ex=TICKET_SECONDS)
        except RedisError as error:
            raise _unavailable(error) from error
        return ticket

    async def redeem(self, ticket: str) -> str:
        """The token that asked for it; the ticket is used up.

        Raises:
            Unauthenticated: it was used before, is too old, or never was one.
            Unavailable: Redis is away.
        """
        try:
            sealed: Any = await self._redis.getdel(_name(ticket))
        except RedisError as error:
            raise _unavailable(error) from error
        try:
            return AESGCM(_digest("key", ticket)).decrypt(NONCE, sealed or b"", None).decode()
        except (InvalidTag, ValueError):
            raise Unauthenticated("This ticket was used before or is too old; ask for another.") from None

    async def close(self) -> None:
        await self._redis.aclose()


def _unavailable(error: Exception) -> Unavailable:
    log.warning("no tickets, Redis does not answer", error=type(error).__name__)
    return Unavailable("Tickets cannot be had right now; send the token in Sec-WebSocket-Protocol instead.")


def _digest(what: str, ticket: str) -> bytes:
    return sha256(f"{what}:{ticket}".encode()).digest()


def _name(ticket: str) -> str:
    return f"gateway:ticket:{_digest('name', ticket).hex()}"
