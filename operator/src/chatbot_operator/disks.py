"""Disks that are to stay although their store goes. Pure.

The controller of a StatefulSet writes whom its disk belongs to, as `persistentVolumeClaimRetentionPolicy` says, only
while a pod has it: what was to go would still go with a store that sleeps. Owners are only ever taken away here; see
decision 29 in docs/decisions.
"""

from chatbot_operator.components.stores import disk as disk_of
from chatbot_operator.kinds import DISK
from chatbot_operator.readiness import count, current, desired
from chatbot_operator.world import Manifest, Observed


def held(wanted: Manifest, observed: Observed) -> tuple[Manifest, Manifest] | None:
    """The disk that a sleeping store would take along, and a merge patch that takes it from the store.

    Only once the controller has seen that it is to stay and to have no pod: it writes nothing after that.
    """
    if wanted["kind"] != "StatefulSet" or not _stays(wanted):
        return None
    live = observed.child("StatefulSet", wanted["metadata"]["name"])
    if live is None or not _stays(live) or not _rests(live):
        return None
    disk = _disk(live, observed)
    if disk is None or not _owns(live, disk):
        return None
    others = [one for one in disk["metadata"]["ownerReferences"] if one["uid"] != live["metadata"]["uid"]]
    read = {key: disk["metadata"][key] for key in ("uid", "resourceVersion")}
    return disk, {"metadata": read | {"ownerReferences": others}}


def stay(observed: Observed) -> bool:
    """Whether a disk outlives its store, whatever the resource says: its controller has not made it go yet."""
    stores = (item for item in observed.children if item["kind"] == "StatefulSet")
    return any(disk is not None and not _owns(store, disk) for store in stores for disk in [_disk(store, observed)])


def _disk(store: Manifest, observed: Observed) -> Manifest | None:
    return observed.child(DISK, disk_of(store["metadata"]["name"]))


def _owns(store: Manifest, disk: Manifest) -> bool:
    owners = disk["metadata"].get("ownerReferences") or []
    return any(one["uid"] == store["metadata"]["uid"] for one in owners)


def _stays(item: Manifest) -> bool:
    return bool(item["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain")


def _rests(live: Manifest) -> bool:
    return current(live) and desired(live) == count(live, "replicas") == 0
