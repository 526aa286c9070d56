"""What unset fields become: the values that depend on the profile, resolved the same for cluster and laptop. Pure.

What the user writes wins, value by value; a default that would contradict it gives way (a default bound above a written
maximum, a default limit below a written request), because Kubernetes refuses such pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from chatbot_resource.amounts import Amounts, Resources
from chatbot_resource.components import Component, Service
from chatbot_resource.fields import amount
from chatbot_resource.model import Profile, Spec
from chatbot_resource.stores import DISK, DISK_DEV, Storage


@dataclass(frozen=True)
class ResolvedScaling:
    """`replicas` is set for `Fixed` only, `min` and `max` for `HPA` and `KEDA`; with `External` others decide."""

    mode: Literal["Fixed", "HPA", "KEDA", "External"]
    replicas: int | None = None
    min: int | None = None
    max: int | None = None


Quantities = dict[str, str]
"""`cpu` and `memory`, each where it is set."""

BOUNDS: dict[Profile, tuple[int, int]] = {"Dev": (1, 3), "Standard": (3, 10), "Production": (3, 10)}

# None has a limit of cpu: shares of a busy node follow requests, and on an idle one it would only take away. See
# docs/decisions/0025.
_STANDARD: dict[str, Quantities] = {
    "requests": {"cpu": "250m", "memory": "512Mi"},
    "limits": {"memory": "1Gi"},
}
# Four services and the worker must leave room on two cores for the stores, the operator and one more pod of each while
# it is replaced.
_DEV: dict[Service, dict[str, Quantities]] = {
    "gateway": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
    "auth": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
    "chat": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
    "conversation": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
}


def resolve_scaling(spec: Spec, service: Service) -> ResolvedScaling:
    """How many pods of a service there are, or between how many."""
    written = _component(spec, service).scaling
    if written.replicas is not None:
        return ResolvedScaling("Fixed", replicas=written.replicas)
    if written.mode == "External":
        return ResolvedScaling("External")
    bounded = written.mode is not None or written.min_replicas is not None or written.max_replicas is not None
    if spec.profile == "Dev" and service != "chat" and not bounded:
        return ResolvedScaling("Fixed", replicas=1)
    low, high = BOUNDS[spec.profile]
    low = min(low, written.max_replicas or low) if written.min_replicas is None else written.min_replicas
    return ResolvedScaling(written.mode or "HPA", min=low, max=written.max_replicas or max(high, low))


def resolve_resources(spec: Spec, service: Service) -> dict[str, Quantities]:
    """`requests` and `limits` of a service's pods, as a container has them."""
    default = _DEV[service] if spec.profile == "Dev" else _STANDARD
    common = _giving_way(default, _written(spec.defaults.resources))
    return _giving_way(common, _written(_component(spec, service).resources))


def sample_ratio(spec: Spec) -> float:
    """Share of traces kept: all of them in `Dev`, where one wants to see each; else one in ten."""
    if spec.telemetry.sample_ratio is not None:
        return float(spec.telemetry.sample_ratio)
    return 1.0 if spec.profile == "Dev" else 0.1


PRIVATE_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
"""Where pods and load balancers live (RFC 1918, 6598 and 4193)."""


def trusted_proxies(spec: Spec) -> list[str]:
    """Networks whose X-Forwarded-For the gateway believes."""
    written = spec.exposure.trusted_proxies
    return list(written or (() if spec.exposure.type == "None" else PRIVATE_NETWORKS))


def resolve_disk(spec: Spec, storage: Storage) -> str:
    """Size of a store's disk."""
    return storage.size or (DISK_DEV if spec.profile == "Dev" else DISK)


def store_resources(resources: Resources, default: dict[str, Quantities]) -> dict[str, Quantities]:
    """What is written of a store's resources, and `default` for the rest."""
    return _giving_way(default, _written(resources))


def _component(spec: Spec, service: Service) -> Component:
    component: Component = getattr(spec.components, service)
    return component


def _written(resources: Resources) -> dict[str, Quantities]:
    return {"requests": _quantities(resources.requests), "limits": _quantities(resources.limits)}


def _quantities(amounts: Amounts) -> Quantities:
    return {name: value for name in ("cpu", "memory") if (value := getattr(amounts, name)) is not None}


def _giving_way(defaults: dict[str, Quantities], written: dict[str, Quantities]) -> dict[str, Quantities]:
    """What is written, and the defaults for the rest, none of them beyond its written counterpart."""
    requests, limits = written["requests"], written["limits"]
    return {
        "requests": _agreeing(defaults["requests"], limits, min) | requests,
        "limits": _agreeing(defaults["limits"], requests, max) | limits,
    }


def _agreeing(defaults: Quantities, written: Quantities, choose: Callable[..., str]) -> Quantities:
    """Each default, or the written counterpart where the default is beyond it: `choose` is min or max."""
    return {name: choose(value, written.get(name, value), key=amount) for name, value in defaults.items()}
