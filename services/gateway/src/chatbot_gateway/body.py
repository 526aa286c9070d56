"""The request's body on its way in: never more or slower than allowed, and JSON only when it is JSON.

JSON is read completely, because it is checked; anything else (an upload) streams through and is only counted.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from chatbot_common.errors import BodyTooLarge, MalformedBody, Problem
from chatbot_common.ids import uuid7
from chatbot_common.leaving import ClientGone
from starlette.datastructures import Headers
from starlette.types import Message, Receive

METHODS_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))
NOT_JSON = "The body could not be parsed as JSON; check quotes, commas and braces."
NO_TEXT = "A text in the body holds a NUL character or half of a surrogate pair; neither can be stored."


class RequestTimeout(Problem):
    status, kind, title = 408, "request-timeout", "The request body came too slowly"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a body may cost: bytes in all, seconds without a piece of it, seconds of waiting in all."""

    max_bytes: int
    pause_seconds: float
    seconds: float


class Body:
    """One request's body. `ended` is set when all of it was read, after which only a disconnect can arrive."""

    def __init__(self, headers: Headers, receive: Receive, bounds: Bounds) -> None:
        self.headers = headers
        self.ended = asyncio.Event()
        self.problem: Problem | None = None
        """Why reading stopped; whoever consumes `chunks` may wrap what it raised beyond recognition."""
        self._receive = receive
        self._max = bounds.max_bytes
        self._pause = bounds.pause_seconds
        self._left = bounds.seconds
        self.refuse_if_announced_too_large()

    def refuse_if_announced_too_large(self) -> None:
        """Raises `BodyTooLarge` before a byte of the body was read."""
        length = self.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max:
            raise self._too_large()

    @property
    def is_json(self) -> bool:
        """Also when no type is given: the services take it for JSON, so it has to be."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind in ("", "application/json") or kind.endswith("+json")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises `BodyTooLarge`, `RequestTimeout`, `ClientGone`."""
        size = 0
        while True:
            message = await self._next()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._max:
                self.problem = self._too_large()
                raise self.problem
            if chunk:
                yield chunk
            if not message.get("more_body", False):
                self.ended.set()
                return

    async def _next(self) -> Message:
        """The next piece. Only our waiting for the client counts, not a service that takes its time with a piece."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(min(self._pause, self._left)):
                return await self._receive()
        except TimeoutError:
            # Closed: the rest of the body would otherwise be read as the next request.
            self.problem = RequestTimeout("Send the whole body at once.", headers={"Connection": "close"})
            raise self.problem from None
        finally:
            self._left -= time.monotonic() - started

    async def read(self) -> bytes:
        """All of it. Raises `BodyTooLarge`, `RequestTimeout`, `ClientGone`."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def disconnect(self) -> None:
        """Returns when the client has gone. Waits until the body was read: only one reader at a time."""
        await self.ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body may have at most {self._max} bytes.")


def parse(raw: bytes) -> Any:
    """The JSON value of a body. Raises `MalformedBody`."""
    try:
        # Decoded here, strictly: json.loads would let UTF-16 and halves of surrogate pairs through.
        value = json.loads(raw.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise MalformedBody(NOT_JSON) from None
    if b"\\u" in raw and not all(map(_storable, _texts(value))):
        raise MalformedBody(NO_TEXT)
    return value


def with_message_id(raw: bytes, value: Any) -> bytes:
    """A chat message gets an id where the client sent none, so that a retry further in cannot store it twice."""
    if not isinstance(value, dict) or value.get("client_message_id") is not None:
        return raw
    return json.dumps(value | {"client_message_id": str(uuid7())}, ensure_ascii=False).encode()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's (RFC 8259, 6)


def _texts(value: Any) -> Iterable[str]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
