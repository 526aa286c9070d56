"""What nothing but Events tells: why a pod could not be made, or does not begin.

They are not watched, and asked for only while a pod is lacking or waits.
"""

import re
from collections.abc import Iterable

from chatbot_operator.cluster import Cluster
from chatbot_operator.pod_findings import WORDS, waits_to_begin
from chatbot_operator.readiness import lacks_pods
from chatbot_operator.together import together
from chatbot_operator.world import Manifest, Name

TRIED = ("FailedCreate", "SuccessfulCreate")
"""Reasons of a controller's Events about a pod it wanted to make."""
FORBIDDEN = " is forbidden: "
"""Before it, a message names a pod that never was; what follows is the same from one attempt to the next."""
HINDERED = ("FailedCreatePodSandBox", "FailedMount", "FailedAttachVolume")
"""Reasons of Events about a pod that has its node and cannot begin; its status says only that it is being made."""
ATTEMPT = re.compile(r"\b[0-9a-f]{12,}\b")
"""The name of one attempt: another in the next, which is no news."""


async def told(cluster: Cluster, children: Iterable[Manifest], pods: Iterable[Manifest]) -> dict[Name, str]:
    """By kind and name, of StatefulSets and Jobs that lack pods, and of pods that wait to begin. Raises `ApiFault`."""
    at = cluster.clock.text()
    asked = [item for item in children if lacks_pods(item)] + [pod for pod in pods if waits_to_begin(pod, at)]
    events = await together(
        *(
            cluster.list("Event", item["metadata"]["namespace"], fields=f"involvedObject.uid={item['metadata']['uid']}")
            for item in asked
        )
    )
    found = {
        (item["kind"], item["metadata"]["name"]): (hindrance if item["kind"] == "Pod" else refusal)(about)
        for item, about in zip(asked, events, strict=True)
    }
    return {name: said for name, said in found.items() if said}


def refusal(events: Iterable[Manifest]) -> str:
    """What the last attempt came to; empty when it was not refused. Older ones may have been mended."""
    tried = [(_last(event), event["reason"] == TRIED[0], event) for event in events if event["reason"] in TRIED]
    if not tried:
        return ""
    # Within one second a disk may have been made before its pod was refused.
    _, failed, event = max(tried, key=lambda one: one[:2])
    said = str(event.get("message", ""))
    return (said.partition(FORBIDDEN)[2] or said) if failed else ""


def hindrance(events: Iterable[Manifest]) -> str:
    """What kept a pod from beginning last; empty where something else has happened to it since, as that an image is
    pulled."""
    event = max(events, key=_last, default=None)
    if event is None or event["reason"] not in HINDERED:
        return ""
    said = ATTEMPT.sub("…", str(event.get("message", "")))
    return f"{event['reason']}: {said if len(said) <= WORDS else '…' + said[-WORDS:]}"


def _last(event: Manifest) -> str:
    """When it was last seen; RFC 3339."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
