"""What a cluster shows of a bot, and how one is changed."""

import json
from typing import Any

from tests.e2e.cluster.cluster import Cluster, wait_for
from tests.e2e.cluster.conftest import BOT, NAMESPACE


def conditions(cluster: Cluster, name: str = BOT, namespace: str = NAMESPACE) -> dict[str, dict[str, Any]]:
    """By their types; empty while there are none."""
    status = (cluster.get("-n", namespace, "cbd", name) or {}).get("status", {})
    return {item["type"]: item for item in status.get("conditions", [])}


def apply(
    cluster: Cluster,
    namespace: str,
    kind: str,
    name: str,
    body: dict[str, Any],
    api: str = "v1",
    *,
    labels: dict[str, str] | None = None,
    check: bool = True,
) -> str:
    """What kubectl says of it."""
    head = {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": labels or {}}}
    return cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(head | body), check=check)


def apply_bot(cluster: Cluster, namespace: str, name: str, spec: dict[str, Any], *, check: bool = True) -> str:
    api = "chatbot-operator.io/v1alpha1"
    return apply(cluster, namespace, "ChatbotDeployment", name, {"spec": spec}, api, check=check)


def patch(cluster: Cluster, spec: dict[str, Any]) -> int:
    """Merge `spec` into the sample's; the generation that it has then."""
    cluster.kubectl("-n", NAMESPACE, "patch", "cbd", BOT, "--type=merge", "-p", json.dumps({"spec": spec}))
    generation: int = cluster.get("-n", NAMESPACE, "cbd", BOT)["metadata"]["generation"]
    return generation


def edit(cluster: Cluster, spec: dict[str, Any]) -> None:
    """Merge `spec` and wait until the operator calls the new generation Ready."""
    generation = patch(cluster, spec)

    def settled() -> bool:
        ready = conditions(cluster).get("Ready", {})
        return ready.get("observedGeneration") == generation and ready.get("status") == "True"

    wait_for(f"generation {generation} to be Ready", settled, 240)
