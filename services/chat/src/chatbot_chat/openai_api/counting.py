"""Reads along what is relayed from a provider, only as far as counting needs. Pure, but for a look at the clock.

Bytes go on as they came, a stream's by whole events, so that a comment or an error may follow. The chunk with the
count, which we ask every provider for, is left out for a client that has not asked for it: many read `choices[0]` of
each chunk, and that one has none.
"""

import json
import re
from collections.abc import Iterator
from time import perf_counter
from typing import Any

from chatbot_chat.providers import Usage
from chatbot_chat.providers.counts import usage_of
from chatbot_chat.tokens import BYTES_PER_TOKEN

_COUNTED = re.compile(rb'"usage"\s*:\s*\{')
_DATA = re.compile(rb"^data:\s*(\{.*)$", re.MULTILINE)
_ERROR = re.compile(rb'^data:\s*\{\s*"error"\s*:\s*[{"]', re.MULTILINE)
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_DONE = re.compile(rb"^data:\s*\[DONE\]", re.MULTILINE)
_FRAME = re.compile(rb".+?(?:\n\r?\n|\r\r|\Z)", re.DOTALL)


class Counting:
    """Of one response. Feed it all by `passed`, a stream by whole events; `usage` and `said` are known at its end."""

    def __init__(self, *, streamed: bool, hidden: bool) -> None:
        self.streamed = streamed
        self._hidden = streamed and hidden
        self._seen: list[bytes] = []
        self._frames, self._bytes, self._least = 0, 0, 0
        self.complete = False
        """Whether all of it was passed on."""
        self.began = 0.0
        """When the first bytes came, by `perf_counter`."""

    def passed(self, piece: bytes) -> bytes:
        """What of it the client gets."""
        if not self._seen:
            self.began = perf_counter()
        self._seen.append(piece)
        if not self.streamed:
            return piece
        frames = [piece] if piece.find(b"\n\n") == len(piece) - 2 else _FRAME.findall(piece)
        for frame in frames:
            if b"data:" in frame and b"{" in frame:
                size = len(frame)
                if size < self._least or not self._frames:
                    self._least = size
                self._frames += 1
                self._bytes += size
        if not self._hidden or b'"usage"' not in piece or not _COUNTED.search(piece):
            return piece
        return b"".join(frame for frame in frames if not _only_counts(frame))

    def end(self) -> None:
        """Nothing follows."""
        self.complete = True

    @property
    def usage(self) -> Usage | None:
        """As the provider counted: the last time it did, since some count with every chunk."""
        for text in reversed(self._texts(self.seen)):
            if _COUNTED.search(text) and (body := _parsed(text)) and (count := usage_of(body.get("usage"))):
                return count
        return None

    @property
    def guess(self) -> int:
        """Bytes said so far in a stream, without looking closer: what its chunks have beyond the smallest, and a token
        each."""
        return self._bytes - self._frames * (self._least - BYTES_PER_TOKEN)

    @property
    def ended(self) -> bool:
        """Whether a stream says that it has: by its last frame, or by why the model did."""
        return bool(_DONE.search(b"".join(self._seen[-2:])) or _FINISHED.search(self.seen))

    @property
    def failed(self) -> bool:
        """Whether a stream has ended by an error of the provider's own."""
        return bool(_ERROR.search(b"".join(self._seen[-2:])))

    @property
    def seen(self) -> bytes:
        """All that the provider has sent."""
        return b"".join(self._seen)

    @property
    def plain(self) -> bool:
        """Whether this is a whole answer in words alone, which has ended by itself."""
        choices = [choice for body in self._bodies(self.seen) for choice in _choices(body)]
        ends = [reason for choice in choices if (reason := choice.get("finish_reason")) is not None]
        stopped = bool(ends) and all(reason == "stop" for reason in ends) and not any(map(_calls, choices))
        return stopped and (not self.streamed or _DONE.search(self.seen) is not None)

    @property
    def said(self) -> int:
        """Bytes of what the model said, for when nobody counted."""
        seen = self.seen
        bodies = list(self._bodies(seen))
        return sum(map(_said, bodies)) if bodies or self.streamed else len(seen)

    def _bodies(self, seen: bytes) -> Iterator[dict[str, Any]]:
        return filter(None, map(_parsed, self._texts(seen)))

    def _texts(self, seen: bytes) -> list[bytes]:
        return _DATA.findall(seen) if self.streamed else [seen]


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _only_counts(frame: bytes) -> bool:
    body = _parsed(frame.strip().removeprefix(b"data:")) if _COUNTED.search(frame) else None
    return body is not None and isinstance(body.get("usage"), dict) and not body.get("choices")


def _choices(body: dict[str, Any]) -> list[dict[str, Any]]:
    choices = body.get("choices")
    return [item for item in choices if isinstance(item, dict)] if isinstance(choices, list) else []


def _calls(choice: dict[str, Any]) -> bool:
    message = choice.get("delta") or choice.get("message")
    return isinstance(message, dict) and bool(message.get("tool_calls"))


def _said(body: dict[str, Any]) -> int:
    """Of a chunk's delta or a whole message: its texts, whatever they are called."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    return sum(len(text.encode("utf-8", "replace")) for text in _texts(first.get("delta") or first.get("message")))


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts(item)
        case dict():
            for name, item in value.items():
                if name not in ("role", "id", "type"):
                    yield from _texts(item)
