"""Who changes what we change back, and how often that is done before it is left to them."""

import time
from collections import deque
from dataclasses import dataclass, field

import structlog

from chatbot_operator.components.metadata import applied_hash
from chatbot_operator.managed import SOMEBODY
from chatbot_operator.metrics import Metrics
from chatbot_operator.world import Manifest

FIGHTS = 3
FIGHT_SECONDS = 600.0
"""After three fights over one object within this time it is left alone until the first of them is this old."""

Child = tuple[str, str, str]
"""Kind, namespace and name."""

log = structlog.get_logger("apply")


class Fought(Exception):
    """Somebody keeps changing what we keep changing back; for a while it is left as they made it."""


class Taken:
    """Fields that were taken back from another manager."""

    def __init__(self, child: Child, manager: str, fields: list[str]) -> None:
        self.child = child
        self.manager = manager
        self.fields = fields

    def by(self, done: str) -> str:
        """Such as `written by kubectl-edit`."""
        return "removed by somebody" if self.manager == SOMEBODY else f"{done} by {self.manager}"

    def __str__(self) -> str:
        kind, _, name = self.child
        fields = ", ".join(self.fields[:3]) + (f" and {len(self.fields) - 3} more" if len(self.fields) > 3 else "")
        return f"{fields} of {kind} {name}, {self.by('written')}, is what the resource says again."


@dataclass
class Doings:
    """What of a child is our own doing, by the hash that it carries."""

    hashes: set[str] = field(default_factory=set)
    """What it said when it was answered last, or seen first, and what was sent since: that answer may be lost."""
    version: str = ""
    """resourceVersion of that answer; empty: there was none yet."""
    uid: str = ""
    """Of the child, as soon as it is known: another of its name begins anew."""

    def answered(self, written: Manifest) -> None:
        metadata = written["metadata"]
        self.hashes, self.version, self.uid = {applied_hash(written)}, metadata["resourceVersion"], metadata["uid"]

    def are(self, live: Manifest) -> bool:
        """Whether it is as we made it, or is seen as it was before that. What is written later is somebody's."""
        return applied_hash(live) in self.hashes or _older(live["metadata"]["resourceVersion"], self.version)

    def has_seen(self, live: Manifest) -> bool:
        """Whether what is there was written after an answer to us, which said what it said then."""
        return bool(self.version) and not _older(live["metadata"]["resourceVersion"], self.version)


def _older(one: str, other: str) -> bool:
    return one.isdecimal() and other.isdecimal() and int(one) < int(other)


class Fights:
    """Over the children of one resource."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._fights: dict[Child, deque[float]] = {}
        self._last: dict[Child, str] = {}

    def refuse(self, taken: Taken, hint: str = "") -> None:
        """
        Args:
            hint: what else may be done, as another sentence.

        Raises:
            Fought: it was done too often.
        """
        child, fights = taken.child, self._fights.get(taken.child, deque())
        if len(fights) == FIGHTS and time.monotonic() - fights[0] < FIGHT_SECONDS:
            raise Fought(f"{', '.join(taken.fields[:3])} of {child[0]} {child[2]} is {taken.by('changed')}.{hint}")

    def won(self, taken: Taken) -> Taken:
        self._fights.setdefault(taken.child, deque(maxlen=FIGHTS)).append(time.monotonic())
        self._last[taken.child] = taken.manager
        self._metrics.conflicts.inc()
        log.warning("fields taken back", child=taken.child, manager=taken.manager, fields=taken.fields)
        return taken

    def last(self, child: Child) -> str:
        """From whom something of it was taken back last."""
        return self._last.get(child, SOMEBODY)

    def forget(self, child: Child) -> None:
        self._fights.pop(child, None)
        self._last.pop(child, None)
