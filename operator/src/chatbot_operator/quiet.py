"""Leaves out of a watch what says the same again: Kopf would take each of those events through all its stages.

Of kinds in versions.py alone, whose status changes all the time. Bookmarks come through: they show that a watch lives.
"""

import json
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import aiohttp

from chatbot_operator.versions import version

CHANGES = ("ADDED", "MODIFIED")

Seen = MutableMapping[str, str]
"""The version of each object that was last let through, by its uid. It outlives a watch: the next one goes on."""


class Quiet:
    """In the place of a response's content, which Kopf reads in no other way."""

    def __init__(self, content: aiohttp.StreamReader, kind: str, seen: Seen) -> None:
        self._content = content
        self._kind = kind
        self._seen = seen

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        left = b""
        async for data in self._content.iter_chunked(n):
            *lines, left = (left + data).split(b"\n")
            if kept := [line for line in lines if line and self._is_news(line)]:
                yield b"\n".join([*kept, b""])
        if left:
            yield left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    def _is_news(self, line: bytes) -> bool:
        event = json.loads(line)
        if event["type"] not in CHANGES:
            self._seen.pop(event["object"].get("metadata", {}).get("uid"), None)
            return True
        uid, now = event["object"]["metadata"]["uid"], version(self._kind, event["object"])
        if self._seen.get(uid) == now:
            return False
        self._seen[uid] = now
        return True
