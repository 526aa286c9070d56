"""The few Events that appear under `kubectl describe`. They tell of changes, so none repeats after a restart."""

import datetime
import time
import uuid
from typing import Literal

import structlog
from chatbot_resource.model import API_VERSION, KIND
from chatbot_resource.status import Condition, Status

from chatbot_operator import names
from chatbot_operator.applying import Taken
from chatbot_operator.cluster import Cluster
from chatbot_operator.faults import ApiFault, NamespaceGoing
from chatbot_operator.reasons import STUCK
from chatbot_operator.world import Manifest

Type = Literal["Normal", "Warning"]
QUIET_SECONDS = 600.0
"""Between two Events about the same object and manager."""
MAX_MESSAGE = 1024

log = structlog.get_logger("events")


class Events:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._told: dict[tuple[str, ...], float] = {}

    async def told(self, bot: Manifest, previous: Status | None, status: Status) -> None:
        """After a status was written: that it became ready, or what it is stuck on."""
        old, new = _ready(previous), _ready(status)
        if new is None or (old and (old.status, old.reason) == (new.status, new.reason)):
            return
        if new.status == "True":
            await self._post(bot, "Normal", "Ready", new.message or "Everything is ready.")
        elif new.reason in STUCK:
            await self._post(bot, "Warning", new.reason, new.message)

    async def keys_lost(self, bot: Manifest, meaning: str) -> None:
        """Once, when the status names other keys from then on."""
        await self._post(bot, "Warning", "SigningKeysLost", meaning)

    async def password_lost(self, bot: Manifest, secret: str) -> None:
        """Once, when the Secret is made anew."""
        text = (
            f"Secret {secret} was deleted. The password in the one made now opens nothing, because the account has the "
            "old one: restore the Secret, or sign in as another administrator."
        )
        await self._post(bot, "Warning", "AdminPasswordLost", text)

    async def taken_back(self, bot: Manifest, taken: Taken) -> None:
        now = time.monotonic()
        self._told = {key: when for key, when in self._told.items() if now - when < QUIET_SECONDS}
        key = (*taken.child, taken.manager)
        if key not in self._told:
            self._told[key] = now
            await self._post(bot, "Warning", "FieldTakenBack", str(taken))

    async def _post(self, bot: Manifest, kind: Type, reason: str, message: str) -> None:
        """An Event that cannot be posted is worth a line in the log, and no more."""
        try:
            await self._cluster.create(_event(bot, kind, reason, message))
        except NamespaceGoing:
            log.debug("no Event can be posted in a namespace that is being deleted", reason=reason)
        except ApiFault as fault:
            log.warning("an Event could not be posted", reason=reason, error=str(fault))


def _ready(status: Status | None) -> Condition | None:
    return next((item for item in status.conditions if item.type == "Ready"), None) if status else None


def _event(bot: Manifest, kind: Type, reason: str, message: str) -> Manifest:
    metadata = bot["metadata"]
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
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
