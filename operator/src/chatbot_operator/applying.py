"""Brings one child to what is wanted of it, and writes nothing when it is there already."""

from collections.abc import Iterable, Mapping

import structlog

from chatbot_operator import names
from chatbot_operator.cluster import Cluster, identify
from chatbot_operator.components.metadata import applied_hash, digest
from chatbot_operator.drift import Path, show
from chatbot_operator.faults import Conflict, Invalid
from chatbot_operator.fights import Child, Doings, Fights, Taken
from chatbot_operator.kinds import DISK
from chatbot_operator.managed import (
    SOMEBODY,
    Found,
    at,
    handed_over,
    managers,
    other_managers,
    rivals,
    strays,
    we_own,
    writers_of,
    written_by_others,
)
from chatbot_operator.metrics import Metrics
from chatbot_operator.unchanging import changes, fixed, mended, outgrown, sealed
from chatbot_operator.world import Manifest, Name

NONE = "1"
"""A resourceVersion that no object has, the store itself being older: what must have it can only be made."""
REPLICAS: Path = ("spec", "replicas")

log = structlog.get_logger("apply")


class NameTaken(Exception):
    """An object of that name belongs to somebody else; it is left as it is."""


class Applier:
    """Of one resource. Remembers what an apply could not change, and what was fought over."""

    def __init__(self, cluster: Cluster, metrics: Metrics, owner: str) -> None:
        self._cluster = cluster
        self.owner = owner
        """uid of the resource."""
        self._settled: dict[Child, tuple[str, str, str]] = {}
        """uid, resourceVersion and hash of what was last found to be as wanted: it need not be compared again."""
        self._kept: dict[Child, tuple[str, str, Mapping[Path, str]]] = {}
        """uid, applied hash, and digests of what the API server writes in its own way."""
        self._doings: dict[Child, Doings] = {}
        """What we have sent: who makes a child say something else is somebody else."""
        self._fights = Fights(metrics)
        self._answers: list[Manifest] = []
        self.held: dict[str, float] = {}
        """Since when the number of a Deployment's pods waits for who set it before; see handover.py."""

    async def settle(self, wanted: Manifest, live: Manifest | None) -> bool | Taken:
        """Apply what moved.

        Args:
            live: as it was observed, None when no such child was.

        Returns:
            Whether something was written; what was taken back from whom, if it was that.

        Raises:
            NameTaken: the name belongs to something else.
            Fought: it was taken back too often.
            ApiFault: see faults.py.
        """
        if live is None:
            try:
                return await self._apply(wanted, new=True)
            except Conflict:
                live = await self._foreign(wanted)
                self._doings.pop(identify(wanted), None)
        try:
            return await self._bring(wanted, live)
        except Conflict:
            # Its own controller writes what it observes, most often while it acts on the very edit that is to go.
            return await self._bring(wanted, await self._foreign(wanted))

    async def _bring(self, wanted: Manifest, live: Manifest) -> bool | Taken:
        """Whatever is to be done about what is there."""
        if wanted["kind"] != DISK:  # which belongs to its StatefulSet, or to nobody
            _refuse_others(wanted, live, self.owner)
        child, metadata = identify(wanted), live["metadata"]
        version = (metadata["uid"], metadata["resourceVersion"], applied_hash(wanted))
        if self._settled.get(child) == version:
            return False
        if (doings := self._doings.get(child)) is None or doings.uid not in ("", metadata["uid"]):
            # Made anew by us, such as a Secret, by a controller, which only disks are, or by somebody else.
            theirs = doings is not None and wanted["kind"] != DISK and written_by_others(live)
            self._doings[child] = Doings(set() if theirs else {applied_hash(live)}, uid=metadata["uid"])
        if woken := await self._wake(child, wanted, live):
            return woken
        moved = changes(wanted, live)
        kept = self._kept.get(child) == (metadata["uid"], applied_hash(wanted), _values(live, moved))
        if not moved or kept or metadata.get("deletionTimestamp"):
            self._settled[child] = version
            return False
        if outgrown(wanted, live):
            # Its pod goes on, and belongs to the next one, which the next look makes.
            if left := await self._cluster.delete(live, "Orphan"):
                self._answers.append(left)
            return True
        return await self._take_back(child, wanted, live, moved)

    async def patch(self, child: Manifest, body: Manifest) -> Manifest:
        """What an apply cannot do. Raises `ApiFault`s like `settle`."""
        answer = await self._cluster.patch(*identify(child), body)
        self._answers.append(answer)
        return answer

    def answers(self) -> list[Manifest]:
        """What was written since this was asked last, as the API server has it now."""
        found, self._answers = self._answers, []
        return found

    def forget(self, namespace: str, gone: Iterable[Name]) -> None:
        """What was deleted, and may never be again: names carry hashes of what they say."""
        for kind, name in gone:
            child = (kind, namespace, name)
            for known in (self._settled, self._kept, self._doings):
                known.pop(child, None)
            self._fights.forget(child)

    async def _foreign(self, wanted: Manifest) -> Manifest:
        """What has the name although it was not observed as ours: apply would make it ours without asking."""
        kind, namespace, name = identify(wanted)
        # As a list, which is what we may do with every kind.
        found = await self._cluster.list(kind, namespace, fields=f"metadata.name={name}")
        if not found:
            raise Conflict(f"{kind} {name} was there a moment ago")
        live = found[0]
        if not _is_ours(wanted, live, self.owner):
            raise NameTaken(f"{kind} {name} exists and is not ours: delete it, or give the resource another name.")
        return live

    async def _wake(self, child: Child, wanted: Manifest, live: Manifest) -> bool | Taken:
        """An HPA leaves a Deployment alone that was scaled to nothing, and would for ever.

        So does everybody else, after a hibernation: nobody but us knows how many pods there were. Who scales it to
        nothing again and again is fought with like anybody else.
        """
        if wanted["kind"] != "Deployment" or "replicas" in wanted["spec"] or live["spec"].get("replicas") != 0:
            return False
        before = (live["metadata"].get("annotations") or {}).get(names.REPLICAS_BEFORE)
        if before is None and wanted["metadata"]["annotations"].get(names.SCALED_BY) in names.MAY_HAVE_NONE:
            return False
        # Somebody may have edited it.
        replicas = max(1, int(before)) if before and before.isdecimal() else 1
        writers = [name for name in other_managers(live, REPLICAS) if name != names.SCALE_MANAGER]
        # After an edit of ours it is no fight: whoever scaled it so may have been asked to.
        if before is None and writers and applied_hash(live) == applied_hash(wanted):
            hint = " Leave the number to it with scaling.mode External."
            taken = Taken(child, writers[0], [show(REPLICAS)])
            self._fights.refuse(taken, hint)
            await self._hold_replicas(wanted, replicas)
            return self._fights.won(taken)
        await self._hold_replicas(wanted, replicas)
        log.warning("woken from 0 replicas", child=child, replicas=replicas)
        return True

    async def _take_back(self, child: Child, wanted: Manifest, live: Manifest, moved: frozenset[Path]) -> bool | Taken:
        """Apply, also against others, unless it was done too often."""
        fields = sorted(map(show, moved))
        # After an edit of ours it is no fight; what cannot be changed has none.
        asked = applied_hash(live) != applied_hash(wanted) and not fixed(live)
        edited = asked and self._doings[child].are(live)
        writers = [] if edited else writers_of(live, moved, hidden=asked)
        removed = not (asked or writers) and self._removed(child, live, moved)
        if writers or removed:
            self._fights.refuse(Taken(child, writers[0] if writers else self._fights.last(child), fields))
        await self._hand_over_replicas(wanted, live)
        writers += await self._apply_over(child, wanted, live, moved, edited=edited)
        if removed and not writers:
            writers = [SOMEBODY]
        # Else it may be nobody's doing: the API server writes a value in its own way, which we have forgotten with a
        # restart.
        return self._fights.won(Taken(child, writers[0], fields)) if writers else True

    def _removed(self, child: Child, live: Manifest, moved: frozenset[Path]) -> bool:
        """Whether something that no other writes was there when we were answered."""
        _, _, kept = self._kept.get(child, ("", "", {}))
        return not fixed(live) and self._doings[child].has_seen(live) and not moved <= kept.keys()

    async def _apply_over(
        self, child: Child, wanted: Manifest, live: Manifest, moved: frozenset[Path], *, edited: bool
    ) -> list[str]:
        """
        Args:
            edited: something is wanted that was never applied: what others have instead cannot have been ours.

        Returns:
            Whose fields stood in the way.
        """
        if fixed(live):
            await self._mend(wanted, live)
            return []
        by: list[str] = []
        if not edited and (found := strays(wanted, live, moved)):
            by = managers(live, found)
            live = await self._make_ours(child, wanted, live, found, moved)
        try:
            await self._apply(wanted)
        except Invalid as invalid:
            found = rivals(wanted, live, moved, invalid.fields) or strays(wanted, live, moved)
            if not found:
                raise
            by = [*by, *managers(live, found)]
            await self._make_ours(child, wanted, live, found, moved)
            await self._apply(wanted)
        return by

    async def _mend(self, wanted: Manifest, live: Manifest) -> None:
        """What cannot be changed as a whole."""
        if not sealed(wanted, live):
            self._note(wanted, await self.patch(wanted, mended(wanted, live)))
        elif left := await self._cluster.delete(live):  # somebody's finalizer holds it: its end is an event
            self._answers.append(left)
        else:
            await self._apply(wanted, new=True)

    async def _make_ours(
        self, child: Child, wanted: Manifest, live: Manifest, found: Found, moved: frozenset[Path]
    ) -> Manifest:
        """What is ours, and not wanted, goes with the next apply."""
        self._fights.refuse(Taken(child, managers(live, found)[0], sorted(map(show, moved))))
        metadata = {"resourceVersion": live["metadata"]["resourceVersion"]}
        body = {"metadata": metadata | {"managedFields": handed_over(wanted, live, found)}}
        return await self.patch(wanted, body)

    async def _apply(self, wanted: Manifest, *, new: bool = False) -> bool:
        """
        Args:
            new: make it, or raise `Conflict` if something has its name.
        """
        metadata = wanted["metadata"] | ({"resourceVersion": NONE} if new else {})
        # Before: an answer may be lost on its way.
        self._doings.setdefault(identify(wanted), Doings()).hashes.add(applied_hash(wanted))
        self._note(wanted, await self._send(wanted | {"metadata": metadata}))
        return True

    def _note(self, wanted: Manifest, written: Manifest) -> None:
        child, kept = identify(wanted), changes(wanted, written)
        log.info("applied", kind=child[0], namespace=child[1], name=child[2])
        self._doings[child].answered(written)
        self._kept.pop(child, None)
        if kept:
            # Applying again would change nothing, for ever.
            log.warning("the API server keeps other values", child=child, fields=sorted(map(show, kept)))
            self._kept[child] = (written["metadata"]["uid"], applied_hash(wanted), _values(written, kept))

    async def _hand_over_replicas(self, wanted: Manifest, live: Manifest) -> None:
        """An autoscaler is to own `replicas`, and we still do: leaving it out would reset it to 1.

        A second manager that holds the present number keeps it; the autoscaler's first write takes it from there.
        """
        if "replicas" in (wanted.get("spec") or {}) or not we_own(live, REPLICAS):
            return
        await self._hold_replicas(wanted, live["spec"]["replicas"])

    async def _hold_replicas(self, wanted: Manifest, replicas: int) -> None:
        metadata = {key: wanted["metadata"][key] for key in ("name", "namespace")}
        head = {key: wanted[key] for key in ("apiVersion", "kind")}
        await self._send(head | {"metadata": metadata, "spec": {"replicas": replicas}}, names.SCALE_MANAGER)

    async def _send(self, manifest: Manifest, manager: str = names.FIELD_MANAGER) -> Manifest:
        answer = await self._cluster.apply(manifest, manager)
        self._answers.append(answer)
        return answer


def _values(live: Manifest, paths: Iterable[Path]) -> Mapping[Path, str]:
    return {path: digest(at(live, path)) for path in paths}


def _is_ours(wanted: Manifest, live: Manifest, owner: str) -> bool:
    """It was made since we looked, or somebody took our labels off it."""
    metadata = live["metadata"]
    if any(reference["uid"] == owner for reference in metadata.get("ownerReferences") or []):
        return True
    mine = wanted["metadata"]["labels"][names.INSTANCE]
    named = (metadata.get("labels") or {}).get(names.INSTANCE, mine)
    return bool(named == mine and applied_hash(live))


def _refuse_others(wanted: Manifest, live: Manifest, owner: str) -> None:
    """An earlier resource of the same name may still be going."""
    owners = live["metadata"].get("ownerReferences") or []
    if any(reference.get("controller") and reference["uid"] != owner for reference in owners):
        kind, _, name = identify(wanted)
        raise NameTaken(f"{kind} {name} still belongs to another owner. It is made anew when that one is gone.")
