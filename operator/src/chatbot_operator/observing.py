"""Reads the world of one resource for plan.py: its children, their pods, and digests of what the user owns."""

import asyncio
import hashlib
import json
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog

from chatbot_operator import names
from chatbot_operator.cluster import Cluster
from chatbot_operator.faults import Refused
from chatbot_operator.kinds import WRITTEN, bots_selector
from chatbot_operator.known import Versions
from chatbot_operator.queue import Key
from chatbot_operator.world import Manifest, Name, Observed, Reference

CHILDREN = (*WRITTEN, "ReplicaSet")
"""Kinds of `Observed.children`."""

log = structlog.get_logger("observe")


async def observe(cluster: Cluster, key: Key, uid: str, wanted: Iterable[Reference]) -> tuple[Observed, Versions]:
    """All at the same time: one round trip instead of a dozen. With the versions of everything that was looked at.

    From the API server, not from what the watches told: so a reconcile never acts on what it has itself outdated.
    """
    namespace, name = key
    wanted = list(wanted)
    referenced, *lists = await together(
        _referenced(cluster, namespace, wanted),
        *(cluster.list(kind, namespace, bots_selector(name, kind)) for kind in (*CHILDREN, "Pod")),
    )
    *children, pods = lists
    looked = [item for found in lists for item in found] + [live for live in referenced.values() if live is not None]
    versions = {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in looked}
    references = {one: _digest(referenced[one.kind, one.name], one.key, uid) for one in wanted}
    return Observed(tuple(item for found in children for item in found), tuple(pods), references), versions


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


def _digest(live: Manifest | None, key: str | None, salt: str) -> str | None:
    """Salted by the resource's uid, so that equal digests of two resources say nothing about equal values."""
    if live is None:
        return None
    values = (live.get("data") or {}) | (live.get("binaryData") or {})
    if key is not None and key not in values:
        return None
    chosen = values if key is None else values[key]
    return hashlib.sha256(json.dumps([salt, chosen], sort_keys=True).encode()).hexdigest()
