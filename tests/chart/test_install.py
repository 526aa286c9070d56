"""The chart's life on a cluster: installed, upgraded from an older definition, uninstalled, installed again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chatbot_resource.crd import custom_resource_definition

from tests.chart.helm import CHART, Helm
from tests.support.apiserver import CRDS, ApiServer, Object, path, wait_for

SYSTEM = "installed"
RELEASE = "chatbot-operator"
INSTANCE = "app.kubernetes.io/instance"
NAME = custom_resource_definition()["metadata"]["name"]
BOT: Object = {
    "apiVersion": "chatbot-operator.io/v1alpha1",
    "kind": "ChatbotDeployment",
    "metadata": {"name": "harbour"},
    "spec": {"profile": "Dev"},
}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart as it was when the resource had no `limits`."""
    chart = tmp_path_factory.mktemp("older") / "chatbot-operator"
    shutil.copytree(CHART, chart)
    template = chart / "templates" / "crd.yaml"
    head, spec = template.read_text(encoding="utf-8").split("\nspec:\n")
    definition = yaml.load("spec:\n" + spec.removesuffix("{{- end }}\n"), yaml.CSafeLoader)
    del fields(definition)["limits"]
    template.write_text(f"{head}\n{yaml.safe_dump(definition)}{{{{- end }}}}\n", encoding="utf-8")
    about = chart / "Chart.yaml"
    about.write_text(about.read_text(encoding="utf-8").replace("version: 0.1.0", "version: 0.0.9", 1), encoding="utf-8")
    return chart


def fields(definition: Object) -> dict[str, Any]:
    """Of the resource's spec."""
    [version] = definition["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return found


class Release:
    """One release on one server, by its owner's commands."""

    def __init__(self, helm: Helm, server: ApiServer) -> None:
        self._helm = helm
        self.server = server

    def helm(self, *arguments: str, namespace: str = SYSTEM, **values: Any) -> str:
        return self._helm.on(self.server.kubeconfig, *arguments, namespace=namespace, **values)

    def definition(self) -> Object:
        found: Object = json.loads(self.server.kubectl("get", "crd", NAME, "-o", "json"))
        return found

    def bot(self) -> Object | None:
        return self.server.get("ChatbotDeployment", "default", "harbour")


@pytest.fixture(scope="module")
def release(empty_server: ApiServer, helm: Helm) -> Iterator[Release]:
    empty_server.kubectl("create", "namespace", SYSTEM)
    yield Release(helm, empty_server)
    empty_server.kubectl("delete", "crd", NAME, "--ignore-not-found")


class TestLife:
    """Each test goes on where the one before ended."""

    def test_installed(self, release: Release, older: Path) -> None:
        said = release.helm("install", RELEASE, str(older))
        assert f"kubectl -n {SYSTEM} rollout status deploy/chatbot-operator" in said
        assert "kubectl apply -f k8s/samples/minimal.yaml" in said
        wait_for("the kind to be served", lambda: release.server.client.get(path("ChatbotDeployment")).is_success)
        assert "limits" not in fields(release.definition())
        release.server.create(BOT, "default")

    def test_monitors_are_there_because_their_api_is(self, release: Release) -> None:
        said = release.server.kubectl("-n", SYSTEM, "get", "podmonitor,prometheusrule", "-o", "name")
        assert len(said.split()) == 2

    def test_an_upgrade_brings_the_definition_along(self, release: Release) -> None:
        release.helm("upgrade", RELEASE, str(CHART))
        found = release.definition()
        assert "limits" in fields(found)
        assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        wait_for("the new field to be known", lambda: self.limited(release))

    def limited(self, release: Release) -> bool:
        """Whether a field that the older definition had not is kept; the API server takes a moment to learn of it."""
        limits = {"spec": {"limits": {"perMinute": 7}}}
        return "limits" in release.server.patch("ChatbotDeployment", "default", "harbour", limits)["spec"]

    def test_a_rollback_takes_it_back_and_loses_no_bot(self, release: Release) -> None:
        release.helm("rollback", RELEASE, "1")
        assert "limits" not in fields(release.definition())
        assert release.bot()
        release.helm("upgrade", RELEASE, str(CHART))

    def test_another_name_is_an_upgrade_that_leaves_nothing_behind(self, release: Release) -> None:
        def deployments() -> dict[str, Object]:
            found = release.server.list("Deployment", SYSTEM)
            return {item["metadata"]["name"]: item["spec"]["selector"]["matchLabels"] for item in found}

        [chosen] = deployments().values()
        for values, name in (
            ({"nameOverride": "concierge"}, f"{RELEASE}-concierge"),
            ({"nameOverride": "concierge", "fullnameOverride": "bots"}, "bots"),
            ({"nameOverride": "porter", "fullnameOverride": "bots"}, "bots"),
            ({"nameOverride": "", "fullnameOverride": ""}, RELEASE),
        ):
            release.helm("upgrade", RELEASE, str(CHART), **values)
            wait_for("the one before to go", lambda: len(deployments()) == 1)
            assert deployments() == {name: chosen}
            accounts = {item["metadata"]["name"] for item in release.server.list("ServiceAccount", SYSTEM)}
            assert accounts == {"default", name}

    def test_uninstalled_it_leaves_the_definition_and_every_bot(self, release: Release) -> None:
        release.helm("uninstall", RELEASE)
        assert release.bot()
        left = release.server.kubectl(
            "get", "deploy,sa,cm,svc,pdb,role,rolebinding,podmonitor", "-n", SYSTEM, "-l", f"{INSTANCE}={RELEASE}"
        )
        assert left == ""
        left = release.server.kubectl("get", "clusterrole,clusterrolebinding", "-l", f"{INSTANCE}={RELEASE}")
        assert left == ""

    def test_another_release_is_told_whose_it_is_and_may_take_it(self, release: Release) -> None:
        release.server.kubectl("create", "namespace", "elsewhere")
        with pytest.raises(AssertionError, match="invalid ownership metadata"):
            release.helm("install", "bots", str(CHART), namespace="elsewhere")
        release.helm("install", "bots", str(CHART), "--take-ownership", namespace="elsewhere")
        release.helm("uninstall", "bots", namespace="elsewhere")
        assert release.bot()

    def test_the_same_release_takes_it_over_again(self, release: Release) -> None:
        release.helm("install", RELEASE, str(CHART), "--take-ownership")
        release.helm("uninstall", RELEASE)
        release.helm("install", RELEASE, str(CHART))
        release.helm("uninstall", RELEASE)
        assert release.bot()

    def test_it_may_go_with_the_chart(self, release: Release) -> None:
        release.helm("install", RELEASE, str(CHART), crds__keep=False)
        release.helm("uninstall", RELEASE)
        release.server.kubectl("wait", "--for=delete", "--timeout=30s", f"crd/{NAME}")


class TestByHand:
    def test_a_definition_from_kubectl_is_left_to_who_applied_it(self, release: Release) -> None:
        release.server.kubectl("apply", "--server-side", "-f", str(CRDS))
        with pytest.raises(AssertionError, match="invalid ownership metadata"):
            release.helm("install", RELEASE, str(CHART))
        said = release.helm("install", RELEASE, str(CHART), crds__enabled=False)
        assert "kubectl apply --server-side -f crds/" in said
        release.helm("uninstall", RELEASE)
        assert release.definition()

    def test_notes_say_where_and_what_is_left_to_do(self, release: Release) -> None:
        release.server.kubectl("create", "namespace", "watched")
        told = {"watchNamespaces": ["watched"], "crds__enabled": False, "rbac__create": False}
        said = release.helm("install", RELEASE, str(CHART), **told)
        assert "kubectl -n watched apply -f" in said
        assert f"{SYSTEM}/chatbot-operator" in said
        release.helm("uninstall", RELEASE)
