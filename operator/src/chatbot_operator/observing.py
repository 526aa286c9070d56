"""Reads the world of one resource for plan.py: its children, their pods, and digests of what the user owns."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog

from chatbot_operator import names
from chatbot_operator.cluster import Cluster
from chatbot_operator.faults import Refused
from chatbot_operator.kinds import CHILDREN, bots_selector
from chatbot_operator.queue import Key
from chatbot_operator.referenced import reference_digest
from chatbot_operator.world import Manifest, Observed, Reference

log = structlog.get_logger("observe")


async def observe(cluster: Cluster, key: Key, uid: str, wanted: Iterable[Reference]) -> Observed:
    """All at the same time: one round trip instead of a dozen."""
    namespace, name = key
    references, *lists = await together(
        _references(cluster, namespace, uid, wanted),
        *(cluster.list(kind, namespace, bots_selector(name, kind)) for kind in (*CHILDREN, "Pod")),
    )
    *children, pods = lists
    return Observed(tuple(item for found in children for item in found), tuple(pods), references)


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Results in order. When one fails, the others are cancelled and its error is raised, as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _references(
    cluster: Cluster, namespace: str, uid: str, wanted: Iterable[Reference]
) -> dict[Reference, str | None]:
    references = list(wanted)
    objects = sorted({(reference.kind, reference.name) for reference in references})
    found = await together(*(_referenced(cluster, kind, namespace, name) for kind, name in objects))
    live = dict(zip(objects, found, strict=True))
    return {item: reference_digest(live[item.kind, item.name], item.key, uid) for item in references}


async def _referenced(cluster: Cluster, kind: str, namespace: str, name: str) -> Manifest | None:
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
