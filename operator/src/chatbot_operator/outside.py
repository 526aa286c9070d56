"""Asks pods again and again of the stores that they go on without: nothing in the cluster changes when one goes away.

What counts is what a reconcile was told. When a pod says something else, its resource is queued, and that is all.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from chatbot_operator.asking import Target, ask
from chatbot_operator.known import Known
from chatbot_operator.queue import Key, jitter
from chatbot_operator.world import Answer

EVERY_SECONDS = 8.0
AT_ONCE = 10
"""Resources in a second, at 1.5 ms of CPU each: with many of them each is asked less often, and it never costs more."""


@dataclass(frozen=True)
class _Told:
    targets: tuple[Target, ...]
    lacking: Mapping[str, frozenset[str]]
    """Stores by pod. The kind of the error is left out: it changes from one attempt to the next."""


class Outside:
    def __init__(self, known: Known, enqueue: Callable[[Key], None]) -> None:
        self._known = known
        self._enqueue = enqueue
        self._told: dict[Key, _Told] = {}

    def note(self, key: Key, targets: Collection[Target], answers: Mapping[str, Answer]) -> None:
        """What a reconcile was told. Without anybody to ask, the resource is left alone from now on."""
        self._told.pop(key, None)
        if targets:
            self._told[key] = _Told(tuple(targets), {pod: frozenset(said.lacking) for pod, said in answers.items()})

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(EVERY_SECONDS * jitter())
            await self.once()

    async def once(self) -> None:
        """One round through all resources."""
        keys = list(self._told)
        for first in range(0, len(keys), AT_ONCE):
            some = keys[first : first + AT_ONCE]
            pause = asyncio.sleep(1.0 if first + AT_ONCE < len(keys) else 0.0)
            await asyncio.gather(*map(self._look, some), pause)

    async def _look(self, key: Key) -> None:
        told = self._told.get(key)
        if told is None:
            return
        # One of them by chance: they use the same store. Who does not answer says nothing new.
        for pod, answer in (await ask([random.choice(told.targets)])).items():  # noqa: S311 - no secret
            if self._told.get(key) is not told:  # looked at meanwhile
                return
            if frozenset(answer.lacking) != told.lacking.get(pod, frozenset()):
                self._known.forget(key)
                self._enqueue(key)
