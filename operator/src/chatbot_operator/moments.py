"""How long ago something came about, for what is no news until it has lasted a while. Pure."""

from datetime import datetime

from chatbot_operator.world import Manifest


def young(condition: Manifest, seconds: float, at: str) -> bool:
    """Whether a condition of a live object flipped less than so many seconds ago.

    Args:
        at: RFC 3339: when the object was looked at; empty: long after.
    """
    since = str(condition.get("lastTransitionTime") or "")
    return bool(at and since) and (datetime.fromisoformat(at) - datetime.fromisoformat(since)).total_seconds() < seconds
