"""Kinds that a cluster may have, and that people may lack the right to see."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.cluster.conftest import Installed, Plugin
from tests.cli.cluster.test_refusals import BOTS, MINIMAL, Account, account  # noqa: F401 - a fixture
from tests.support.apiserver import ApiServer
from tests.support.optional_apis import GATEWAY, MONITORING, Api, install, remove

NO_ROUTES = Api(
    GATEWAY.module, GATEWAY.checksum, ("config/crd/standard/gateway.networking.k8s.io_gatewayclasses.yaml",)
)

OWN = {
    "apiGroups": ["", "apps", "batch", "autoscaling", "policy", "networking.k8s.io", "chatbot-operator.io"],
    "resources": ["*"],
    "verbs": ["get", "list", "create", "patch"],
}
MONITORS = {"apiGroups": ["monitoring.coreos.com"], "resources": ["*"], "verbs": ["get", "list"]}


@pytest.fixture(scope="module")
def api_server(own_api_server: ApiServer) -> Iterator[ApiServer]:
    """With the definitions of Prometheus's operator, and of the Gateway API without those that we ask for."""
    for api in (MONITORING, NO_ROUTES):
        install(own_api_server, api)
    yield own_api_server
    for api in (MONITORING, NO_ROUTES):
        remove(own_api_server, api)


class TestPlan:
    @pytest.mark.parametrize("sees", [True, False])
    def test_shows_what_one_may_see(
        self,
        plugin: Plugin,
        account: Account,  # noqa: F811
        operator: Installed,
        tmp_path: Path,
        sees: bool,
    ) -> None:
        bot = tmp_path / "bot.yaml"
        bot.write_text(MINIMAL)
        settings = tmp_path / "settings.json"
        settings.write_text(operator.world.get("ConfigMap", "chatbot-operator")["data"]["settings.json"])  # type: ignore[index]
        file = account([BOTS, OWN, *([MONITORS] if sees else [])])
        said = plugin("plan", "-f", str(bot), "--kubeconfig", file, "--operator-settings", str(settings))
        assert said.err == ""
        assert "Deployment" in said.out
        assert ("PrometheusRule" in said.out) is sees
