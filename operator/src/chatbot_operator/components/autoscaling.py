"""How many pods a service has, whose number that is, and how many of them may be away at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from chatbot_resource.components import Component
from chatbot_resource.configuration import Service
from chatbot_resource.profiles import ResolvedScaling, resolve_scaling

from chatbot_operator import names
from chatbot_operator.components import dependencies, keda, load
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import API_VERSIONS, manifest, selector
from chatbot_operator.kinds import AUTOSCALERS, CUSTOM_METRICS
from chatbot_operator.load_findings import autoscaler_finding
from chatbot_operator.readiness import desired
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest


@dataclass(frozen=True)
class Replicas:
    """What a Deployment says of its number of pods."""

    count: int | None
    """None where somebody else owns it: it is never written then."""
    annotations: Mapping[str, str] = field(default_factory=dict)


def replicas(context: Context, service: Service) -> Replicas:
    if context.hibernated:
        return _none(context, service)
    scaling = resolve_scaling(context.bot.spec, service)
    # Where KEDA is missing nobody scales: then what has no pods is woken, and whatever has some keeps them.
    owned = scaling.replicas is None and not (scaling.mode == "KEDA" and keda.KIND not in context.observed.apis)
    return Replicas(scaling.replicas, {names.SCALED_BY: scaling.mode} if owned else {})


def worker_replicas(context: Context) -> Replicas:
    if context.hibernated:
        return _none(context, "conversation-worker")
    return Replicas(1 if context.bot.spec.profile == "Dev" else 2)


def _none(context: Context, part: names.Component) -> Replicas:
    """No pods, and how many there were: nobody else remembers it."""
    live = context.observed.child("Deployment", names.child(context.bot.name, part)) or {"metadata": {}, "spec": {}}
    known = (live["metadata"].get("annotations") or {}).get(names.REPLICAS_BEFORE)
    before = known or str(live["spec"].get("replicas") or "")
    return Replicas(0, {names.REPLICAS_BEFORE: before} if before else {})


def build(context: Context, service: Service) -> list[Manifest]:
    """The PodDisruptionBudget, and the autoscaler where there is one."""
    scaling = resolve_scaling(context.bot.spec, service)
    budget = disruption_budget(context, service, service)
    if context.hibernated:
        return [budget]
    match scaling.mode:
        case "HPA":
            return [budget, _autoscaler(context, service, scaling)]
        case "KEDA" if keda.KIND in context.observed.apis:
            return [budget, keda.build(context, service, component(context, service).scaling, scaling)]
        case _:
            return [budget]


def autoscalers(context: Context) -> list[Manifest]:
    """All there are: ours, and what KEDA has made of ours."""
    return [item for kind in AUTOSCALERS for item in context.observed.children if item["kind"] == kind]


def finding(context: Context) -> Blocked | None:
    """What keeps any of them from following the load."""
    if context.hibernated:
        return None
    missing = (dependencies.lacks(context, api) for api in (keda.KIND, CUSTOM_METRICS))
    wrong = (
        keda.finding(item) if item["kind"] == keda.KIND else autoscaler_finding(item, context.observed.at)
        for item in autoscalers(context)
        if item["kind"] == keda.KIND or not _has_no_pods(context, item)
    )
    return next(filter(None, (*missing, *_unmade(context), *wrong)), None)


def _unmade(context: Context) -> Iterable[Blocked]:
    """Autoscalers that are to be."""
    for service in names.SERVICE_COMPONENTS:
        for item in build(context, service):
            kind, name = item["kind"], item["metadata"]["name"]
            if kind in AUTOSCALERS and context.observed.child(kind, name) is None:
                scaled = context.observed.child("Deployment", names.child(context.bot.name, service))
                when = "does not exist yet" if scaled else "is made with its Deployment, which does not exist yet"
                yield Blocked(Reason.NOT_CREATED, f"{kind} {name} {when}.")


def _has_no_pods(context: Context, scaler: Manifest) -> bool:
    """Whether there is nothing whose load it could ask for: somebody else has taken the last pod."""
    live = context.observed.child("Deployment", scaler["spec"]["scaleTargetRef"]["name"])
    return live is not None and desired(live) == 0


def disruption_budget(context: Context, service: Service, part: names.Component) -> Manifest:
    spec = {
        "maxUnavailable": component(context, service).pdb.max_unavailable,
        "selector": {"matchLabels": selector(context.bot, part)},
        # A pod that never got ready must not hold up the draining of its node.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return manifest(context.bot, part, "PodDisruptionBudget", names.child(context.bot.name, part), {"spec": spec})


def _autoscaler(context: Context, service: Service, scaling: ResolvedScaling) -> Manifest:
    name = names.child(context.bot.name, service)
    wanted = component(context, service).scaling
    cpu = {"type": "Utilization", "averageUtilization": wanted.targets.cpu_percent}
    metrics: list[Manifest] = [{"type": "Resource", "resource": {"name": "cpu", "target": cpu}}]
    if wanted.targets.in_flight_streams and CUSTOM_METRICS in context.observed.apis:
        streams = {"type": "AverageValue", "averageValue": str(wanted.targets.in_flight_streams)}
        metrics.append({"type": "Pods", "pods": {"metric": {"name": load.STREAMS}, "target": streams}})
    spec = {
        "scaleTargetRef": {"apiVersion": API_VERSIONS["Deployment"], "kind": "Deployment", "name": name},
        "minReplicas": scaling.min,
        "maxReplicas": scaling.max,
        "metrics": metrics,
        "behavior": {
            "scaleDown": {"stabilizationWindowSeconds": wanted.behavior.scale_down.stabilization_window_seconds}
        },
    }
    return manifest(context.bot, service, "HorizontalPodAutoscaler", name, {"spec": spec})


def component(context: Context, service: Service) -> Component:
    """What the resource says of a service."""
    found: Component = getattr(context.bot.spec.components, service)
    return found
