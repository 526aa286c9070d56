"""The few Events that appear under `kubectl describe`. They tell of changes, so none repeats after a restart."""

import time
import uuid
from collections.abc import Iterator
from enum import StrEnum
from typing import Literal

import structlog
from chatbot_resource.model import API_VERSION, KIND
from chatbot_resource.status import Condition, ConditionType, Status

from chatbot_operator import names
from chatbot_operator.cluster import Cluster
from chatbot_operator.faults import ApiFault, NamespaceGoing
from chatbot_operator.fights import Taken
from chatbot_operator.reasons import STUCK
from chatbot_operator.world import Manifest

Type = Literal["Normal", "Warning"]


class Told(StrEnum):
    """Reasons that only Events have: no condition says what was, or what a status has no room for."""

    SIGNING_KEYS_LOST = "SigningKeysLost"
    ADMIN_PASSWORD_LOST = "AdminPasswordLost"  # noqa: S105 - a reason
    FIELD_TAKEN_BACK = "FieldTakenBack"
    DISK_BEING_DELETED = "DiskBeingDeleted"
    STATUS_TOO_LARGE = "StatusTooLarge"


QUIET_SECONDS = 600.0
"""Between two Events about the same object and manager, or about one condition and reason of a resource."""
SUM: ConditionType = "DependenciesDetected"
BESIDES: tuple[ConditionType, ...] = ("AutoscalingReady", "RouteReady", SUM)
"""Conditions that `Ready` does not wait for; the last sums up what the others say in part."""
MAX_MESSAGE = 1024

log = structlog.get_logger("events")


class Events:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._told: dict[tuple[str, ...], float] = {}

    async def told(self, bot: Manifest, previous: Status | None, status: Status) -> None:
        """After a status was written: that it became ready, or what it is stuck on; and what is wrong besides."""
        await self._told_of_ready(bot, previous, status)
        for condition in _besides(previous, status):
            besides = condition.message if condition.type == SUM else ""  # the next thing that lacks is news
            if self._is_new((bot["metadata"]["uid"], condition.type, condition.reason, besides)):
                await self._post(bot, "Warning", condition.reason, condition.message)

    async def _told_of_ready(self, bot: Manifest, previous: Status | None, status: Status) -> None:
        old, new = _condition(previous, "Ready"), _condition(status, "Ready")
        if new is None or (old and (old.status, old.reason) == (new.status, new.reason)):
            return
        if new.status == "True":
            await self._post(bot, "Normal", "Ready", new.message or "Everything is ready.")
        elif new.reason in STUCK:
            await self._post(bot, "Warning", new.reason, new.message)

    async def keys_lost(self, bot: Manifest, meaning: str) -> None:
        """Once, when the status names other keys from then on."""
        await self._post(bot, "Warning", Told.SIGNING_KEYS_LOST, meaning)

    async def password_lost(self, bot: Manifest, secret: str) -> None:
        """Once, when the Secret is made anew."""
        text = (
            f"Secret {secret} is gone, and the database is not. The password in the one made now opens nothing, "
            "because the account has the old one: restore the Secret, or sign in as another administrator."
        )
        await self._post(bot, "Warning", Told.ADMIN_PASSWORD_LOST, text)

    async def taken_back(self, bot: Manifest, taken: Taken) -> None:
        if self._is_new((*taken.child, taken.manager)):
            await self._post(bot, "Warning", Told.FIELD_TAKEN_BACK, str(taken))

    async def no_room(self, bot: Manifest, meaning: str) -> None:
        """Again after a while: Events are forgotten, and nothing else tells of it."""
        if self._is_new((bot["metadata"]["uid"], Told.STATUS_TOO_LARGE)):
            await self._post(bot, "Warning", Told.STATUS_TOO_LARGE, meaning)

    async def disk_going(self, bot: Manifest, meaning: str) -> None:
        """Again after a while, for as long as what is on it can be saved."""
        if self._is_new((bot["metadata"]["uid"], Told.DISK_BEING_DELETED, meaning)):
            await self._post(bot, "Warning", Told.DISK_BEING_DELETED, meaning)

    def _is_new(self, key: tuple[str, ...]) -> bool:
        now = time.monotonic()
        self._told = {known: when for known, when in self._told.items() if now - when < QUIET_SECONDS}
        return self._told.setdefault(key, now) == now

    async def _post(self, bot: Manifest, kind: Type, reason: str, message: str) -> None:
        """An Event that cannot be posted is worth a line in the log, and no more."""
        try:
            event = _event(bot, kind, reason, message, self._cluster.clock.text())
            await self._cluster.create(event)
        except NamespaceGoing:
            log.debug("no Event can be posted in a namespace that is being deleted", reason=reason)
        except ApiFault as fault:
            log.warning("an Event could not be posted", reason=reason, error=str(fault))


def _condition(status: Status | None, kind: ConditionType) -> Condition | None:
    return next((item for item in status.conditions if item.type == kind), None) if status else None


def _besides(previous: Status | None, status: Status) -> Iterator[Condition]:
    """What `Ready` does not wait for, and what has become wrong with it; once, where two say the same."""
    said = {item.message for item in status.conditions if item.type == "Ready"}
    for kind in BESIDES:
        old, new = _condition(previous, kind), _condition(status, kind)
        if new is None or new.reason not in STUCK or new.message in said:
            continue
        # The cluster may lack several things under the reason of the first; what autoscalers say holds figures.
        left = new.message
        for text in said:
            left = left.replace(text, "")
        said.add(new.message)
        same = old is not None and old.reason == new.reason and (kind != SUM or old.message == new.message)
        if left.strip() and not same:
            yield new


def _event(bot: Manifest, kind: Type, reason: str, message: str, now: str) -> Manifest:
    metadata = bot["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": kind,
        "reason": reason,
        "message": message[:MAX_MESSAGE],
        "source": {"component": names.FIELD_MANAGER},
        "reportingComponent": names.FIELD_MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
