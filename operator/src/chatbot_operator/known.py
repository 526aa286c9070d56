"""What each resource looked like when there was last nothing to do: who looks the same need not be looked at again.

The same inputs lead to the same plan. So an event about an object in the very version that was already looked at is no
news, such as those of everything there is after a start; a resync passes over a resource whose objects are all as they
were; and when the resource alone was edited, everything else is as it was. About 40 kB for a resource.

Any doubt ends it: our own write, an event about anything else, an error. Then the next reconcile reads everything anew.
"""

import pickle
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chatbot_operator.queue import Key
from chatbot_operator.world import Manifest

Versions = Mapping[str, str]
"""resourceVersion of each object by its uid: the resource itself, its children, their pods, and what it refers to."""


@dataclass(frozen=True)
class _Look:
    versions: Versions
    others: bytes
    """What `Known.others` gives, small: as objects they would take thirty times the memory."""


class Known:
    def __init__(self) -> None:
        self._looks: dict[Key, _Look] = {}
        self._looking: set[Key] = set()
        """Resources that are being looked at, and of which nothing has become news since."""

    def begin(self, key: Key) -> None:
        """Now everything about a resource is going to be read."""
        self._looking.add(key)

    def settled(self, key: Key, versions: Versions, others: Sequence[Manifest]) -> None:
        """There was nothing to do, unless something has become news meanwhile.

        Args:
            others: children and pods, as they were read; no Secrets.
        """
        if key in self._looking:
            self._looks[key] = _Look(versions, zlib.compress(pickle.dumps(others), level=1))

    def forget(self, key: Key) -> None:
        """From now on everything about the resource is news."""
        self._looks.pop(key, None)
        self._looking.discard(key)

    def holds(self, key: Key, uid: str, version: str) -> bool:
        look = self._looks.get(key)
        return look is not None and look.versions.get(uid) == version

    def others(self, key: Key, uid: str, version: str) -> Sequence[Manifest] | None:
        """What there is besides a resource that was edited since; None when anything else may have changed, too."""
        look = self._looks.get(key)
        if look is None or look.versions.get(uid) in (None, version):
            return None
        found: Sequence[Manifest] = pickle.loads(zlib.decompress(look.others))  # noqa: S301 - from our own memory
        return found

    def differing(self, found: Mapping[Key, Versions], namespace: str | None) -> set[Key]:
        """Resources that look otherwise than when they were settled, those that are gone, and those that never were.

        Args:
            found: all there are in the namespace, or anywhere when it is None.
        """
        settled = {key: look.versions for key, look in self._looks.items() if namespace in (None, key[0])}
        return {key for key in found.keys() | settled.keys() if found.get(key) != settled.get(key)}
