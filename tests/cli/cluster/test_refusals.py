"""What kubectl really says, in words with a next step."""

from pathlib import Path

import pytest

from tests.cli.cluster.conftest import Plugin
from tests.operator.running import World


class TestKubectl:
    def test_is_not_there(self, plugin: Plugin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        said = plugin("status")
        assert said.code == 1
        assert "no kubectl on the PATH" in said.err
        assert "https://kubernetes.io/docs/tasks/tools/" in said.err

    def test_knows_no_such_context(self, plugin: Plugin) -> None:
        assert "kubectl config get-contexts" in plugin("status", "--context", "moon").err

    def test_finds_no_kubeconfig(self, plugin: Plugin, tmp_path: Path) -> None:
        said = plugin("status", "--kubeconfig", str(tmp_path / "none"))
        assert f"There is no kubeconfig {tmp_path / 'none'}." in said.err

    def test_gets_no_answer(self, plugin: Plugin, world: World, tmp_path: Path) -> None:
        text = world.api.kubeconfig.read_text().replace(world.api.layout.server, "https://127.0.0.1:1")
        (tmp_path / "elsewhere").write_text(text)
        said = plugin("status", "--kubeconfig", str(tmp_path / "elsewhere"))
        assert "The API server does not answer." in said.err
        assert "cluster-info" in said.err


class TestRights:
    @pytest.fixture
    def nobody(self, world: World, tmp_path: Path) -> str:
        """Kubeconfig of an account without any rights."""
        world.api.create(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}, world.namespace
        )
        token = world.api.kubectl("create", "token", "nobody", "-n", world.namespace).strip()
        file = tmp_path / "nobody"
        file.write_text(world.api.kubeconfig.read_text())
        kubectl = world.api.kubectl
        kubectl("config", "set-credentials", "nobody", f"--token={token}", "--kubeconfig", str(file))
        kubectl("config", "set-context", "--current", "--user=nobody", "--kubeconfig", str(file))
        return str(file)

    def test_are_lacking(self, plugin: Plugin, nobody: str) -> None:
        said = plugin("explain", "harbour", "--kubeconfig", nobody)
        assert said.code == 1
        assert "You lack a right:" in said.err
        assert 'cannot get resource "chatbotdeployments"' in " ".join(said.err.split())
        assert "auth can-i --list" in said.err

    def test_are_lacking_for_a_credential_that_is_none(self, plugin: Plugin, nobody: str) -> None:
        text = Path(nobody).read_text().replace("token: ey", "token: no")
        Path(nobody).write_text(text)
        said = plugin("explain", "harbour", "--kubeconfig", nobody)
        assert "does not accept kubectl's credentials" in said.err


class TestResource:
    def test_is_not_there_and_others_are(self, plugin: Plugin, world: World) -> None:
        world.create_bot()
        said = plugin("explain", "quay")
        assert said.err.splitlines() == [
            f"Error: There is no ChatbotDeployment quay in namespace {world.namespace}.",
            "→ There are: harbour.",
        ]

    def test_is_not_there_at_all(self, plugin: Plugin) -> None:
        assert "kubectl chatbot status -A" in plugin("explain", "quay").err

    def test_may_be_named_as_kubectl_prints_it(self, plugin: Plugin, world: World) -> None:
        world.create_bot()
        assert "harbour" in plugin("explain", "chatbotdeployment.chatbot-operator.io/harbour").out

    def test_has_a_name_and_no_option(self, plugin: Plugin) -> None:
        assert plugin("explain", "--", "--all").code == 2


class TestDefinition:
    def test_is_not_installed(self, plugin: Plugin, world: World) -> None:
        where = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/chatbotdeployments.chatbot-operator.io"
        served = {"op": "replace", "path": "/spec/versions/0/served"}
        headers = {"Content-Type": "application/json-patch+json"}
        world.api.request("PATCH", where, [served | {"value": False}], headers)
        try:
            said = _until_unknown(plugin)
        finally:
            world.api.request("PATCH", where, [served | {"value": True}], headers)
            world.api.kubectl("wait", "--for=condition=Established", "crd/chatbotdeployments.chatbot-operator.io")
        assert "This cluster does not know ChatbotDeployments." in said
        assert "helm upgrade --install chatbot-operator" in said


def _until_unknown(plugin: Plugin) -> str:
    """kubectl and the API server remember for a moment what was served."""
    for _ in range(100):
        if "does not know" in (said := plugin("status").err):
            return said
    return said
