"""What keeps an autoscaler from following the load of its pods, as the cluster says. Pure."""

from chatbot_operator.moments import young
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest

UNASKED = "it has not asked for the load of its pods yet."
"""Of an autoscaler that has just been made."""
NO_FIGURES = ("no metrics returned", "did not receive metrics", UNASKED)
"""What an autoscaler says of pods that metrics-server has not measured yet; a missing server reads otherwise."""
FIGURES_SECONDS = 180.0
"""A pod is measured once it has run for a minute or two."""


def autoscaler_finding(live: Manifest, at: str) -> Blocked | None:
    """What keeps an autoscaler from following the load."""
    failing = _inactive(live)
    if failing is None:
        return None
    text = f"HorizontalPodAutoscaler {live['metadata']['name']}: {failing.get('message') or failing['reason']}"
    return Blocked(Reason.METRICS_PENDING if lacks_figures(live, at) else Reason.METRICS_UNAVAILABLE, text)


def lacks_figures(live: Manifest, at: str) -> bool:
    """Whether an autoscaler has asked for the load of pods that nobody has measured yet."""
    failing = _inactive(live) if live["kind"] == "HorizontalPodAutoscaler" else None
    said = str((failing or {}).get("message", ""))
    return failing is not None and any(word in said for word in NO_FIGURES) and young(failing, FIGURES_SECONDS, at)


def _inactive(live: Manifest) -> Manifest | None:
    """What it says while it does not follow the load; None while it does, or has no pods to scale."""
    found = [item for item in (live.get("status") or {}).get("conditions") or [] if item["type"] == "ScalingActive"]
    unasked = {"status": "Unknown", "message": UNASKED, "lastTransitionTime": live["metadata"].get("creationTimestamp")}
    said = found[0] if found else unasked
    return None if said["status"] == "True" or said.get("reason") == "ScalingDisabled" else said
