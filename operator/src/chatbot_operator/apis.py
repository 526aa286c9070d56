"""Which optional APIs the cluster has, such as HTTPRoute: what nobody has installed is a condition, never an error.

Looked for when the operator begins to lead, and every minute. Kopf cannot begin to watch a kind later on, so the
process starts anew when one has come or gone; another replica leads within seconds.
"""

import asyncio
from collections.abc import Sequence

import structlog

from chatbot_operator.cluster import Cluster
from chatbot_operator.faults import ApiFault, NotFound, Refused
from chatbot_operator.kinds import GROUPS, OPTIONAL

LOOK_SECONDS = 60.0
AGAIN_SECONDS = 5.0

log = structlog.get_logger("apis")


class Apis:
    """Args: `namespaces`: those that are watched; none means the whole cluster."""

    def __init__(self, cluster: Cluster, namespaces: Sequence[str] = ()) -> None:
        self._cluster = cluster
        self._namespaces = namespaces or (None,)
        self._detected = asyncio.Event()
        self.kinds: frozenset[str] = frozenset()

    async def detect(self) -> frozenset[str]:
        """Waits until the API server says."""
        while True:
            try:
                self.kinds = await self._look()
                break
            except ApiFault as fault:
                log.warning("cannot look for optional APIs", error=str(fault))
                await asyncio.sleep(AGAIN_SECONDS)
        self._detected.set()
        log.info("optional APIs", there=sorted(self.kinds))
        return self.kinds

    async def changed(self) -> None:
        """Returns when other APIs are there than were detected."""
        await self._detected.wait()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                found = await self._look()
            except ApiFault as fault:
                log.warning("cannot look for optional APIs", error=str(fault))
                continue
            if found != self.kinds:
                log.info("optional APIs have changed", there=sorted(found), before=sorted(self.kinds))
                return

    async def _look(self) -> frozenset[str]:
        kinds = [kind for kind in OPTIONAL if await self._is_there(kind)]
        return frozenset([*kinds, *[group for group in GROUPS if await self._is_served(group)]])

    async def _is_served(self, group: str) -> bool:
        try:
            return await self._cluster.serves(group)
        except Refused as refused:
            log.warning("may not be asked for", group=group, error=str(refused))
            return False

    async def _is_there(self, kind: str) -> bool:
        """Listing asks for the kind and for the right to use it at once.

        One namespace that answers is enough; another may be gone, and the rights in it.
        """
        said = ""
        for namespace in self._namespaces:
            try:
                await self._cluster.list(kind, namespace, limit=1)
            except NotFound:
                return False
            except Refused as refused:
                said = str(refused)
            else:
                return True
        log.warning("may not be used", kind=kind, error=said)
        return False
