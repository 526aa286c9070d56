"""Looks now and then at the metadata of everything, and queues the resources that changed without an event.

Watching tells of changes at once; this finds what it missed. A complete reconcile of each resource would find it too,
for a dozen requests each; this takes about as many for a dozen resources.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import structlog
from chatbot_resource.model import KIND

from chatbot_operator.cluster import Cluster
from chatbot_operator.faults import ApiFault, Refused
from chatbot_operator.handlers import keys
from chatbot_operator.kinds import OPTIONAL, PLATFORMS, watched
from chatbot_operator.known import Known
from chatbot_operator.metrics import Metrics
from chatbot_operator.queue import Key, jitter
from chatbot_operator.referrers import Referrers
from chatbot_operator.versions import READ, version
from chatbot_operator.world import Manifest

ALWAYS = {KIND: "", "ReplicaSet": PLATFORMS}
"""What a reconcile looks at besides what is watched. Of ReplicaSets their Deployment tells when they matter."""
AGAIN_SECONDS = 30.0
"""After one that failed half-way."""
LISTING_SECONDS = 1.0
"""Kinds lose track together, and one resync is enough for all."""

log = structlog.get_logger("resync")


class Resync:
    """Args: `namespaces`: those that are watched; none means the whole cluster."""

    def __init__(
        self,
        cluster: Cluster,
        known: Known,
        referrers: Referrers,
        metrics: Metrics,
        enqueue: Callable[[Key], None],
        namespaces: Sequence[str] = (),
        apis: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._cluster = cluster
        self._known = known
        self._referrers = referrers
        self._metrics = metrics
        self._enqueue = enqueue
        self._namespaces = namespaces or (None,)
        self._apis = apis

    async def run(self, seconds: float, lost_track: asyncio.Event) -> None:
        """For ever: every `seconds`, and soon after a watch has lost track."""
        delay = seconds
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay * jitter()):
                    await lost_track.wait()
            if lost_track.is_set():
                await asyncio.sleep(LISTING_SECONDS)
                lost_track.clear()
            delay = seconds
            try:
                await self.once()
            except ApiFault as fault:
                log.warning("resync broken off", error=str(fault))
                delay = min(seconds, AGAIN_SECONDS)

    async def once(self) -> None:
        """Raises: ApiFault: see faults.py; a namespace that may not be read is passed over."""
        for namespace in self._namespaces:
            try:
                found = await self._look(namespace)
            except Refused as refused:
                log.warning("cannot look at a namespace", namespace=namespace, error=str(refused))
                continue
            for key in self._known.differing(found, namespace):
                self._metrics.resync_differences.inc()
                self._known.forget(key)
                self._enqueue(key)
        self._metrics.resyncs.inc()

    async def _look(self, namespace: str | None) -> dict[Key, dict[str, str]]:
        """The resources that are there, and what concerns them: what `Retain` keeps names one that is gone."""
        found: dict[Key, dict[str, str]] = {}
        for kind, selector in {**ALWAYS, **watched(self._apis())}.items():
            async for item in self._each(kind, namespace, selector):
                for key in self._concerned(kind, item["metadata"]):
                    if kind == KIND:  # the first of them
                        found[key] = {}
                    if key in found:
                        found[key][item["metadata"]["uid"]] = version(kind, item)
        return found

    async def _each(self, kind: str, namespace: str | None, selector: str) -> AsyncIterator[Manifest]:
        """None of an optional kind that may not be read here: neither does a look, see observing.py."""
        try:
            async for item in self._cluster.each(kind, namespace, selector, whole=kind in READ):
                yield item
        except Refused:
            if kind not in OPTIONAL:
                raise

    def _concerned(self, kind: str, metadata: Manifest) -> set[Key]:
        return keys(kind, metadata["namespace"], metadata["name"], metadata.get("labels") or {}, self._referrers)
