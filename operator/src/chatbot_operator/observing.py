"""Reads the world of one resource for plan.py: its children, their pods, and digests of what the user owns."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial

import structlog

from chatbot_operator import causes, faqs, names
from chatbot_operator.asking import ask, serving, unready
from chatbot_operator.cluster import Cluster
from chatbot_operator.faults import Refused
from chatbot_operator.kinds import AUTOSCALERS, CHILDREN, OPTIONAL, bots_selector, optional
from chatbot_operator.known import Others, Versions
from chatbot_operator.queue import Key
from chatbot_operator.referenced import reference_digest, written
from chatbot_operator.together import together
from chatbot_operator.versions import version
from chatbot_operator.world import Manifest, Name, Observed, Reference

LOOKED_AT = (*CHILDREN, "Pod")
RUNNING = ("Pod", "ReplicaSet")
"""What is read anew where nothing is to run: data is copied, and stores sleep, once no pod is left."""
SERVING = ("Deployment", "Service")
KEPT_OUT = ("Secret",)
"""What they say stays in memory no longer than a reconcile takes."""

log = structlog.get_logger("observe")


@dataclass(frozen=True)
class Look:
    """What was observed, and what known.py keeps of it."""

    observed: Observed
    referenced: Versions
    """Of what the user owns."""


async def observe(
    cluster: Cluster,
    key: Key,
    uid: str,
    wanted: Iterable[Reference],
    known: Others,
    apis: frozenset[str] = frozenset(),
    *,
    label: bool = True,
    asked: Collection[str] = (),
    faq: Reference | None = None,
) -> Look:
    """All at the same time: one round trip instead of a dozen.

    Args:
        known: children and pods of the kinds that need not be read, see known.py.
        apis: optional ones that the cluster has.
        label: whether what is referred to may be labelled; else its edits are seen at the next resync.
        asked: components of which a pod is asked although it is ready.
        faq: which of what is wanted has to be FAQs.
    """
    namespace, name = key
    wanted = list(wanted)
    kinds = [kind for kind in (*LOOKED_AT, *optional(apis)) if kind not in known]
    referenced, *lists = await together(
        _referenced(cluster, namespace, wanted, label),
        *(_listed(cluster, kind, namespace, name) for kind in kinds),
    )
    apis -= {kind for kind, items in zip(kinds, lists, strict=True) if items is None}
    found = [item for items in (*lists, *known.values()) for item in items or ()]
    children = tuple(item for item in found if item["kind"] != "Pod")
    pods = tuple(item for item in found if item["kind"] == "Pod")
    references = {one: reference_digest(referenced[one.kind, one.name], one.key, uid) for one in wanted}
    secrets = {name: written(live) for (kind, name), live in referenced.items() if live and kind == "Secret"}
    refused, answers = await together(
        causes.told(cluster, children, pods),
        ask([*unready(pods), *serving(pods, asked)]),
    )
    bad = await faqs.mistake(referenced[faq.kind, faq.name], str(faq.key)) if faq in references and faq else ""
    return Look(
        Observed(children, pods, references, apis, refused=refused, answers=answers, bad_faqs=bad, written=secrets),
        versions(live for live in referenced.values() if live is not None),
    )


async def with_users(cluster: Cluster, key: Key, observed: Observed) -> Observed:
    """With the ReplicaSets of this very moment: they tell what is in use, and nobody tells of them."""
    namespace, name = key
    found = await cluster.list("ReplicaSet", namespace, bots_selector(name, "ReplicaSet"))
    return replace(observed, children=(*(item for item in observed.children if item["kind"] != "ReplicaSet"), *found))


async def with_autoscalers(cluster: Cluster, key: Key, observed: Observed) -> Observed:
    """With the autoscalers of this very moment: one that was not heard of yet would undo what is applied next."""
    namespace, name = key
    kinds = [kind for kind in AUTOSCALERS if kind not in OPTIONAL or kind in observed.apis]
    lists = await together(*(cluster.list(kind, namespace, bots_selector(name, kind)) for kind in kinds))
    found = [item for items in lists for item in items]
    return replace(observed, children=(*(item for item in observed.children if item["kind"] not in kinds), *found))


async def left_of(cluster: Cluster, key: Key) -> list[Manifest]:
    """What tells whether a resource serves that nobody looks after."""
    namespace, name = key
    lists = await together(*(cluster.list(kind, namespace, bots_selector(name, kind)) for kind in SERVING))
    return [item for items in lists for item in items]


def versions(objects: Iterable[Manifest]) -> Versions:
    return {item["metadata"]["uid"]: version(item["kind"], item) for item in objects}


def others(observed: Observed) -> Others:
    """What the next look need not read, unless something is news of it."""
    found: dict[str, list[Manifest]] = {kind: [] for kind in LOOKED_AT if kind not in KEPT_OUT}
    found |= {kind: [] for kind in optional(observed.apis)}
    for item in (*observed.children, *observed.pods):
        if item["kind"] not in KEPT_OUT:
            found[item["kind"]].append(item)
    return found


async def _listed(cluster: Cluster, kind: str, namespace: str, name: str) -> list[Manifest] | None:
    """None: an optional kind that may not be read here, though elsewhere it may, see apis.py."""
    try:
        return await cluster.list(kind, namespace, bots_selector(name, kind))
    except Refused:
        if kind not in OPTIONAL:
            raise
        return None


async def _referenced(
    cluster: Cluster, namespace: str, wanted: Iterable[Reference], label: bool
) -> dict[Name, Manifest | None]:
    objects = sorted({(reference.kind, reference.name) for reference in wanted})
    read = partial(_labelled, cluster) if label else cluster.get
    found = await together(*(read(kind, namespace, name) for kind, name in objects))
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
