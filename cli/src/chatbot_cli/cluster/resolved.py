"""How many pods each part gets and how large they are, from the planned objects: every default is in them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chatbot_operator.components import load
from chatbot_operator.components.metadata import component_of
from chatbot_operator.components.pods import CLOSING_SECONDS, PRE_STOP_SECONDS
from chatbot_operator.world import Manifest


@dataclass(frozen=True)
class Cell:
    text: str
    written: bool = False
    """Whether the file says it, at least in part."""


@dataclass(frozen=True)
class Row:
    part: str
    cells: tuple[Cell, Cell, Cell, Cell]
    """Pods, cpu, memory, drain."""


def resolved(workloads: Iterable[Manifest], written: Mapping[str, Any]) -> list[Row]:
    """
    Args:
        written: `spec.components` as the file has it.
    """
    found = list(workloads)
    scalers = {item["metadata"]["name"]: item for item in found if item["kind"] not in ("Deployment", "StatefulSet")}
    return [_row(item, scalers, written) for item in found if item["kind"] in ("Deployment", "StatefulSet")]


def _row(item: Manifest, scalers: Mapping[str, Manifest], written: Mapping[str, Any]) -> Row:
    part, pod = component_of(item), item["spec"]["template"]["spec"]
    own = written.get(part.removesuffix("-worker")) or {}
    resources = pod["containers"][0].get("resources") or {}
    said = own.get("resources") or {}
    grace = pod.get("terminationGracePeriodSeconds")
    drain = f"{grace - PRE_STOP_SECONDS - CLOSING_SECONDS} s" if grace and item["kind"] == "Deployment" else ""
    return Row(
        part,
        (
            Cell(_pods(item, scalers.get(item["metadata"]["name"])), bool(own.get("scaling"))),
            _amount("cpu", resources, said),
            _amount("memory", resources, said),
            Cell(drain, "drainSeconds" in own),
        ),
    )


def _pods(item: Manifest, scaler: Manifest | None) -> str:
    if scaler is None:
        return str(item["spec"].get("replicas", "by hand"))
    spec = scaler["spec"]
    if scaler["kind"] == "ScaledObject":
        at = ", ".join(filter(None, map(_trigger, spec["triggers"])))
        return f"{spec['minReplicaCount']} to {spec['maxReplicaCount']} by KEDA, {at}"
    at = ", ".join(filter(None, map(_metric, spec.get("metrics") or [])))
    return f"{spec.get('minReplicas', 1)} to {spec.get('maxReplicas')}" + (f", {at}" if at else "")


def _metric(metric: Manifest) -> str:
    if "resource" in metric:
        return f"{metric['resource']['name']} {metric['resource']['target'].get('averageUtilization')} %"
    return f"{metric['pods']['target'].get('averageValue')} streams each" if "pods" in metric else ""


def _trigger(trigger: Manifest) -> str:
    told = trigger["metadata"]
    if trigger["type"] == "cpu":
        return f"cpu {told['value']} %"
    return f"{told['threshold']} streams each" if load.STREAMS in told["query"] else ""


def _amount(name: str, resources: Mapping[str, Any], written: Mapping[str, Any]) -> Cell:
    """What is requested and, in brackets, the limit."""
    request, limit = ((resources.get(kind) or {}).get(name) for kind in ("requests", "limits"))
    said = any(name in (written.get(kind) or {}) for kind in ("requests", "limits"))
    return Cell(f"{request or ''}" + (f" ({limit})" if limit else ""), said)
