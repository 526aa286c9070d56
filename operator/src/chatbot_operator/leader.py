"""One process acts, the others wait: leader election by a Lease.

The clocks of two machines are never compared: a candidate counts, on its own monotonic clock, how long the Lease has
not changed. The leader stops acting a good while before any candidate may take over, and then ends its process.

A leader that is stopped between that check and a write cannot know better. Where the chart's fencing policy is
installed, the API server does: the leader signs the operator's ServiceAccount, and who else writes is refused.
"""

import asyncio
import math
import time
from typing import Any

import structlog

from chatbot_operator import names
from chatbot_operator.cluster import Cluster
from chatbot_operator.faults import ApiFault, Conflict
from chatbot_operator.settings import LeaseSettings
from chatbot_operator.world import Manifest

KIND = "Lease"
ACCOUNT = "ServiceAccount"
LOOK_SECONDS = 2.0
"""How often a candidate looks: a released Lease is taken this fast."""
SAFE_PART = 2 / 3
"""Of the Lease's duration; without a renewal for longer, the leader may no longer act."""

log = structlog.get_logger("leader")


class LeaseLost(Exception):
    """We may no longer act."""


class Leadership:
    def __init__(self, cluster: Cluster, settings: LeaseSettings, identity: str) -> None:
        self._cluster = cluster
        self._settings = settings
        self.identity = identity
        self._spec: Any = None
        """The Lease as it was last seen to change, and when that was."""
        self._changed_at = -math.inf
        self._renewed_at = -math.inf
        self.looked = False
        """Whether the API server has answered yet."""

    @property
    def age(self) -> float:
        """Seconds since the renewal that succeeded last was sent; infinite for who never led."""
        return time.monotonic() - self._renewed_at

    @property
    def safe_seconds(self) -> float:
        return self._settings.duration * SAFE_PART

    def check(self) -> None:
        """Raises `LeaseLost` unless we may act now. Asked before every write."""
        if self.age >= self.safe_seconds:
            raise LeaseLost(f"the Lease was renewed {self.age:.1f} s ago")

    async def acquire(self) -> None:
        """Returns when this process leads."""
        while True:
            try:
                if await self._take():
                    log.info("leading", identity=self.identity)
                    return
            except Conflict:
                log.info("another process was faster")
            except ApiFault as fault:
                log.warning("cannot reach the Lease", error=str(fault))
            await asyncio.sleep(LOOK_SECONDS)

    async def acquired(self, stop: asyncio.Event) -> bool:
        """Whether this process leads; False when the stop came first. Then it holds nothing, either."""
        taking, stopping = asyncio.create_task(self.acquire()), asyncio.create_task(stop.wait())
        await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if taking.done():
            taking.result()
            return True
        taking.cancel()
        await asyncio.wait({taking})
        if self.looked:  # the Lease may have become ours, and the answer was not waited for
            await self.release()
        return False

    async def hold(self) -> None:
        """Renew for ever. Raises `LeaseLost`."""
        while True:
            self.check()
            pause = self._settings.renew
            try:
                async with asyncio.timeout(self.safe_seconds - self.age):
                    if not await self._take():
                        raise LeaseLost("another process holds the Lease")
            except (ApiFault, TimeoutError) as fault:
                log.warning("the Lease could not be renewed", error=str(fault) or type(fault).__name__)
                pause = min(1.0, pause)
            await asyncio.sleep(max(0.0, min(pause, self.safe_seconds - self.age)))

    async def release(self) -> None:
        """Let another take over at once. Only after the last write: from now on there is none."""
        self._renewed_at = -math.inf
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                live = await self._read()
                if live and live["spec"].get("holderIdentity") == self.identity:
                    spec = live["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._now()}
                    await self._cluster.replace(live | {"spec": spec})
        except (ApiFault, TimeoutError) as fault:
            log.warning("the Lease could not be released; it runs out by itself", error=str(fault))

    async def _take(self) -> bool:
        """Take or renew the Lease, if it is ours or nobody's; whether it is ours now.

        A `Conflict` says nothing about who has it: somebody may have labelled it. Looking again tells.
        """
        sent = time.monotonic()
        live, account = await self._read(), await self._account()
        if live is not None and not self._may_take(live["spec"]) and not _locked_out(live, account):
            return False
        wanted = self._wanted(live, account)
        written = await (self._cluster.create(wanted) if live is None else self._cluster.replace(wanted))
        self._spec, self._changed_at, self._renewed_at = written["spec"], time.monotonic(), sent
        if account:
            await self._sign(account)
        return True

    async def _account(self) -> Manifest | None:
        """The ServiceAccount to sign; None where nothing is fenced."""
        name = self._settings.account
        return await self._cluster.get(ACCOUNT, self._settings.namespace, name) if name else None

    async def _sign(self, account: Manifest) -> None:
        """From now on the API server takes our writes and no other pod's.

        Raises `Conflict` when the account has changed since before we wrote the Lease: so one who was stopped in
        between never signs over a later leader.
        """
        metadata = account["metadata"]
        if (metadata.get("annotations") or {}).get(names.LEADER) == self.identity:
            return
        body = {"resourceVersion": metadata["resourceVersion"], "annotations": {names.LEADER: self.identity}}
        await self._cluster.patch(ACCOUNT, self._settings.namespace, metadata["name"], {"metadata": body})

    def _may_take(self, spec: Manifest) -> bool:
        if spec != self._spec:
            self._spec, self._changed_at = spec, time.monotonic()
        holder = spec.get("holderIdentity")
        # Held by a process of this very pod: that one is dead, or we would not run.
        if not holder or holder == self.identity:
            return True
        return time.monotonic() - self._changed_at >= float(spec.get("leaseDurationSeconds") or 0)

    def _wanted(self, live: Manifest | None, account: Manifest | None) -> Manifest:
        old = (live or {}).get("spec") or {}
        mine = old.get("holderIdentity") == self.identity
        spec = old | {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._settings.duration,
            "renewTime": self._now(),
            "acquireTime": old.get("acquireTime") if mine else self._now(),
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if mine or live is None else 1),
        }
        metadata: Manifest = live["metadata"] if live else {"name": names.LEASE, "namespace": self._settings.namespace}
        if account:
            noted = {names.ACCOUNT: _known_as(account)}
            metadata = metadata | {"annotations": (metadata.get("annotations") or {}) | noted}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": KIND, "metadata": metadata, "spec": spec}

    def _now(self) -> str:
        """For people; nothing is decided by it."""
        return self._cluster.clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    async def _read(self) -> Manifest | None:
        found = await self._cluster.get(KIND, self._settings.namespace, names.LEASE)
        self.looked = True
        return found


def _locked_out(live: Manifest, account: Manifest | None) -> bool:
    """Whether who holds the Lease belongs to a ServiceAccount that is gone, as by `helm uninstall`, which takes rights
    away before the leader could give it back. Its token opens nothing any more, and the fence knows the new one.

    Only one that was made anew under the same name is gone for certain: who has another's may be alive, as while a
    release is renamed, or beside a second release.
    """
    noted = str((live["metadata"].get("annotations") or {}).get(names.ACCOUNT, ""))
    name, _, uid = noted.partition("/")
    return bool(account and uid and name == account["metadata"]["name"] and uid != account["metadata"]["uid"])


def _known_as(account: Manifest) -> str:
    return f"{account['metadata']['name']}/{account['metadata']['uid']}"
