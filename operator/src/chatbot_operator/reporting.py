"""Writes the status of a resource if it says something new, tells of it in an Event, and counts resources by phase."""

import json
import time
from collections.abc import Iterator
from typing import Literal

import structlog
from chatbot_resource.model import KIND
from chatbot_resource.status import Status
from pydantic import ValidationError

from chatbot_operator.cluster import Cluster
from chatbot_operator.events import Events
from chatbot_operator.faults import TooLarge
from chatbot_operator.fights import FIGHT_SECONDS
from chatbot_operator.managed import ANOTHER
from chatbot_operator.metrics import Metrics
from chatbot_operator.queue import Key
from chatbot_operator.world import Manifest

KIB = 1024

log = structlog.get_logger("reconcile")


class Reports:
    def __init__(self, cluster: Cluster, metrics: Metrics, events: Events) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._events = events
        self._phases: dict[Key, str] = {}
        self._of_two: dict[Key, Status] = {}
        """What was written last here of those that another operator looks after, too, and says so."""
        self._left: dict[Key, float] = {}
        """Since when such a status is left that was not written here; seconds of the monotonic clock."""

    def seconds_to_leave(self, key: Key, previous: Status | None, status: Status) -> float:
        """For how long the status stays as another operator has written it, because it tells of the two of us.

        Who loses a fight over a child says so; who wins it has seen none. Without an end to it they would write in
        turn, one Event each, and who waits for `Ready` would read it in between. What serves is told all the same.
        """
        if previous is None or previous == self._of_two.get(key) or not _tells_of_two(previous):
            self._left.pop(key, None)
            return 0.0
        if _urgent(previous) != _urgent(status):
            return 0.0
        self.count_phase(key, status.phase)
        now = time.monotonic()
        return max(0.0, FIGHT_SECONDS - (now - self._left.setdefault(key, now)))

    async def report(self, raw: Manifest, previous: Status | None, status: Status) -> Manifest | None:
        """The resource as it is with the new status; None when there was nothing new to say, or no room for it.

        Where somebody edited it meanwhile: as it was before, since that edit is still to be looked at.
        """
        key = (raw["metadata"]["namespace"], raw["metadata"]["name"])
        self.count_phase(key, status.phase)
        if status == written(raw, "forbid"):
            return None
        # With the uid: never on another resource that has taken the name meanwhile.
        uid = {"uid": raw["metadata"]["uid"]}
        told = _instead(raw.get("status") or {}, status.model_dump(mode="json", by_alias=True))
        try:
            answer = await self._cluster.patch(KIND, *key, {"metadata": uid, "status": told}, "status")
        except TooLarge as refused:  # as it will be the next time: only an edit of the resource helps
            log.warning("the resource has no room for its status", error=str(refused))
            await self._events.no_room(raw, no_room(raw))
            return None
        await self._events.told(raw, previous, status)
        self._forget(key)
        if _tells_of_two(status):
            self._of_two[key] = status
        return answer if _asks(answer) == _asks(raw) else raw

    def count_phase(self, key: Key, phase: str | None) -> None:
        """None: it is gone."""
        old = self._phases.pop(key, None)
        if not phase:
            self._forget(key)
        if old:
            self._metrics.resources.labels(old).dec()
            self._metrics.resource_phase.remove(*key, old)
        if phase:
            self._phases[key] = phase
            self._metrics.resources.labels(phase).inc()
            self._metrics.resource_phase.labels(*key, phase).set(1)

    def _forget(self, key: Key) -> None:
        self._of_two.pop(key, None)
        self._left.pop(key, None)


def written(raw: Manifest, extra: Literal["ignore", "forbid"] = "ignore") -> Status | None:
    """What was written last. Fields that only another version knows are passed over, or make it none."""
    try:
        return Status.model_validate(raw["status"], extra=extra)
    except (KeyError, ValidationError):  # never written, or with values that are not known here
        return None


def _tells_of_two(status: Status) -> bool:
    """Whether it says that another operator changes what we change back."""
    said = [item.message for item in status.conditions] + [item.reason for item in status.components]
    return any(ANOTHER in text for text in said)


def _urgent(status: Status) -> tuple[object, ...]:
    """What may not wait: whether it serves, of which edit this is, and what the next look goes by."""
    available = [item.status for item in status.conditions if item.type == "Available"]
    return available, status.observed_generation, status.version.rolled_back


def no_room(raw: Manifest) -> str:
    """How large a resource is that has no room for its status, and what takes most of it."""
    sizes = {path: _size(value) for path, value in _parts(raw)}
    largest = max(sizes, key=lambda path: sizes[path])
    return (
        "The status cannot be written: with it the resource is too large to be stored (etcd takes 1.5 MiB). It has "
        f"{_size(raw) / KIB:.0f} KiB, {sizes[largest] / KIB:.0f} KiB of them in {largest}: take away what is not "
        "needed there. The chatbot is looked after all the same, but its status does not tell of it."
    )


def _parts(raw: Manifest) -> Iterator[tuple[str, object]]:
    """What somebody else than the operator can make smaller."""
    yield from ((f"metadata.{name}", raw["metadata"].get(name) or {}) for name in ("annotations", "labels"))
    yield from ((f"spec.{name}", value) for name, value in (raw.get("spec") or {}).items())


def _size(value: object) -> int:
    """Bytes, as they are stored."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def _asks(raw: Manifest) -> Manifest:
    """All of a resource that is not written by us."""
    metadata = {key: value for key, value in raw["metadata"].items() if key not in ("resourceVersion", "managedFields")}
    return {"metadata": metadata, "spec": raw.get("spec")}


def _instead(old: Manifest, new: Manifest) -> Manifest:
    """What makes `new` of `old` when merged: fields that a newer operator or a person has left are taken away."""
    both = {key: _instead(old[key], value) for key, value in new.items() if _are_maps(old.get(key), value)}
    return dict.fromkeys(old.keys() - new.keys()) | new | both


def _are_maps(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)
