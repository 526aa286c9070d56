"""Whether the disks of stores that sleep go with the resource.

Kubernetes notes that of each disk while a pod has it, and not of one whose StatefulSet has none: what an edit says
meanwhile would not count, and what is to be retained would go.
"""

from collections.abc import Iterator

from chatbot_operator.cluster import Cluster
from chatbot_operator.components.metadata import API_VERSIONS
from chatbot_operator.components.stores import disk as disk_of
from chatbot_operator.faults import Refused
from chatbot_operator.kinds import DISK
from chatbot_operator.progress import Progress
from chatbot_operator.readiness import count, desired, ended
from chatbot_operator.world import Manifest, Observed


async def note_owners(cluster: Cluster, done: Progress, observed: Observed) -> None:
    """Raises `Conflict` and other `ApiFault`s; a refusal is told in the log, and tried again."""
    for name, body in mislaid(observed):
        try:
            done.written.append(await cluster.patch(DISK, done.key[0], name, body))
            done.writes += 1
        except Refused as refused:
            done.refusal(DISK, name, refused)


def mislaid(observed: Observed) -> Iterator[tuple[str, Manifest]]:
    """Disks that do not belong to their StatefulSet as its policy says, and a merge patch by which they do."""
    for store in observed.children:
        if store["kind"] != "StatefulSet" or desired(store) or count(store, "replicas"):
            continue
        name, owner = store["metadata"]["name"], store["metadata"]["uid"]
        live = observed.child(DISK, disk_of(name))
        used = any(pod["metadata"]["name"] == f"{name}-0" and not ended(pod) for pod in observed.pods)
        if live is None or used or live["metadata"].get("deletionTimestamp"):
            continue
        owners = live["metadata"].get("ownerReferences") or []
        others = [one for one in owners if one["uid"] != owner]
        goes = store["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
        if goes == (len(others) < len(owners)):
            continue
        mine = {"apiVersion": API_VERSIONS["StatefulSet"], "kind": "StatefulSet", "name": name, "uid": owner}
        read = {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
        yield live["metadata"]["name"], {"metadata": read | {"ownerReferences": [*others, mine] if goes else others}}
