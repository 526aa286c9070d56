"""What the chart renders, judged by a real API server: for every set of values that matters."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import MONITORING, NAMESPACE, Helm
from tests.support.apiserver import ApiServer

DRY_RUN = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
EVERYTHING = Path(__file__).with_name("everything.yaml")
SETS: dict[str, dict[str, Any]] = {
    "default": {},
    "namespaced": {"watchNamespaces": ["team-a", "team-b"], "crds__enabled": False},
    "one-replica": {"replicas": 1},
    "everything": {"file": EVERYTHING},
    # Names that YAML would take for something else.
    "names-that-are-no-text": {"fullnameOverride": "true", "nameOverride": "007", "serviceAccount__name": "0x10"},
    "longest-names": {"fullnameOverride": "a" * 63, "nameOverride": "b" * 63, "serviceAccount__name": "c" * 63},
    "pull-secrets": {"registry": "registry.example.com/team", "imagePullSecrets": [{"name": "pull"}]},
    "own-account": {"serviceAccount__create": False, "serviceAccount__name": "mine", "rbac__create": False},
    "bare": {
        "service__enabled": False,
        "rbac__aggregate": False,
        "crds__keep": False,
        "monitoring__podMonitor": "Never",
        "monitoring__rules": "Never",
        "resources": {},
    },
}


@pytest.fixture(scope="module", autouse=True)
def _namespaces(empty_server: ApiServer) -> None:
    for name in (NAMESPACE, "team-a", "team-b"):
        empty_server.kubectl("create", "namespace", name)


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_is_accepted(empty_server: ApiServer, helm: Helm, values: dict[str, Any]) -> None:
    """Every object, with unknown fields refused, and no warning of anything deprecated."""
    rendered = helm.text(apis=MONITORING, **values)
    said = empty_server.kubectl(*DRY_RUN, "--warnings-as-errors", stdin=rendered)
    assert len(said.splitlines()) == rendered.count("\nkind: ")


def test_what_is_wrong_would_be_noticed(empty_server: ApiServer, helm: Helm) -> None:
    objects = helm.template(apis=MONITORING)
    [monitor] = [item for item in objects if item["kind"] == "PodMonitor"]
    monitor["spec"]["podMetricsEndpoint"] = []
    with pytest.raises(AssertionError, match="unknown field"):
        empty_server.kubectl(*DRY_RUN, stdin=yaml.safe_dump(monitor))
