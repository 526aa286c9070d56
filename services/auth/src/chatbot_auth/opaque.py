"""Opaque tokens (refresh tokens, sign-in links, API keys): the client holds the token, the database only its digest."""

import hashlib
import secrets

TOKEN_BYTES = 32


def new_token() -> str:
    """256 random bits as 43 URL-safe characters."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> bytes:
    """SHA-256 of a token. A slow hash would add nothing: a random token cannot be guessed."""
    return hashlib.sha256(token.encode()).digest()
