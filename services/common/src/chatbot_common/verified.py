"""Tokens that were verified a moment ago: one EdDSA verification costs 0.2-0.4 ms of CPU."""

import hashlib
import time
from collections import OrderedDict
from typing import Generic, TypeVar

SECONDS = 30
SIZE = 10_000

T = TypeVar("T")


class Verified(Generic[T]):
    """What tokens turned out to say, by their whole SHA-256: the newest, for up to 30 s and never beyond their end."""

    def __init__(self) -> None:
        self._found: OrderedDict[bytes, tuple[float, T]] = OrderedDict()

    def get(self, token: str) -> T | None:
        found = self._found.get(_digest(token))
        return found[1] if found and found[0] > time.time() else None

    def put(self, token: str, said: T, expires_at: float) -> None:
        """Args:
        expires_at: seconds since 1970.
        """
        self._found[_digest(token)] = (min(expires_at, time.time() + SECONDS), said)
        if len(self._found) > SIZE:
            self._found.popitem(last=False)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
