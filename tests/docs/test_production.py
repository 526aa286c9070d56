"""The figures of the guide to production are those of its example."""

from typing import Any

import pytest
import yaml
from chatbot_resource.fields import amount
from chatbot_resource.model import KIND

from tests.docs.pages import DOCS, ROOT
from tests.operator.simulated import Cluster, make_bot
from tests.support.apiserver import Object

GUIDE = DOCS / "guides" / "production.md"
GIB = 1024**3


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    documents = yaml.safe_load_all((ROOT / "k8s/samples/production.yaml").read_text(encoding="utf-8"))
    [spec] = [item["spec"] for item in documents if item["kind"] == KIND]
    return Cluster(make_bot(spec)).converge()


def row(pods: dict[str, int], cluster: Cluster) -> str:
    """What the guide's table says of so many pods of each Deployment."""
    requests = {name: _requests(cluster.child("Deployment", name)) for name in pods}
    cpu = sum(float(amount(requests[name]["cpu"])) * count for name, count in pods.items())
    memory = sum(float(amount(requests[name]["memory"])) * count for name, count in pods.items())
    return f"| {sum(pods.values())} | {cpu:g} | {memory / GIB:g} GiB |"


def _requests(deployment: Object) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    return found


@pytest.mark.parametrize(("label", "bound"), [("at rest", "minReplicas"), ("upper bound", "maxReplicas")])
def test_how_large(cluster: Cluster, label: str, bound: str) -> None:
    pods = {}
    for kind, name in list(cluster.children):
        if kind == "Deployment":
            scaler = cluster.children.get(("HorizontalPodAutoscaler", name))
            deployment = cluster.child("Deployment", name)
            pods[name] = scaler["spec"][bound] if scaler else deployment["spec"]["replicas"]
    assert f"{label} {row(pods, cluster)}" in GUIDE.read_text(encoding="utf-8")


def test_it_runs_no_store(cluster: Cluster) -> None:
    assert "StatefulSet" not in {kind for kind, _ in cluster.children}
