"""What each resource looked like when there was last nothing to do: who looks the same need not be looked at again.

The same inputs lead to the same plan. So an event about an object in the very version that was already looked at is no
news, such as those of everything there is after a start, and a resync passes over a resource whose objects are all as
they were. Only uids and versions are kept, about 10 kB for a resource, and never what an object says.
"""

from collections.abc import Mapping

from chatbot_operator.queue import Key

Versions = Mapping[str, str]
"""resourceVersion of each object by its uid: the resource itself, its children, their pods, and what it refers to."""


class Known:
    def __init__(self) -> None:
        self._versions: dict[Key, Versions] = {}

    def settled(self, key: Key, versions: Versions) -> None:
        """There was nothing to do for a resource while its objects were these."""
        self._versions[key] = versions

    def forget(self, key: Key) -> None:
        """From now on everything about the resource is news."""
        self._versions.pop(key, None)

    def holds(self, key: Key, uid: str, version: str) -> bool:
        return self._versions.get(key, {}).get(uid) == version

    def differing(self, found: Mapping[Key, Versions], namespace: str | None) -> set[Key]:
        """Resources that look otherwise than when they were settled, those that are gone, and those that never were.

        Args:
            found: all there are in the namespace, or anywhere when it is None.
        """
        settled = {key for key in self._versions if namespace in (None, key[0])}
        return {key for key in found.keys() | settled if found.get(key) != self._versions.get(key)}
