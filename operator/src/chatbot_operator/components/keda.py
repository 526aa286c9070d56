"""KEDA's autoscaler of a service: a ScaledObject, of which KEDA makes a HorizontalPodAutoscaler of its own.

Its labels lead us to that one, too, which is KEDA's to make, change and remove. Ours to remove is the ScaledObject,
which leaves the number of pods as it is.
"""

from chatbot_resource.components import Scaling
from chatbot_resource.configuration import Service
from chatbot_resource.profiles import ResolvedScaling

from chatbot_operator import names
from chatbot_operator.components import load
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import manifest
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest

KIND = "ScaledObject"
ANNOTATIONS = {"scaledobject.keda.sh/hpa-excluded-labels": names.MANAGED_BY}
"""KEDA's HorizontalPodAutoscaler has all labels but that: it is not managed by us."""


def build(context: Context, service: Service, written: Scaling, resolved: ResolvedScaling) -> Manifest:
    name = names.child(context.bot.name, service)
    quiet = written.behavior.scale_down.stabilization_window_seconds
    behavior = {"scaleDown": {"stabilizationWindowSeconds": quiet}}
    spec: Manifest = {
        "scaleTargetRef": {"name": name},
        "minReplicaCount": resolved.min,
        "maxReplicaCount": resolved.max,
        "triggers": _triggers(context, written, resolved),
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
    }
    if resolved.min == 0:
        # The last pod goes as carefully as the others, also when KEDA has just taken over.
        spec |= {"cooldownPeriod": quiet, "initialCooldownPeriod": quiet}
    return manifest(context.bot, service, KIND, name, {"spec": spec}, annotations=ANNOTATIONS)


def _triggers(context: Context, written: Scaling, resolved: ResolvedScaling) -> list[Manifest]:
    targets = written.targets
    found = [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(targets.cpu_percent)}}]
    if targets.in_flight_streams:
        found.append(_prometheus(context, load.streams(context.bot), targets.in_flight_streams))
        if resolved.min == 0:
            # Never more than 1, so it calls for one pod and no second.
            found.append(_prometheus(context, load.asked(context.bot), 1))
    return found


def _prometheus(context: Context, query: str, threshold: int) -> Manifest:
    """One pod for each `threshold` of what the query gives; any pod at all while that is more than 0."""
    server = str(context.bot.spec.telemetry.prometheus_url).rstrip("/")
    metadata = {"serverAddress": server, "query": query, "threshold": str(threshold)}
    return {"type": "prometheus", "metricType": "AverageValue", "metadata": metadata}


def finding(live: Manifest) -> Blocked | None:
    """What keeps a ScaledObject from scaling, in KEDA's words."""
    if text := _wrong(live):
        return Blocked(Reason.SCALED_OBJECT_NOT_READY, f"{KIND} {live['metadata']['name']} {text}")
    return None


def _wrong(live: Manifest) -> str:
    """Empty where nothing is."""
    if live["metadata"].get("deletionTimestamp"):
        return "is being deleted, and KEDA has not let go of it: is its operator running?"
    found = {item["type"]: item for item in (live.get("status") or {}).get("conditions") or []}
    ready, paused = found.get("Ready") or {}, found.get("Paused") or {}
    if paused.get("status") == "True":
        return f"is paused by an annotation of it: {paused.get('message', '')}"
    if ready.get("status") == "True":
        return ""
    if not ready.get("message"):
        return "has not been taken up by KEDA yet: is its operator running?"
    return f"is not ready: {ready.get('reason', '')}: {ready['message']}"
