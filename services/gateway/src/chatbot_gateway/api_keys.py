"""API keys at the door: each stands for a short-lived token, which auth gives for the key's digest.

The token goes on to the services and the key stays here. What auth has said of a key counts for some seconds, so a
revoked one is refused that much later at the most.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import structlog
from chatbot_common.errors import Problem, TooManyRequests, Unauthenticated, Unavailable
from chatbot_common.http import ServiceClient, call
from chatbot_common.verified import Verified

log = structlog.get_logger(__name__)

PREFIX = "sk-"
NO_KEYS = "An API key opens no socket; stream by POST /api/v1/chat/send, or sign in."
KEPT_SECONDS = 5.0
"""For so long auth is not asked again for the same key: also how long a revoked one may still be answered."""
CALL_SECONDS = 5.0
ADDRESSES = 10_000
TOGETHER = 8
"""Keys from one address that auth is asked of at once, but for those that were right a while ago."""


class WrongKey(Unauthenticated):
    def __init__(self) -> None:
        super().__init__("This API key is not valid: it was revoked, has expired, or is mistyped.")


class ApiKeys:
    """Args:
    auth: is asked for the tokens; closed with this.
    """

    def __init__(self, auth: ServiceClient, kept_seconds: float = KEPT_SECONDS) -> None:
        self._auth = auth
        self._kept_seconds = kept_seconds
        self._tokens = Verified[str]()
        self._wrong = Verified[bool]()
        """Apart from those that are right, which guesses must not push out."""
        self._right = Verified[bool]()
        """Keys that were right a while ago: no guesses, whoever else guesses behind the same address."""
        self._places = WeakValueDictionary[str, asyncio.Semaphore]()
        """By address, for as long as somebody waits or is asked about there."""
        self._asking: dict[tuple[str, str], asyncio.Task[str | None]] = {}
        self._barred: OrderedDict[str, float] = OrderedDict()

    async def token(self, key: str, address: str) -> str:
        """What stands for the key.

        Raises:
            WrongKey: there is no such key, or not any more.
            TooManyRequests: wrong keys have used up the limits of this address, and this one was not right a while ago.
            Unavailable: auth did not answer in time, or is being asked about too many from this address.
        """
        if known := self._tokens.get(key):
            return known
        token = None
        if not self._wrong.get(key):
            token = await self._asked(key, "" if self._right.get(key) else address)
        if token is None:
            raise WrongKey
        return token

    def bar(self, address: str) -> None:
        """Its limits are used up: for some seconds, auth is not asked of keys from there that may be guesses."""
        self._barred[address] = time.monotonic() + self._kept_seconds
        self._barred.move_to_end(address)
        if len(self._barred) > ADDRESSES:
            self._barred.popitem(last=False)

    async def close(self) -> None:
        await self._auth.aclose()

    def _refuse_barred(self, address: str) -> None:
        left = self._barred.get(address, 0.0) - time.monotonic()
        if left > 0:
            detail = "Too many wrong API keys came from your address; try again shortly."
            raise TooManyRequests(detail, headers={"Retry-After": str(int(left) + 1)})

    async def _asked(self, key: str, guesser: str) -> str | None:
        """Once for all who wait for the same key.

        Args:
            guesser: the address, where this may be a guess; then only those from there wait with it.
        """
        digest = hashlib.sha256(key.encode()).hexdigest()
        asking = self._asking.get((digest, guesser))
        if asking is None:
            work = self._exchange_guess(key, digest, guesser) if guesser else self._exchange(key, digest)
            asking = self._asking[digest, guesser] = asyncio.create_task(work)
            asking.add_done_callback(lambda task: self._asked_already((digest, guesser), task))
        return await asyncio.shield(asking)

    def _asked_already(self, name: tuple[str, str], task: "asyncio.Task[str | None]") -> None:
        del self._asking[name]
        _ = task.cancelled() or task.exception()  # perhaps nobody waits any more

    async def _exchange_guess(self, key: str, digest: str, address: str) -> str | None:
        """A few at a time: who guesses many at once must not keep auth from others, nor wait here for ever."""
        self._refuse_barred(address)
        places = self._places.setdefault(address, asyncio.Semaphore(TOGETHER))
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await places.acquire()
        except TimeoutError as error:
            raise _unchecked() from error
        try:
            self._refuse_barred(address)  # by those that were asked meanwhile
            return await self._exchange(key, digest)
        finally:
            places.release()

    async def _exchange(self, key: str, digest: str) -> str | None:
        until = time.time() + self._kept_seconds
        try:
            async with asyncio.timeout(CALL_SECONDS):
                told = await self._told({"digest": digest})
        except (Problem, TimeoutError) as error:
            log.warning("API keys cannot be checked, auth does not answer", error=type(error).__name__)
            raise _unchecked() from error
        token: str | None = told["access_token"]
        if token is None:
            self._wrong.put(key, True, until)
        else:
            self._tokens.put(key, token, min(until, told["expires_at"]))
            self._right.put(key, True, told["expires_at"])
        return token

    async def _told(self, body: dict[str, str]) -> dict[str, Any]:
        """Asked again where the first connection was idle, and auth has closed it or gone with it."""
        ask = partial(call, self._auth, "POST", "/internal/api-keys/exchange", json=body)
        told: dict[str, Any]
        try:
            told = await ask()
        except Unavailable:
            told = await ask()
        return told


def _unchecked() -> Unavailable:
    return Unavailable("API keys cannot be checked right now; try again shortly.")
