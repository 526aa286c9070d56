"""Jobs that an edit of the resource concerns, which nobody can change: whether they are made anew. Pure.

Their names say which database is brought to what, not how: a toleration, a pull secret or another limit is no reason to
migrate again. It is one to make a Job anew that has not begun, or that has failed.
"""

from chatbot_operator.components.metadata import applied_hash
from chatbot_operator.readiness import count, ended, job_state, tried
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Observed


def outdated(wanted: Manifest, observed: Observed) -> Blocked | None:
    """That a Job is to go, because the resource says something else since; never one of which a container has run."""
    name = wanted["metadata"]["name"]
    live = observed.child("Job", name)
    if live is None or applied_hash(live) == applied_hash(wanted) or not (_failed(live) or _idle(live, observed)):
        return None
    return Blocked(Reason.NOT_CREATED, f"Job {name} is made anew, as the resource says now.")


def ending(wanted: Manifest, observed: Observed) -> Blocked | None:
    """That a pod of a Job that is gone is not: two at once must not work on one database."""
    name = wanted["metadata"]["name"]
    if observed.child("Job", name) is not None:
        return None
    left = min((pod["metadata"]["name"] for pod in tried(observed, name) if _goes_on(pod)), default=None)
    return Blocked(Reason.STOPPING, f"Waits for pod {left} of an earlier Job {name}.") if left else None


def _failed(live: Manifest) -> bool:
    return job_state(live) == "failed"


def _idle(live: Manifest, observed: Observed) -> bool:
    """Whether its controller has begun and no container has: each pod that it counts is known, and waits."""
    pods = tried(observed, live["metadata"]["name"])
    begun = job_state(live) == "running" and "startTime" in (live.get("status") or {})
    known = count(live, "active") <= len(pods) and not count(live, "failed")
    return begun and known and not any(map(_has_run, pods))


def _has_run(pod: Manifest) -> bool:
    states = (pod.get("status") or {}).get("containerStatuses") or []
    return ended(pod) or any(
        state.get(part, {}).keys() - {"waiting"} for state in states for part in ("state", "lastState")
    )


def _goes_on(pod: Manifest) -> bool:
    """It has not been told to end yet, and will be, with its Job; what has no owner any more is nobody's."""
    metadata = pod["metadata"]
    return not ended(pod) and bool(metadata.get("ownerReferences")) and not metadata.get("deletionTimestamp")
