"""Children of which something cannot be changed once they are there, and what is done about them instead. Pure."""

from chatbot_operator import names
from chatbot_operator.components.metadata import applied_hash
from chatbot_operator.drift import Path, differences
from chatbot_operator.managed import HASH, lost
from chatbot_operator.world import Manifest

SAID = ("data", "binaryData")
"""What a ConfigMap says."""


def changes(wanted: Manifest, live: Manifest) -> frozenset[Path]:
    """What is other than wanted, as far as anything can be done about it."""
    there = live | {"metadata": {"annotations": {}} | live["metadata"]}
    found = frozenset(differences(wanted, there, lost=lambda path: lost(live, path)))
    if not fixed(live) or sealed(wanted, live):
        return found
    # The hash is of all that was applied: it is put back where that is all there.
    telling = {HASH} if applied_hash(live) or any(path[0] != "metadata" for path in found) else set()
    return frozenset(path for path in found - telling if path[0] == "metadata")


def fixed(live: Manifest) -> bool:
    """Kinds of which only the metadata can be changed; their names carry the hash of what they say."""
    return live["kind"] in ("Job", "ControllerRevision") or bool(live["kind"] == "ConfigMap" and live.get("immutable"))


def sealed(wanted: Manifest, live: Manifest) -> bool:
    """A ConfigMap that somebody has made immutable, and that is to say something else: it has to be made anew.

    Nothing is lost by that: all it says is known. Of a Secret that cannot be said, and it is never deleted.
    """
    if live["kind"] != "ConfigMap" or not live.get("immutable") or wanted.get("immutable"):
        return False
    return any(path[0] in SAID for path in differences(wanted, live))


def outgrown(wanted: Manifest, live: Manifest) -> bool:
    """Whether a StatefulSet is to have larger disks: nobody can change that of one that exists."""
    if live["kind"] != "StatefulSet":
        return False
    sizes = [
        [claim["spec"]["resources"]["requests"]["storage"] for claim in item["spec"].get("volumeClaimTemplates") or []]
        for item in (wanted, live)
    ]
    return sizes[0] != sizes[1]


def mended(wanted: Manifest, live: Manifest) -> Manifest:
    """A merge patch of the metadata: an apply of that alone would take back all else that was applied.

    Owners are one list, and others may have added some: it is written only as long as it is what was read.
    """
    told, there = wanted["metadata"], live["metadata"]
    mine = told.get("ownerReferences") or []
    ours = {one["uid"] for one in mine}
    owners = [one for one in there.get("ownerReferences") or [] if one["uid"] not in ours] + mine
    noted = dict(told["annotations"])
    if HASH not in changes(wanted, live):
        del noted[names.APPLIED_HASH]
    read = {name: there[name] for name in ("uid", "resourceVersion")}
    return {"metadata": read | {"labels": told["labels"], "annotations": noted, "ownerReferences": owners}}
