"""Recent Warning events of a bot, of its pods and of what makes them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from chatbot_operator.names import BOT

from chatbot_cli.cluster.kubectl import Kubectl, Object
from chatbot_cli.cluster.refusals import Refused, Why
from chatbot_cli.cluster.resources import Bot
from chatbot_cli.cluster.times import seconds_since

MAKERS = ("Pod", "ReplicaSet", "Deployment", "StatefulSet", "Job", "HorizontalPodAutoscaler")
RECENT_SECONDS = 3600.0
SHOWN = 5


@dataclass(frozen=True)
class Happening:
    """The same thing told about the same object, however often."""

    object: str
    reason: str
    message: str
    when: str
    count: int


def recent(kubectl: Kubectl, bot: Bot, now: datetime) -> list[Happening]:
    """The latest first; none when one may not see them."""
    try:
        told = kubectl.list(["Event"], fields="type=Warning")
        parts = kubectl.list(MAKERS, f"{BOT}={bot.name}")
    except Refused as refused:
        if refused.why is Why.FORBIDDEN:
            return []
        raise
    ours = {bot.uid, *(item["metadata"]["uid"] for item in parts)}
    found = [_happening(item) for item in told if item["involvedObject"].get("uid") in ours]
    fresh = [item for item in found if (seconds_since(item.when, now) or 0) < RECENT_SECONDS]
    return sorted(_together(fresh), key=lambda item: item.when, reverse=True)[:SHOWN]


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


def _together(found: Iterable[Happening]) -> list[Happening]:
    known: dict[tuple[str, str, str], Happening] = {}
    for item in sorted(found, key=lambda item: item.when):
        key = (item.object, item.reason, item.message)
        count = item.count + (known[key].count if key in known else 0)
        known[key] = Happening(*key, item.when, count)
    return list(known.values())
