"""How long ago something came about, for what is no news until it has lasted a while. Pure."""

import math
from datetime import datetime

from chatbot_operator.world import Manifest


def young(condition: Manifest, seconds: float, at: str) -> bool:
    """Whether a condition of a live object flipped less than so many seconds ago.

    Args:
        at: RFC 3339: when the object was looked at; empty: long after.
    """
    return passed(str(condition.get("lastTransitionTime") or ""), at) < seconds


def age(live: Manifest, at: str) -> float:
    """Seconds since a live object was made."""
    return passed(str(live["metadata"].get("creationTimestamp") or ""), at)


def passed(since: str, at: str) -> float:
    """Seconds between two moments, RFC 3339; infinite where one of them is not known."""
    if not (at and since):
        return math.inf
    return (datetime.fromisoformat(at) - datetime.fromisoformat(since)).total_seconds()
