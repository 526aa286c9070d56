"""Who set the number of a Deployment's pods has stopped before it becomes ours: else both would write it in turn.

KEDA's autoscaler goes when the garbage collector comes to it, and KEDA itself scales until it has let go of its
ScaledObject. An autoscaler of ours is gone with the answer to its deletion, unless that is refused.
"""

import time
from collections.abc import Iterable

from chatbot_operator.applying import REPLICAS, Applier
from chatbot_operator.managed import we_own
from chatbot_operator.progress import Progress
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Observed, Step

STOPPED_SECONDS = 30.0
"""By then KEDA has let go, or nobody runs it. Who scales all the same is fought with, and named by that."""
SEEN_SECONDS = 1.0
"""In which others have seen what we have written."""


def claims(steps: Iterable[Step], observed: Observed) -> bool:
    """Whether the number of a Deployment's pods is to become ours, and is somebody else's so far."""
    return any(_claimed(item, observed) for step in steps if not step.blocked for item in step.manifests)


def waits(done: Progress, applier: Applier, wanted: Manifest, observed: Observed) -> Blocked | None:
    """What a Deployment's number of pods still waits for, bounded unless its deletion is refused."""
    if wanted["kind"] != "Deployment":
        return None
    name = wanted["metadata"]["name"]
    scalers = list(_scalers(name, observed)) if _claimed(wanted, observed) else []
    if not scalers:
        applier.held.pop(name, None)
        return None
    named = [(item["kind"], item["metadata"]["name"]) for item in scalers]
    if refused := next((done.kept[scaler] for scaler in named if scaler in done.kept), None):
        return refused
    if time.monotonic() - applier.held.setdefault(name, time.monotonic()) > STOPPED_SECONDS:
        return None
    done.soon(SEEN_SECONDS)
    return Blocked(Reason.STOPPING, f"Waits for {' '.join(named[0])}, which still sets the number of pods.")


def _claimed(wanted: Manifest, observed: Observed) -> bool:
    if wanted["kind"] != "Deployment" or "replicas" not in wanted["spec"]:
        return False
    live = observed.child("Deployment", wanted["metadata"]["name"])
    return live is not None and not we_own(live, REPLICAS)


def _scalers(deployment: str, observed: Observed) -> Iterable[Manifest]:
    for item in observed.children:
        target = (item.get("spec") or {}).get("scaleTargetRef") or {}
        if target.get("name") == deployment and target.get("kind", "Deployment") == "Deployment":
            yield item
