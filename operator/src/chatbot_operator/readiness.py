"""Whether live objects have become what was wanted, and if not, why: the facts that plan.py and status.py judge by."""

from collections.abc import Iterable
from typing import Any, Literal

from chatbot_operator import names
from chatbot_operator.components.metadata import applied_hash, component_of
from chatbot_operator.moments import passed
from chatbot_operator.pod_findings import attempt_finding, failed_attempt, last_end, pods_finding
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Observed

REVISION = "deployment.kubernetes.io/revision"
POD_HASH = "pod-template-hash"
TAKEN_BY = {
    "KEDA": "nobody asks, and KEDA gives it one within minutes when somebody does",
    "External": "whoever scales it wants none (scaling.mode External)",
}
DEAD_SECONDS = 60.0
"""After a pod should have ended: it does nothing any more that anybody could wait for."""
JobState = Literal["running", "complete", "failed"]


def current(live: Manifest) -> bool:
    """Whether its controller has seen its present form; before that its status tells of an earlier one."""
    seen = _status(live).get("observedGeneration", 0)
    return bool(seen >= live["metadata"].get("generation", 0))


def desired(live: Manifest) -> int:
    return int(live["spec"].get("replicas", 1))


def count(live: Manifest, field: str) -> int:
    """A number of the status, such as `readyReplicas`; absent means none."""
    return int(_status(live).get(field) or 0)


def replaced(wanted: Manifest, live: Manifest | None) -> bool:
    """Whether only pods of what is wanted are left, if any."""
    if live is None or applied_hash(wanted) != applied_hash(live) or not current(live):
        return False
    return count(live, "updatedReplicas") == count(live, "replicas")


def draining(observed: Observed) -> list[Manifest]:
    """Pods that were told to end, and finish what they are doing. No status counts them.

    The time noted is when they are to have ended; one on a node that is dead stays for as long as nobody removes it.
    """
    going = (pod for pod in observed.pods if pod["metadata"].get("deletionTimestamp") and not ended(pod))
    return [pod for pod in going if passed(pod["metadata"]["deletionTimestamp"], observed.at) < DEAD_SECONDS]


def rolled_out(wanted: Manifest, live: Manifest | None) -> bool:
    """The same, and at least one of them is ready."""
    return live is not None and replaced(wanted, live) and count(live, "readyReplicas") > 0


def settled(wanted: Manifest, observed: Observed) -> bool:
    """Whether a Deployment or StatefulSet is rolled out with as many ready pods as there must be.

    What an autoscaler adds above its lower bound is not waited for: growing with load is no unfinished business.
    """
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    live = observed.child(kind, name)
    if live is None or not rolled_out(wanted, live):
        return False
    if "replicas" in wanted["spec"]:
        return count(live, "replicas") == count(live, "readyReplicas") == desired(live)
    return count(live, "readyReplicas") >= lower_bound(live, observed)


def lower_bound(live: Manifest, observed: Observed) -> int:
    """Of the autoscaler; where there is none, what whoever scales has asked for."""
    name = live["metadata"]["name"]
    if scaler := observed.child("HorizontalPodAutoscaler", name):
        return int(scaler["spec"].get("minReplicas") or 1)
    scaled = observed.child("ScaledObject", name)
    return int(scaled["spec"].get("minReplicaCount") or 0) if scaled else desired(live)


def asleep(wanted: Manifest, live: Manifest | None) -> bool:
    """Whether the number of pods is somebody else's, who wants none; the Deployment is as it is wanted otherwise."""
    if live is None or applied_hash(wanted) != applied_hash(live) or desired(live):
        return False
    return "replicas" not in wanted["spec"] and _annotation(wanted, names.SCALED_BY) in names.MAY_HAVE_NONE


def rest(wanted: Manifest, live: Manifest) -> Blocked | None:
    """Of a Deployment or StatefulSet that is to have no pods: that it has none, or that it still has some."""
    sleeping = asleep(wanted, live)
    if wanted["spec"].get("replicas") != 0 and not sleeping:
        return None
    name, left = live["metadata"]["name"], count(live, "replicas")
    if current(live) and desired(live) == left == 0:
        if sleeping:
            owner = _annotation(wanted, names.SCALED_BY)
            return Blocked(Reason.SCALED_TO_ZERO, f"Deployment {name} has no pods: {TAKEN_BY[owner]}.")
        return Blocked(Reason.HIBERNATED, "spec.mode is Hibernated: no pod runs until it is Active.")
    return Blocked(Reason.STOPPING, f"{live['kind']} {name} still has {left} pods, which finish what they are doing.")


def lacks_pods(live: Manifest) -> bool:
    """Whether a StatefulSet or Job has fewer pods than its controller has been told to make."""
    match live["kind"]:
        case "StatefulSet":
            return current(live) and count(live, "replicas") < desired(live)
        case "Job":
            return job_state(live) == "running" and "startTime" in _status(live) and not count(live, "active")
    return False


def stateful_set_finding(wanted: Manifest, observed: Observed) -> Blocked | None:
    """Why a store's StatefulSet is not ready."""
    name = wanted["metadata"]["name"]
    live = observed.child("StatefulSet", name)
    if live is None:
        return Blocked(Reason.NOT_CREATED, f"StatefulSet {name} does not exist yet.")
    if resting := rest(wanted, live):
        return resting
    if settled(wanted, observed):
        return None
    finding = _finding(_pods_of(observed, component_of(wanted)), observed) or _lacking(live, observed)
    return finding or Blocked(Reason.STARTING, f"StatefulSet {name} is not ready yet.")


def image_of(live: Manifest) -> str:
    """What a StatefulSet was applied with; webhooks that rewrite images make another of it."""
    noted = (live["metadata"].get("annotations") or {}).get(names.IMAGE)
    return str(noted or live["spec"]["template"]["spec"]["containers"][0]["image"])


def own_pods(live: Manifest, observed: Observed) -> list[Manifest]:
    """Pods of a StatefulSet or Job that are meant to run."""
    if live["kind"] == "Job":
        return [pod for pod in tried(observed, live["metadata"]["name"]) if _may_run(pod)]
    return pods_of(live, observed)


def job_state(live: Manifest) -> JobState:
    if _condition(live, "Complete"):
        return "complete"
    return "failed" if _condition(live, "Failed") else "running"


def job_finding(wanted: Manifest, observed: Observed, database: str = "its database") -> Blocked | None:
    """Why a migration is not complete.

    Args:
        database: what it works on, in words.
    """
    name = wanted["metadata"]["name"]
    live = observed.child("Job", name)
    if live is None:
        return Blocked(Reason.NOT_CREATED, f"Job {name} does not exist yet.")
    match job_state(live):
        case "complete":
            return None
        case "failed":
            return _failed_job(live, tried(observed, name))
        case "running":
            attempts = tried(observed, name)
            begun = [pod for pod in attempts if _may_run(pod) and not failed_attempt(pod)]
            finding = _finding(begun, observed) or _lacking(live, observed)
            finding = finding or attempt_finding(name, attempts, database) or _suspended(live)
            return finding or Blocked(Reason.MIGRATING, f"Job {name} is running.")


def _suspended(live: Manifest) -> Blocked | None:
    """A queue such as Kueue's makes it wait for its turn, or a person does."""
    if not live["spec"].get("suspend"):
        return None
    name, namespace = live["metadata"]["name"], live["metadata"]["namespace"]
    way = f'kubectl patch job {name} -n {namespace} --type merge -p \'{{"spec":{{"suspend":false}}}}\''
    return Blocked(Reason.MIGRATING, f"Job {name} is suspended: wait for the queue that holds it, or {way}")


def tried(observed: Observed, job: str) -> list[Manifest]:
    """Every attempt of a Job that is still there."""
    return [pod for pod in observed.pods if _label(pod, "job-name") == job]


def deployment_finding(part: str, live: Manifest, observed: Observed) -> Blocked | None:
    """What keeps a Deployment from settling; None when nothing does but time."""
    pods = _newest(live, _pods_of(observed, part), observed)
    return _finding(pods, observed) or _refused(live) or _overdue(live)


def is_ready(pod: Manifest) -> bool:
    return _condition(pod, "Ready") is not None


def pods_of(live: Manifest, observed: Observed) -> list[Manifest]:
    """Pods of a Deployment or StatefulSet that are meant to run, old and new."""
    return _pods_of(observed, component_of(live))


def newest(live: Manifest, observed: Observed) -> list[Manifest]:
    """Those of a Deployment's present form."""
    return _newest(live, pods_of(live, observed), observed)


def _finding(pods: list[Manifest], observed: Observed) -> Blocked | None:
    """What is wrong with them by their status, or else by Events."""
    return pods_finding(pods, observed.at) or next(filter(None, (_hindered(pod, observed) for pod in pods)), None)


def _hindered(pod: Manifest, observed: Observed) -> Blocked | None:
    name = pod["metadata"]["name"]
    said = observed.refused.get(("Pod", name))
    return Blocked(Reason.CONTAINER_CONFIG_ERROR, f"Pod {name} cannot start: {said}") if said else None


def _refused(live: Manifest) -> Blocked | None:
    failure = _condition(live, "ReplicaFailure")
    if failure is None:
        return None
    return _pods_refused(live, str(failure.get("message", "")))


def _lacking(live: Manifest, observed: Observed) -> Blocked | None:
    said = observed.refused.get((live["kind"], live["metadata"]["name"]))
    return _pods_refused(live, said) if said else None


def _pods_refused(live: Manifest, said: str) -> Blocked:
    return Blocked(Reason.PODS_REFUSED, f"{live['kind']} {live['metadata']['name']} cannot make pods: {said}")


def overdue(live: Manifest, observed: Observed) -> Blocked | None:
    """That a rollout made no progress within its deadline, with what keeps its pods from running."""
    finding = _overdue(live)
    if finding is None:
        return None
    return _finding(newest(live, observed), observed) or _refused(live) or finding


def _overdue(live: Manifest) -> Blocked | None:
    found = [item for item in _status(live).get("conditions") or [] if item["type"] == "Progressing"]
    if not current(live) or not any(item.get("reason") == "ProgressDeadlineExceeded" for item in found):
        return None
    name = live["metadata"]["name"]
    text = f"Deployment {name} has made no progress in time: kubectl describe deployment {name}"
    return Blocked(Reason.PROGRESS_DEADLINE_EXCEEDED, text)


def _failed_job(live: Manifest, tried: Iterable[Manifest]) -> Blocked:
    name, why = live["metadata"]["name"], (_condition(live, "Failed") or {}).get("message", "")
    there = f"-n {live['metadata']['namespace']}"
    todo = f"Read kubectl logs job/{name} {there}. Mended in the resource or in a Secret, it is tried again; else "
    todo += f"after kubectl delete job {name} {there}."
    text = f"Job {name} gave up ({why}).{last_end(tried)} {todo}"
    return Blocked(Reason.MIGRATION_FAILED, text)


def _newest(live: Manifest, pods: list[Manifest], observed: Observed) -> list[Manifest]:
    """Pods of the newest ReplicaSet alone: what was wrong with their predecessors no longer matters."""
    revision, uid = _annotation(live, REVISION), live["metadata"].get("uid")
    hashes = {
        _label(item, POD_HASH)
        for item in observed.children
        if item["kind"] == "ReplicaSet"
        and _annotation(item, REVISION) == revision
        and any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences") or [])
    }
    return [pod for pod in pods if _label(pod, POD_HASH) in hashes] if hashes else pods


def _pods_of(observed: Observed, part: str) -> list[Manifest]:
    """A part's pods that are meant to run."""
    return [pod for pod in observed.pods if component_of(pod) == part and _may_run(pod)]


def _may_run(pod: Manifest) -> bool:
    return not pod["metadata"].get("deletionTimestamp") and not ended(pod)


def ended(pod: Manifest) -> bool:
    """It is kept for its logs and runs no more: an evicted pod, a migration's earlier attempt."""
    return _status(pod).get("phase") in ("Succeeded", "Failed")


def _condition(live: Manifest, kind: str) -> Manifest | None:
    """A condition of a live object, if it is true."""
    conditions: list[Manifest] = _status(live).get("conditions") or []
    return next((item for item in conditions if item["type"] == kind and item["status"] == "True"), None)


def _status(live: Manifest) -> dict[str, Any]:
    return live.get("status") or {}


def _label(live: Manifest, name: str) -> str:
    return str((live["metadata"].get("labels") or {}).get(name, ""))


def _annotation(live: Manifest, name: str) -> str:
    return str((live["metadata"].get("annotations") or {}).get(name, ""))
