"""What a reference leads to, as a digest: pods roll when it changes, and nobody can read the value from it. Pure."""

import hashlib
import json

from chatbot_operator.world import Manifest


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
