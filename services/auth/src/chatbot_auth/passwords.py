"""Password hashing: Argon2id off the event loop, two at a time.

One hash takes about 0.1 s and 64 MiB, so an unbounded number would exhaust the container before the CPU.
"""

import asyncio
import secrets
import unicodedata
from base64 import b64encode

import argon2
from prometheus_client import Counter
from pwdlib import PasswordHash
from pydantic import SecretStr

CONCURRENT = 2
CHECKS = Counter("auth_password_checks_total", "Passwords checked against a hash, right or wrong")


class Passwords:
    """Hashes and checks passwords; made once per process."""

    def __init__(self) -> None:
        self._hasher = PasswordHash.recommended()
        self._turn = asyncio.Semaphore(CONCURRENT)
        self._nobody = _hash_of_nobody()

    async def hash(self, password: SecretStr) -> str:
        """PHC string of a password."""
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, _normal(password))

    async def check(self, password: SecretStr, known_hash: str | None) -> str | None:
        """Check a password.

        Args:
            known_hash: the account's hash, None when there is no account.

        Returns:
            The hash to keep from now on (a new one when the parameters have changed), None when the password is wrong.
        """
        stored = known_hash or self._nobody
        async with self._turn:
            right, updated = await asyncio.to_thread(self._verify, _normal(password), stored)
        if not right or known_hash is None:
            return None
        return updated or known_hash

    def _verify(self, password: str, stored: str) -> tuple[bool, str | None]:
        CHECKS.inc()
        return self._hasher.verify_and_update(password, stored)


def _hash_of_nobody() -> str:
    """A made-up hash, checked where there is no account, so that both answers take equally long."""
    cost = f"m={argon2.DEFAULT_MEMORY_COST},t={argon2.DEFAULT_TIME_COST},p={argon2.DEFAULT_PARALLELISM}"
    salt, made_up = (
        b64encode(secrets.token_bytes(length)).rstrip(b"=").decode()
        for length in (argon2.DEFAULT_RANDOM_SALT_LENGTH, argon2.DEFAULT_HASH_LENGTH)
    )
    return f"$argon2id$v=19${cost}${salt}${made_up}"


def _normal(password: SecretStr) -> str:
    """The same password typed on different systems may differ in bytes (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password.get_secret_value())
