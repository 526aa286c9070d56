"""What kubectl really says, in words with a next step."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cli.cluster.conftest import Plugin
from tests.operator.running import SETTINGS, World
from tests.support.apiserver import Object

BOTS = {
    "apiGroups": ["chatbot-operator.io"],
    "resources": ["chatbotdeployments"],
    "verbs": ["get", "list", "create", "patch"],
}
MINIMAL = "apiVersion: chatbot-operator.io/v1alpha1\nkind: ChatbotDeployment\nmetadata: {name: harbour}\n"

Account = Callable[[list[Object]], str]
"""Makes an account with these rights in the namespace of the test; its kubeconfig."""


@pytest.fixture
def account(world: World, tmp_path: Path) -> Account:
    def make(rules: list[Object]) -> str:
        kubectl, namespace = world.api.kubectl, world.namespace
        world.api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "one"}}, namespace)
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "one"}}
        kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(role | {"rules": rules}))
        kubectl("create", "rolebinding", "one", "--role=one", f"--serviceaccount={namespace}:one", "-n", namespace)
        token = kubectl("create", "token", "one", "-n", namespace).strip()
        file = tmp_path / "account"
        file.write_text(world.api.kubeconfig.read_text())
        # In the file, not as an argument, as a user would not either.
        kubectl("config", "set-context", "--current", "--user=one", "--kubeconfig", str(file))
        config = yaml.safe_load(file.read_text())
        config["users"].append({"name": "one", "user": {"token": token}})
        file.write_text(yaml.safe_dump(config))
        return str(file)

    return make


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
    def test_are_lacking(self, plugin: Plugin, account: Account) -> None:
        said = plugin("explain", "harbour", "--kubeconfig", account([]))
        assert said.code == 1
        assert "You lack a right:" in said.err
        assert 'cannot get resource "chatbotdeployments"' in said.err
        assert "auth can-i --list" in said.err

    def test_are_lacking_for_a_credential_that_is_none(self, plugin: Plugin, account: Account) -> None:
        file = Path(account([]))
        file.write_text(file.read_text().replace("token: ey", "token: no"))
        said = plugin("explain", "harbour", "--kubeconfig", str(file))
        assert "does not accept kubectl's credentials" in said.err

    def test_to_see_the_resource_alone_do_for_explain(self, plugin: Plugin, account: Account, world: World) -> None:
        world.create_bot()
        said = plugin("explain", "harbour", "--kubeconfig", account([BOTS]))
        assert said.code == 1
        assert said.err == ""
        assert said.out.startswith("harbour does not serve: no operator has looked at it")
        assert "Whether an operator runs cannot be seen: you may not list Leases." in said.out

    def test_to_see_secrets_are_needed_for_a_plan(
        self, plugin: Plugin, account: Account, world: World, tmp_path: Path
    ) -> None:
        bot = tmp_path / "bot.yaml"
        bot.write_text(MINIMAL)
        file = account([BOTS, {"apiGroups": ["apps", "batch"], "resources": ["*"], "verbs": ["list"]}])
        settings = tmp_path / "settings.json"
        settings.write_text(SETTINGS.model_dump_json())
        plan = ("plan", "-f", str(bot), "--kubeconfig", file)
        assert "You may not read the operator's settings." in plugin(*plan).err
        said = plugin(*plan, "--operator-settings", str(settings))
        assert said.code == 1
        lines = said.err.splitlines()
        assert lines[0] == "Error: You lack rights:"
        assert [line for line in lines if line.startswith("  secrets is forbidden: ")]
        assert "A plan needs the right to read what a bot consists of, Secrets too" in said.err


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
