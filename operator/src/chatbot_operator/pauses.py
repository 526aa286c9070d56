"""How long until a resource is looked at again when no event asks for it: what nobody tells of is looked for."""

import math

from chatbot_operator.load_findings import lacks_figures
from chatbot_operator.pod_findings import waits_for_disk, waits_to_begin
from chatbot_operator.progress import Progress
from chatbot_operator.queue import jitter
from chatbot_operator.reachability import runs_unready
from chatbot_operator.readiness import draining, lacks_pods
from chatbot_operator.store_findings import disks_going
from chatbot_operator.world import Observed

SOON_SECONDS = 0.5
"""What this reconcile has made is to be looked at, and nobody else will tell of it."""
MISSING_SECONDS = 10.0
"""What does not exist has no label to be watched by, so it is looked for."""
LACKING_SECONDS = 10.0
"""That a pod was refused, or cannot begin, is only told by an Event, and Events are not watched."""
UNREADY_SECONDS = 10.0
"""Why a pod is not ready only the pod itself tells, and only when it is asked."""
PASSING_SECONDS = 20.0
"""What passes by itself within minutes is told when it does not."""
REFUSED_SECONDS = 30.0
HOSTS_SECONDS = 60.0
CONFLICT_SECONDS = 1.0
MAX_CONFLICTS = 6
"""In a row, each of which doubles the pause before the next look: so long somebody else writes all the time."""
COMPLETE = 24
"""Resyncs until a resource that nothing happens to is looked at completely, see resync.py."""

LASTING = 0.75 * COMPLETE
"""Resyncs for which a complete look lasts, so that it has ended whenever the next is due."""


def after(done: Progress, observed: Observed, resync: float) -> float:
    """Seconds after a reconcile that came to its end. `resync`: between two of those."""
    return min(_untold(done, observed, resync), done.again or math.inf)


def _untold(done: Progress, observed: Observed, resync: float) -> float:
    if done.refused:
        return REFUSED_SECONDS * jitter()
    if any(found is None and not wanted.optional for wanted, found in observed.references.items()):
        return MISSING_SECONDS * jitter()
    # Nothing of ours changes when one is refused, or cannot begin.
    if any(map(lacks_pods, observed.children)) or any(waits_to_begin(pod, "") for pod in observed.pods):
        return LACKING_SECONDS * jitter()
    if any(map(runs_unready, observed.pods)):
        return UNREADY_SECONDS * jitter()
    if _passing(observed):
        return PASSING_SECONDS * jitter()
    if observed.hosts:  # whoever has them says nothing to us when it lets them go
        return HOSTS_SECONDS * jitter()
    # That a disk is going is told by nothing but Events, which Kubernetes forgets.
    return resync * (1 if done.writes or any(disks_going(observed)) else COMPLETE)


def _passing(observed: Observed) -> bool:
    """Whether something is too young to be told, or is to end and may never say that it has."""
    at = observed.at
    if draining(observed):
        return True
    return any(waits_for_disk(pod, at) for pod in observed.pods) or any(
        lacks_figures(item, at) for item in observed.children
    )
