"""Recent Warning events of a bot, of its pods and of what makes them.

What a component's pods say alike is told once. Failed probes come last: a pod that starts or stops has some, and they
say less than whatever else is told.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from chatbot_operator.names import BOT, COMPONENT

from chatbot_cli.cluster.kubectl import Kubectl, Object
from chatbot_cli.cluster.refusals import Refused, Why
from chatbot_cli.cluster.resources import Bot
from chatbot_cli.cluster.times import seconds_since

MAKERS = ("Pod", "ReplicaSet", "Deployment", "StatefulSet", "Job", "HorizontalPodAutoscaler")
RECENT_SECONDS = 3600.0
SHOWN = 5
PROBE = "Unhealthy"
"""Reason of the kubelet's events about probes; each names an address or a time, so no two are alike."""

FORBIDDEN = " is forbidden: "
"""Before it, a message names a pod that never was."""


@dataclass(frozen=True)
class Happening:
    """The same thing told about the same object, or about pods of the same component, however often."""

    object: str
    reason: str
    message: str
    when: str
    count: int
    others: int = 0
    """Pods of the same component that it was also told of."""


def recent(kubectl: Kubectl, bot: Bot, now: datetime) -> list[Happening]:
    """The latest first; none when one may not see them."""
    try:
        told = kubectl.list(["Event"], fields="type=Warning")
        parts = kubectl.list(MAKERS, f"{BOT}={bot.name}")
    except Refused as refused:
        if refused.why is Why.FORBIDDEN:
            return []
        raise
    ours = {bot.uid: "", **{item["metadata"]["uid"]: _component(item) for item in parts}}
    return chosen(told, ours, now)


def chosen(told: Iterable[Object], ours: Mapping[str, str], now: datetime) -> list[Happening]:
    """
    Args:
        told: Events of anything.
        ours: uids of the bot and its parts; of a pod with its component.
    """
    found = [
        (ours[uid], _happening(item)) for item in told if (uid := str(item["involvedObject"].get("uid") or "")) in ours
    ]
    fresh = [(part, item) for part, item in found if (seconds_since(item.when, now) or 0) < RECENT_SECONDS]
    latest = sorted(_together(fresh), key=lambda item: item.when, reverse=True)
    return sorted(latest, key=lambda item: item.reason == PROBE)[:SHOWN]


def _component(item: Object) -> str:
    """Of a pod; what makes pods is there once, and has a name to be told by."""
    return str((item["metadata"].get("labels") or {}).get(COMPONENT) or "") if item["kind"] == "Pod" else ""


def _happening(event: Object) -> Happening:
    about, series = event["involvedObject"], event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return Happening(
        f"{about['kind']} {about.get('name', '')}",
        str(event.get("reason") or ""),
        " ".join(str(event.get("message") or "").split()),
        str(next(filter(None, times), event["metadata"].get("creationTimestamp") or "")),
        int(series.get("count") or event.get("count") or 1),
    )


def _gist(item: Happening) -> str:
    """What is the same in the words of each attempt."""
    if item.reason == PROBE:  # Readiness probe failed: Get "http://10.0.0.7:9090/readyz": …
        return item.message.partition(":")[0]
    # Error creating: pods "demo-chat-5d9c7b8f6-x2x2x" is forbidden: exceeded quota: team, requested: …, used: …
    return item.message.partition(FORBIDDEN)[2].partition(",")[0] or item.message


def _together(found: Iterable[tuple[str, Happening]]) -> list[Happening]:
    """Each by the latest that tells it."""
    alike: dict[tuple[str, str, str], list[Happening]] = {}
    for part, item in sorted(found, key=lambda one: one[1].when):
        alike.setdefault((part or item.object, item.reason, _gist(item)), []).append(item)
    return [
        replace(items[-1], count=sum(item.count for item in items), others=len({item.object for item in items}) - 1)
        for items in alike.values()
    ]
