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
    name = wanted["metadata"]["name"]
    live, disk = observed.child("StatefulSet", name), observed.child(DISK, disk_of(name))
    if live is None or disk is None or not _sleeps(live):
        return None
    owners = disk["metadata"].get("ownerReferences") or []
    others = [one for one in owners if one["uid"] != live["metadata"]["uid"]]
    if others == owners:
        return None
    read = {key: disk["metadata"][key] for key in ("uid", "resourceVersion")}
    return disk, {"metadata": read | {"ownerReferences": others}}


def _stays(item: Manifest) -> bool:
    return bool(item["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain")


def _sleeps(live: Manifest) -> bool:
    return _stays(live) and current(live) and desired(live) == count(live, "replicas") == 0
