"""What stays of what is there, and what is left over; and, while nothing is changed, what would be. Pure."""

from collections.abc import Iterable, Mapping, Set

from chatbot_operator import names
from chatbot_operator.components import lost_status, migrations, monitoring, moving, revisions
from chatbot_operator.components.metadata import SECRETS, applied_hash, component_of
from chatbot_operator.kinds import OPTIONAL, WRITTEN
from chatbot_operator.readiness import count, draining, job_state
from chatbot_operator.reasons import Reason
from chatbot_operator.unchanging import fixed
from chatbot_operator.world import Blocked, Manifest, Name, Observed, Step, StepName

PARTS: Mapping[StepName, frozenset[str]] = {
    "secrets": frozenset({SECRETS}),
    "stores": frozenset({"postgres", "redis", "weaviate"}),
    "copy": frozenset({moving.part(owner) for owner in names.OWNERS}),
    "migrations": frozenset({migrations.part(owner) for owner in names.OWNERS}),
    "conversation": frozenset({"conversation", "conversation-worker"}),
    "auth": frozenset({"auth"}),
    "chat": frozenset({"chat"}),
    "gateway": frozenset({"gateway"}),
    "monitoring": frozenset({monitoring.PART}),
    "revision": frozenset({revisions.PART}),
}
"""Component labels of what belongs to a step."""

MISSED = frozenset({*WRITTEN, *OPTIONAL}) - {"ConfigMap", "ControllerRevision", "Job"}
"""Kinds of what does something for as long as it is there; the others are files and records that nothing reads."""


def wanted(steps: Iterable[Step], observed: Observed) -> set[Name]:
    """Everything that is to stay: what the steps want, what exists of the steps that wait, and what is still in use."""
    steps = list(steps)
    waiting = {part for step in steps if step.blocked for part in PARTS[step.name]}
    named = {_name(item) for step in steps for item in step.manifests}
    kept = {_name(item) for item in observed.children if component_of(item) in waiting}
    # A store that is to stay has a policy if the resource wants one.
    kept |= keep(observed) - {("NetworkPolicy", name) for kind, name in named if kind == "StatefulSet"}
    return (named | kept) - {name for step in steps for name in step.anew}


def keep(observed: Observed) -> frozenset[Name]:
    """ConfigMaps that a pod may still be made to read: by a rollback, a restart, or a Job that has not ended."""
    users = [item for item in observed.children if item["kind"] in ("Deployment", "ReplicaSet")]
    users += [item for item in observed.children if item["kind"] == "Job" and job_state(item) == "running"]
    configs = {volume["configMap"]["name"] for item in users for volume in _volumes(item) if "configMap" in volume}
    return frozenset({("ConfigMap", name) for name in configs} | _stores_in_use(observed)) | lost_status.evidence(
        observed
    )


def _stores_in_use(observed: Observed) -> set[Name]:
    """Stores that pods still read the password of: they go when the last such pod has ended."""
    running = [item for item in observed.children if item["kind"] == "ReplicaSet" and count(item, "replicas")]
    running += [item for item in observed.children if item["kind"] == "Deployment"]
    volumes = [volume for item in running for volume in _volumes(item)]
    volumes += [volume for pod in draining(observed) for volume in pod["spec"].get("volumes") or ()]
    sources = [source for volume in volumes for source in _sources(volume)]
    used = {source["secret"]["name"] for source in sources if "secret" in source}
    return {(kind, name) for name in used for kind in ("Secret", "StatefulSet", "Service", "NetworkPolicy")}


def _volumes(item: Manifest) -> list[Manifest]:
    return item["spec"]["template"]["spec"].get("volumes") or []


def _sources(volume: Manifest) -> list[Manifest]:
    return (volume.get("projected") or {}).get("sources") or []


def left_over(children: Iterable[Manifest], owner: str, wanted: Set[Name], kinds: Set[str]) -> list[Manifest]:
    """
    Args:
        owner: uid of the resource.
        wanted: everything that is to stay.
        kinds: of what may go now.
    """
    return [live for live in children if live["kind"] in kinds and _is_left_over(live, owner, wanted)]


def held_back(steps: Iterable[Step], observed: Observed, owner: str) -> Blocked | None:
    """The first object that is not as the resource says, where nothing may be changed: an edit that waits."""
    steps = list(steps)
    for item in (item for step in steps if not step.blocked for item in step.manifests):
        live = observed.child(*_name(item))
        if live is None:
            return _held(item, "made")
        if applied_hash(live) != applied_hash(item) and not fixed(live):
            return _held(item, "changed")
    gone = left_over(observed.children, owner, wanted(steps, observed), MISSED)
    return next((_held(item, "deleted") for item in gone), None)


def _held(item: Manifest, what: str) -> Blocked:
    return Blocked(Reason.NOT_CREATED, f"{item['kind']} {item['metadata']['name']} is to be {what}.")


def _is_left_over(live: Manifest, owner: str, wanted: Set[Name]) -> bool:
    """What has no owner is kept on purpose; what has another is not ours to delete."""
    metadata = live["metadata"]
    owned = any(reference["uid"] == owner for reference in metadata.get("ownerReferences") or [])
    return owned and (live["kind"], metadata["name"]) not in wanted and not metadata.get("deletionTimestamp")


def _name(item: Manifest) -> Name:
    return item["kind"], item["metadata"]["name"]
