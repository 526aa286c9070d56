"""Which resources refer to an object that users own: what handlers.py asks when such an object changes."""

from collections import defaultdict
from collections.abc import Iterable

from chatbot_operator.queue import Key
from chatbot_operator.world import Reference

Target = tuple[str, str, str]
"""Kind, namespace and name."""


class Referrers:
    """Filled by each reconcile; all resources are reconciled when the operator starts."""

    def __init__(self) -> None:
        self._targets: dict[Key, frozenset[Target]] = {}
        self._keys: defaultdict[Target, set[Key]] = defaultdict(set)

    def refer(self, key: Key, references: Iterable[Reference]) -> None:
        """From now on the resource refers to exactly these."""
        new = frozenset((reference.kind, key[0], reference.name) for reference in references)
        old = self._targets.pop(key, frozenset())
        for target in old - new:
            self._keys[target].discard(key)
            if not self._keys[target]:
                del self._keys[target]
        for target in new:
            self._keys[target].add(key)
        if new:
            self._targets[key] = new

    def of(self, target: Target) -> frozenset[Key]:
        return frozenset(self._keys.get(target, ()))
