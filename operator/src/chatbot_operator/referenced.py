"""What a reference leads to, as a digest: pods roll when it changes, and nobody can read the value from it. Pure.

And when it was changed last, which the API server keeps beside it.
"""

import hashlib
import json

from chatbot_operator.world import Manifest

CONTENT = "f:data"


def reference_digest(live: Manifest | None, key: str | None, salt: str) -> str | None:
    """Digest of one key of a Secret or ConfigMap, or of all; None when it is not there.

    Args:
        salt: the resource's uid, so that equal digests of two resources say nothing about equal values.
    """
    if live is None:
        return None
    values = (live.get("data") or {}) | (live.get("binaryData") or {})
    if key is not None and key not in values:
        return None
    chosen = values if key is None else values[key]
    return hashlib.sha256(json.dumps([salt, chosen], sort_keys=True).encode()).hexdigest()


def written(live: Manifest) -> str:
    """When the content of a live Secret was last written, RFC 3339: at the latest, where who did wrote more than that.

    Where nobody keeps who wrote what: when it was made.
    """
    entries = live["metadata"].get("managedFields") or ()
    times = [str(entry["time"]) for entry in entries if entry.get("time") and _of_content(entry)]
    return max(times, default=str(live["metadata"].get("creationTimestamp") or ""))


def _of_content(entry: Manifest) -> bool:
    return CONTENT in (entry.get("fieldsV1") or {})
