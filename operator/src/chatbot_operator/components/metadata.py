"""Metadata of every child: labels, owner, hash. What is alike in all objects is written here and nowhere else."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from chatbot_resource.model import API_VERSION, KIND, ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.world import Manifest

PLATFORM = "chatbot"
SECRETS = "secrets"
"""Component label of generated Secrets."""

API_VERSIONS: Mapping[str, str] = {
    "ConfigMap": "v1",
    "Secret": "v1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "Job": "batch/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Ingress": "networking.k8s.io/v1",
    "ControllerRevision": "apps/v1",
    "PersistentVolumeClaim": "v1",
}
"""Every kind we write that every cluster has."""

CLOUD_NATIVE_PG = ("Cluster", "Database")
"""Kinds of CloudNativePG."""

OPTIONAL: Mapping[str, str] = {
    **dict.fromkeys(CLOUD_NATIVE_PG, "postgresql.cnpg.io/v1"),
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
}
"""Kinds we write where the cluster has them."""

REFERABLE = ("ConfigMap", "Secret")
"""Kinds of which users own some; one label makes theirs and ours seen by one watch."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def uid(bot: ChatbotDeployment) -> str:
    """The resource's own uid; empty for one that was only read from a file."""
    return str(getattr(bot.metadata, "uid", None) or "")


def generation(bot: ChatbotDeployment) -> int:
    return int(getattr(bot.metadata, "generation", None) or 0)


def annotation(bot: ChatbotDeployment, name: str) -> str:
    """Of the resource itself; empty when it has none."""
    return str((getattr(bot.metadata, "annotations", None) or {}).get(name, ""))


def selector(bot: ChatbotDeployment, part: str) -> dict[str, str]:
    """Labels that choose a part's pods. Immutable in Deployments, so final."""
    return {names.NAME: PLATFORM, names.INSTANCE: bot.name, names.COMPONENT: part, names.BOT: bot.name}


def labels(bot: ChatbotDeployment, part: str) -> dict[str, str]:
    return selector(bot, part) | {names.MANAGED_BY: names.FIELD_MANAGER}


def owner(bot: ChatbotDeployment) -> Manifest:
    """The ownerReference by which deletion of the resource takes a child along."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": bot.name,
        "uid": uid(bot),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def manifest(
    bot: ChatbotDeployment,
    part: str,
    kind: str,
    name: str,
    body: Mapping[str, Any],
    *,
    owned: bool = True,
    annotations: Mapping[str, str] | None = None,
    more: Mapping[str, str] | None = None,
) -> Manifest:
    """A finished child, stamped with the hash of all it says.

    Args:
        more: labels besides those that every child has.
    """
    known = {**(more or {}), **labels(bot, part)}
    metadata: Manifest = {"name": name, "namespace": bot.metadata.namespace, "labels": known}
    if kind in REFERABLE:
        metadata["labels"] |= {names.REFERENCED: "true"}
    if owned:
        metadata["ownerReferences"] = [owner(bot)]
    if annotations:
        metadata["annotations"] = dict(annotations)
    version = API_VERSIONS.get(kind) or OPTIONAL[kind]
    return stamped({"apiVersion": version, "kind": kind, "metadata": metadata, **body})


def stamped(child: Manifest) -> Manifest:
    """The same with the annotation by which an unchanged child is known, so that it costs no write."""
    annotations = (child["metadata"].get("annotations") or {}) | {names.APPLIED_HASH: digest(child)[:32]}
    return child | {"metadata": child["metadata"] | {"annotations": annotations}}


def applied_hash(child: Manifest) -> str:
    """Hash a wanted or live child carries; empty when it has none."""
    return str((child["metadata"].get("annotations") or {}).get(names.APPLIED_HASH, ""))


def component_of(child: Manifest) -> str:
    return str((child["metadata"].get("labels") or {}).get(names.COMPONENT, ""))


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(_encode(value).encode()).hexdigest()
