"""How many pods a service has, and how many of them may be away at a time."""

from chatbot_resource.configuration import Service
from chatbot_resource.profiles import ResolvedScaling, resolve_scaling

from chatbot_operator import names
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import API_VERSIONS, manifest, selector
from chatbot_operator.world import Manifest

CPU_PERCENT = 70
"""Of what a pod requests."""


def replicas(context: Context, service: Service) -> int | None:
    """The fixed number; None where the autoscaler owns it."""
    return resolve_scaling(context.bot.spec, service).replicas


def worker_replicas(context: Context) -> int:
    return 1 if context.bot.spec.profile == "Dev" else 2


def build(context: Context, service: Service) -> list[Manifest]:
    """The PodDisruptionBudget, and the autoscaler where there is one."""
    scaling = resolve_scaling(context.bot.spec, service)
    budget = disruption_budget(context, service)
    return [budget, _autoscaler(context, service, scaling)] if scaling.mode == "HPA" else [budget]


def disruption_budget(context: Context, part: names.Component) -> Manifest:
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector(context.bot, part)},
        # A pod that never got ready must not hold up the draining of its node.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return manifest(context.bot, part, "PodDisruptionBudget", names.child(context.bot.name, part), {"spec": spec})


def _autoscaler(context: Context, service: Service, scaling: ResolvedScaling) -> Manifest:
    name = names.child(context.bot.name, service)
    target = {"type": "Utilization", "averageUtilization": CPU_PERCENT}
    spec = {
        "scaleTargetRef": {"apiVersion": API_VERSIONS["Deployment"], "kind": "Deployment", "name": name},
        "minReplicas": scaling.min,
        "maxReplicas": scaling.max,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    return manifest(context.bot, service, "HorizontalPodAutoscaler", name, {"spec": spec})
