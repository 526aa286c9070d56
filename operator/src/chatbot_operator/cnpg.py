"""What CloudNativePG says of a Cluster, in our reasons: the facts of readiness.py for a store that it runs."""

from chatbot_operator import names
from chatbot_operator.components.cloudnativepg import HIBERNATION, runs
from chatbot_operator.pod_findings import pods_finding
from chatbot_operator.readiness import count, current, stateful_set_finding
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Observed

STORE_KINDS = ("StatefulSet", "Cluster")
"""Kinds of what a store is run by."""
FAILED = (
    "Cluster is unrecoverable",
    "Unable to create",
    "Cluster has incomplete or invalid image catalog",
    "Cluster cannot",
    "Waiting for user action",
    "Not enough disk space",
)
"""How phases begin that do not pass by waiting (api/v1/cluster_types.go of its release 1.27, and its controller)."""


def store_finding(wanted: Manifest, observed: Observed) -> Blocked | None:
    """Why a store is not ready, whoever runs it."""
    return cluster_finding(wanted, observed) if wanted["kind"] == "Cluster" else stateful_set_finding(wanted, observed)


def cluster_finding(wanted: Manifest, observed: Observed) -> Blocked | None:
    name = wanted["metadata"]["name"]
    live = observed.child("Cluster", name)
    if live is None:
        return Blocked(Reason.NOT_CREATED, f"Cluster {name} does not exist yet.")
    if _phase(live).startswith(FAILED):
        return Blocked(Reason.STORE_FAILED, _said(live))
    if wanted["metadata"]["annotations"][HIBERNATION] == "on":
        return _resting(live)
    if not _ready(live):
        pods = [pod for pod in observed.pods if runs(pod, name)]
        return pods_finding(pods, observed.at) or Blocked(Reason.STARTING, _said(live))
    return _roles_finding(live) or _database_finding(names.database(name), observed)


def _ready(live: Manifest) -> bool:
    """Its condition alone is that of an earlier time, just after it has been woken or was asked for more instances."""
    asleep = _condition(live, HIBERNATION) is not None
    return _condition(live, "Ready") == "True" and not asleep and _ready_instances(live) >= live["spec"]["instances"]


def _resting(live: Manifest) -> Blocked:
    if _condition(live, HIBERNATION) == "True":
        return Blocked(Reason.HIBERNATED, "spec.mode is Hibernated: no pod runs until it is Active.")
    # It waits until it is healthy, so that no disk is left half made.
    return Blocked(Reason.STOPPING, f"{_said(live)} CloudNativePG takes its pods away once it is healthy.")


def _said(live: Manifest) -> str:
    """In its own words."""
    name, why = live["metadata"]["name"], (live.get("status") or {}).get("phaseReason")
    if not _phase(live):
        return f"Cluster {name}: CloudNativePG has said nothing of it yet; is its operator running?"
    ready = f"{_ready_instances(live)} of {live['spec']['instances']} instances are ready"
    return f"Cluster {name}: {_phase(live)}{f' ({why})' if why else ''}; {ready}."


def _roles_finding(live: Manifest) -> Blocked | None:
    roles = ((live.get("status") or {}).get("managedRolesStatus") or {}).get("cannotReconcile") or {}
    for role, why in sorted(roles.items()):
        text = f"Cluster {live['metadata']['name']}: its role {role} cannot be made: {'; '.join(why)}"
        return Blocked(Reason.STORE_FAILED, text)
    return None


def _database_finding(name: str, observed: Observed) -> Blocked | None:
    live = observed.child("Database", name)
    if live is None:
        return Blocked(Reason.NOT_CREATED, f"Database {name} does not exist yet.")
    status = live.get("status") or {}
    if status.get("applied") is None or not current(live):
        return Blocked(Reason.STARTING, f"Database {name} has not been made in its Cluster yet.")
    if status["applied"]:
        return None
    return Blocked(Reason.STORE_FAILED, f"Database {name}: {_cause(status)}")


def _cause(status: Manifest) -> str:
    """Of an extension the message stands with it."""
    parts = [f"extension {item['name']}: {item.get('message', '')}" for item in status.get("extensions") or []
             if not item.get("applied")]  # fmt: skip
    return "; ".join([status.get("message") or "was not made", *parts])


def _ready_instances(live: Manifest) -> int:
    return count(live, "readyInstances")


def _phase(live: Manifest) -> str:
    return str((live.get("status") or {}).get("phase") or "")


def _condition(live: Manifest, kind: str) -> str | None:
    found = (live.get("status") or {}).get("conditions") or []
    return next((str(item["status"]) for item in found if item["type"] == kind), None)
