"""What tells two states of an object apart: its resourceVersion, or all of it that is read here. Pure.

An autoscaler notes in its status what it measures, every 15 seconds, and nobody here reads that: as news it would wake
each resource four times a minute for nothing.
"""

import hashlib
import json
from collections.abc import Mapping

from chatbot_operator.world import Manifest

READ: Mapping[str, tuple[str, ...]] = {
    "HorizontalPodAutoscaler": ("ScalingActive",),
    "ScaledObject": ("Ready", "Paused"),
}
"""Kinds whose status changes all the time, and the conditions that are all we read of it."""
PASSING = ("resourceVersion", "managedFields")
SAID = ("type", "status", "reason", "message")

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def version(kind: str, item: Manifest) -> str:
    """
    Args:
        item: of the kinds in `READ` the whole object, of others its metadata is enough.
    """
    metadata = item["metadata"]
    if kind not in READ:
        return str(metadata["resourceVersion"])
    conditions = (item.get("status") or {}).get("conditions") or []
    read = [{key: condition.get(key) for key in SAID} for condition in conditions if condition["type"] in READ[kind]]
    lasting = {key: value for key, value in metadata.items() if key not in PASSING}
    return hashlib.sha256(_encode([lasting, item.get("spec"), read]).encode()).hexdigest()[:32]
