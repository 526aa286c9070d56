"""What a cluster shows of a bot, and how one is changed."""

import json
from typing import Any

from tests.e2e.cluster.cluster import Cluster, wait_for
from tests.e2e.cluster.conftest import BOT, NAMESPACE


def conditions(cluster: Cluster, name: str = BOT, namespace: str = NAMESPACE) -> dict[str, dict[str, Any]]:
    """By their types; empty while there are none."""
    status = (cluster.get("-n", namespace, "cbd", name) or {}).get("status", {})
    return {item["type"]: item for item in status.get("conditions", [])}


def edit(cluster: Cluster, spec: dict[str, Any]) -> None:
    """Merge `spec` and wait until the operator calls the new generation Ready."""
    cluster.kubectl("-n", NAMESPACE, "patch", "cbd", BOT, "--type=merge", "-p", json.dumps({"spec": spec}))
    generation = cluster.get("-n", NAMESPACE, "cbd", BOT)["metadata"]["generation"]

    def settled() -> bool:
        ready = conditions(cluster).get("Ready", {})
        return ready.get("observedGeneration") == generation and ready.get("status") == "True"

    wait_for(f"generation {generation} to be Ready", settled, 240)
