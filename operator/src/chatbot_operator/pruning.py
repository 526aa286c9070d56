"""Deletes what a resource owns and no longer wants."""

from collections.abc import Iterable

import structlog

from chatbot_operator.cluster import Cluster
from chatbot_operator.faults import Refused
from chatbot_operator.kinds import AUTOSCALERS, MAKERS, OPTIONAL, WRITTEN
from chatbot_operator.progress import Progress
from chatbot_operator.world import Manifest

FIRST = frozenset(AUTOSCALERS)
"""Kinds that go before anything is applied: an autoscaler would undo it."""
LAST = frozenset({*WRITTEN, *OPTIONAL}) - FIRST
"""Kinds that go after: pods may use a configuration until the new one has been applied."""

log = structlog.get_logger("reconcile")


async def prune(cluster: Cluster, done: Progress, unwanted: Iterable[Manifest]) -> None:
    for live in unwanted:
        kind, name = live["kind"], live["metadata"]["name"]
        try:
            # What KEDA has made of its object goes first: it would act on what is applied next.
            left = await cluster.delete(live, "Foreground" if kind in MAKERS else "Background")
            done.writes += 1
            if left:
                done.written.append(left)
            else:
                done.gone.add((kind, name))
            log.info("pruned", kind=kind, name=name)
        except Refused as refused:
            done.kept[kind, name] = done.refusal(kind, name, refused)
