"""What each resource looked like when it was last looked at: what has not changed since need not be read again.

handlers.py tells of every event. One about an object in the very version that was looked at, or that the API server
answered our own write with, is no news. One that is news names a kind, and the next look reads that kind anew and takes
all others from here. About 40 kB for a resource.

Watches may miss something, so this is trusted for a while only, and a resync (resync.py) ends it at once where versions
differ. So do an error, and another resource of the same name.
"""

import pickle
import time
import zlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from chatbot_operator.queue import Key
from chatbot_operator.world import Manifest

Versions = Mapping[str, str]
"""Version of each object (versions.py) by its uid: the resource itself, its children, their pods, what it refers to."""
Others = Mapping[str, Sequence[Manifest]]
"""Children and pods by kind; no Secrets."""
ALONG: Mapping[str, tuple[str, ...]] = {"Deployment": ("ReplicaSet",), "Pod": ("ReplicaSet",)}
"""Kinds that are not watched, because others tell when they matter."""


@dataclass(frozen=True)
class _Event:
    kind: str
    uid: str
    version: str
    gone: bool


@dataclass(frozen=True)
class _Look:
    versions: Versions
    others: bytes
    """Small: as objects they would take thirty times the memory."""
    complete: float
    """When everything was read; seconds of the monotonic clock, as below."""
    due: float
    """When the next look is due although nothing is news."""

    def holds(self, event: _Event) -> bool:
        """Whether the event tells what was seen. What is not there, nobody needs to hear is gone."""
        known = self.versions.get(event.uid)
        return known is None if event.gone else known == event.version


@dataclass
class _Looking:
    stale: Set[str]
    """Kinds that have to be read."""
    events: list[_Event] = field(default_factory=list)
    """What was told meanwhile."""
    complete: bool = True


class Known:
    def __init__(self, lasting: float = 0.0) -> None:
        """
        Args:
            lasting: seconds until everything is read anew though nothing was news; 0: each time, for who hears of no
                events.
        """
        self._lasting = lasting
        self._looks: dict[Key, _Look] = {}
        self._news: dict[Key, set[str]] = {}
        """Kinds of which something has changed since they were looked at."""
        self._looking: dict[Key, _Looking] = {}

    def news(self, key: Key, kind: str, uid: str, version: str, *, gone: bool = False) -> bool:
        """Whether an event is news; the resource has to be looked at then."""
        event, look = _Event(kind, uid, version, gone), self._looks.get(key)
        if key in self._looking:
            self._looking[key].events.append(event)
        elif look and look.holds(event):
            return False
        else:
            self._news.setdefault(key, set()).add(kind)
        return True

    def rest(self, key: Key) -> float | None:
        """Seconds until a resource has to be looked at, of which nothing is news; None: now."""
        look = self._looks.get(key)
        if look is None or not self._lasting or self._news.get(key):
            return None
        left = look.due - time.monotonic()
        return left if left > 0 else None

    def begin(self, key: Key) -> None:
        """Now a resource is going to be looked at."""
        news = self._news.pop(key, set())
        self._looking[key] = _Looking(news | {along for kind in news for along in ALONG.get(kind, ())})

    def others(self, key: Key, uid: str) -> Others:
        """What need not be read for the look that was begun; all else has to be.

        Args:
            uid: of the resource; another one may have taken the name.
        """
        look, looking = self._looks.get(key), self._looking.get(key)
        if look is None or looking is None:  # the latter when it was forgotten meanwhile
            return {}
        if uid not in look.versions or time.monotonic() - look.complete >= self._lasting:
            return {}
        looking.complete = False
        others: Others = pickle.loads(zlib.decompress(look.others))  # noqa: S301 - from our own memory
        return {kind: found for kind, found in others.items() if kind not in looking.stale}

    def settled(self, key: Key, versions: Versions, others: Others, due: float) -> None:
        """A look has come to its end, unless it was forgotten meanwhile.

        Args:
            others: as they are now; what was written, as it was answered.
            due: seconds until the next look.
        """
        looking = self._looking.pop(key, None)
        if looking is None:
            return
        now, before = time.monotonic(), self._looks.get(key)
        complete = now if before is None or looking.complete else before.complete
        same = before is not None and before.versions == versions
        packed = before.others if before and same else zlib.compress(pickle.dumps(others), level=1)
        look = self._looks[key] = _Look(versions, packed, complete, now + due)
        if news := {event.kind for event in looking.events if not look.holds(event)}:
            self._news[key] = news

    def end(self, key: Key) -> None:
        """Of a look; one that was not settled leaves nothing that could be trusted."""
        if key in self._looking:
            self.forget(key)

    def forget(self, key: Key) -> None:
        """From now on everything about the resource is news."""
        self._looks.pop(key, None)
        self._news.pop(key, None)
        self._looking.pop(key, None)

    def differing(self, found: Mapping[Key, Versions], namespace: str | None) -> set[Key]:
        """Resources that look otherwise than when they were looked at, those that are gone, and those that never were.

        Args:
            found: all there are in the namespace, or anywhere when it is None.
        """
        settled = {key: look.versions for key, look in self._looks.items() if namespace in (None, key[0])}
        return {key for key in found.keys() | settled.keys() if found.get(key) != settled.get(key)}
