"""Reads the world of one resource for plan.py: its children, their pods, and digests of what the user owns."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from chatbot_operator import names
from chatbot_operator.cluster import Cluster
from chatbot_operator.faults import Refused
from chatbot_operator.kinds import CHILDREN, bots_selector, optional
from chatbot_operator.known import Versions
from chatbot_operator.queue import Key
from chatbot_operator.referenced import reference_digest
from chatbot_operator.world import Manifest, Name, Observed, Reference

LOOKED_AT = (*CHILDREN, "Pod")
KEPT_OUT = ("Secret",)
"""What they say stays in memory no longer than a reconcile takes."""

log = structlog.get_logger("observe")


@dataclass(frozen=True)
class Look:
    """What was observed, and what known.py keeps of it."""

    observed: Observed
    versions: Versions
    others: Sequence[Manifest]


async def observe(
    cluster: Cluster,
    key: Key,
    uid: str,
    wanted: Iterable[Reference],
    others: Sequence[Manifest] | None = None,
    apis: frozenset[str] = frozenset(),
) -> Look:
    """All at the same time: one round trip instead of a dozen.

    Args:
        others: children and pods that are known to be as they were, see known.py; None: everything is read.
        apis: optional ones that the cluster has.
    """
    namespace, name = key
    wanted = list(wanted)
    referenced, *lists = await together(
        _referenced(cluster, namespace, wanted),
        *(
            cluster.list(kind, namespace, bots_selector(name, kind))
            for kind in ((*LOOKED_AT, *optional(apis)) if others is None else KEPT_OUT)
        ),
    )
    found = [*(item for items in lists for item in items), *(others or ())]
    children = tuple(item for item in found if item["kind"] != "Pod")
    pods = tuple(item for item in found if item["kind"] == "Pod")
    references = {one: reference_digest(referenced[one.kind, one.name], one.key, uid) for one in wanted}
    return Look(
        Observed(children, pods, references, apis),
        _versions([*found, *(live for live in referenced.values() if live is not None)]),
        [item for item in found if item["kind"] not in KEPT_OUT],
    )


def _versions(objects: Iterable[Manifest]) -> Versions:
    return {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in objects}


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Results in order. When one fails, the others are cancelled and its error is raised, as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _referenced(cluster: Cluster, namespace: str, wanted: Iterable[Reference]) -> dict[Name, Manifest | None]:
    objects = sorted({(reference.kind, reference.name) for reference in wanted})
    found = await together(*(_labelled(cluster, kind, namespace, name) for kind, name in objects))
    return dict(zip(objects, found, strict=True))


async def _labelled(cluster: Cluster, kind: str, namespace: str, name: str) -> Manifest | None:
    """What a user owns, labelled so that its edits are seen from now on."""
    live = await cluster.get(kind, namespace, name)
    if live is None or (live["metadata"].get("labels") or {}).get(names.REFERENCED) == "true":
        return live
    # With its uid: never on another object that has taken the name meanwhile.
    metadata = {"uid": live["metadata"]["uid"], "labels": {names.REFERENCED: "true"}}
    try:
        return await cluster.patch(kind, namespace, name, {"metadata": metadata})
    except Refused as refused:
        # Somebody guards it: then its edits are seen at the next resync.
        log.warning("cannot label", kind=kind, name=name, error=str(refused))
        return live
