"""What the chart renders, without a cluster: valid, as expected, safe, and closed to values it does not know."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from chatbot_operator.settings import Settings
from chatbot_resource.crd import custom_resource_definition
from syrupy.assertion import SnapshotAssertion

from tests.chart.helm import CHART, NAMESPACE, Helm, Manifest

KUBERNETES = "1.34"
EVERYTHING = Path(__file__).parent / "everything.yaml"
NAMESPACED = {"watchNamespaces": ["team-a", "team-b"], "crds__enabled": False}
CLUSTER_KINDS = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


def one(objects: list[Manifest], kind: str, name: str = "chatbot-operator") -> Manifest:
    [found] = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def settings(objects: list[Manifest], name: str = "chatbot-operator") -> Settings:
    return Settings.model_validate_json(one(objects, "ConfigMap", name)["data"]["settings.json"])


@pytest.fixture(scope="module", params=["default", "namespaced", "everything"])
def rendered(request: pytest.FixtureRequest, helm: Helm) -> list[Manifest]:
    return {
        "default": lambda: helm.template(crds__enabled=False),
        "namespaced": lambda: helm.template(**NAMESPACED),
        "everything": lambda: helm.template(EVERYTHING),
    }[request.param]()


class TestRendered:
    def test_as_before(self, rendered: list[Manifest], snapshot: SnapshotAssertion) -> None:
        assert yaml.safe_dump_all(rendered, sort_keys=False, width=120) == snapshot

    def test_valid(self, rendered: list[Manifest]) -> None:
        for item in rendered:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)

    def test_every_name_stays_with_the_release(self, rendered: list[Manifest]) -> None:
        assert all(item["metadata"]["labels"]["app.kubernetes.io/instance"] == "chatbot-operator" for item in rendered)

    def test_no_wildcard(self, rendered: list[Manifest]) -> None:
        roles = [item for item in rendered if item["kind"] in ("Role", "ClusterRole")]
        assert roles
        for rule in (rule for role in roles for rule in role["rules"]):
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])

    def test_restricted(self, rendered: list[Manifest]) -> None:
        [deployment] = [item for item in rendered if item["kind"] == "Deployment"]
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["containers"][0]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


class TestDefinition:
    def test_is_the_generated_one_and_kept(self, helm: Helm) -> None:
        made = custom_resource_definition()
        found = one(helm.template(), "CustomResourceDefinition", made["metadata"]["name"])
        kubernetes_validate.validate(found, KUBERNETES, strict=True)
        assert found["spec"] == made["spec"]
        assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}

    def test_may_go_with_the_chart(self, helm: Helm) -> None:
        name = custom_resource_definition()["metadata"]["name"]
        found = one(helm.template(crds__keep=False), "CustomResourceDefinition", name)
        assert "annotations" not in found["metadata"]


class TestSettings:
    def test_of_defaults(self, helm: Helm) -> None:
        assert settings(helm.template()) == Settings.model_validate(
            {
                "version": "0.1.0",
                "images": {
                    "gateway": "chatbot-gateway:0.1.0",
                    "auth": "chatbot-auth:0.1.0",
                    "chat": "chatbot-chat:0.1.0",
                    "conversation": "chatbot-conversation:0.1.0",
                    "postgres": "chatbot-postgres:0.1.0",
                    "redis": "chatbot-valkey:0.1.0",
                    "weaviate": "semitechnologies/weaviate:1.39.0",
                },
                "lease": {"namespace": NAMESPACE, "account": "chatbot-operator"},
            }
        )

    def test_of_everything_set(self, helm: Helm) -> None:
        found = settings(helm.template(EVERYTHING), "bots")
        assert found.version == "8"
        assert found.images.gateway == "registry.example.com/team/chatbot-gateway:8"
        assert found.images.chat == "example.com/chat@sha256:" + "0" * 64
        assert found.images.weaviate == "registry.example.com/team/semitechnologies/weaviate:1.39.0"
        assert (found.image_pull_policy, found.log_level) == ("Never", "debug")
        assert (found.resync_seconds, found.workers) == (60, 2)
        assert (found.lease.duration, found.lease.renew) == (10, 2.5)

    def test_of_some_namespaces(self, helm: Helm) -> None:
        assert settings(helm.template(**NAMESPACED)).watch_namespaces == ("team-a", "team-b")

    def test_every_setting_is_rendered(self, helm: Helm) -> None:
        """So that a new one is not forgotten in the chart."""
        assert settings(helm.template()).model_fields_set == set(Settings.model_fields)

    def test_a_change_rolls_the_operator(self, helm: Helm) -> None:
        hashes = {
            one(helm.template(**values), "Deployment")["spec"]["template"]["metadata"]["annotations"][
                "checksum/settings"
            ]
            for values in ({}, {"operator__workers": 3})
        }
        assert len(hashes) == 2


class TestNamespaced:
    def test_needs_no_rights_on_the_cluster(self, helm: Helm) -> None:
        objects = helm.template(**NAMESPACED)
        assert not CLUSTER_KINDS & {item["kind"] for item in objects}
        roles = {item["metadata"]["namespace"] for item in objects if item["kind"] == "Role"}
        assert roles == {"team-a", "team-b", NAMESPACE}

    def test_may_do_there_what_it_may_do_on_the_cluster(self, helm: Helm) -> None:
        roles = [item for item in helm.template(**NAMESPACED) if item["kind"] == "Role"]
        role = next(item for item in roles if item["metadata"]["namespace"] == "team-a")
        assert role["rules"] == one(helm.template(), "ClusterRole")["rules"]


class TestValues:
    def test_lint(self, helm: Helm) -> None:
        done = helm.run("lint", "--strict", str(CHART))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "WARNING" not in done.stdout

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"replica": 2}, "additional properties 'replica' not allowed"),
            ({"replicas": "2"}, "at '/replicas': got string, want integer"),
            ({"image__tag": 1.1}, "at '/image/tag': got number, want string"),
            ({"images__worker": "w:1"}, "additional properties 'worker' not allowed"),
            ({"images__chat": "a chat"}, "at '/images/chat'"),
            ({"images__pullPolicy": "always"}, "value must be one of 'Always', 'IfNotPresent', 'Never'"),
            ({"watchNamespaces": "team-a"}, "at '/watchNamespaces': got string, want array"),
            ({"watchNamespaces": [""]}, "at '/watchNamespaces/0'"),
            ({"operator__workers": 0}, "at '/operator/workers': minimum: got 0, want 1"),
            ({"operator__lease__durationSeconds": 5}, "renewSeconds must be less than durationSeconds"),
        ],
    )
    def test_refused(self, helm: Helm, values: dict[str, Any], says: str) -> None:
        assert says in helm.refusal(**values)

    @pytest.mark.parametrize("tag", ["y", "1e3", "0777", "null"])
    def test_a_tag_stays_text(self, helm: Helm, tag: str) -> None:
        [container] = one(helm.template(image__tag=tag), "Deployment")["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"chatbot-operator:{tag}"

    def test_every_value_is_in_the_schema(self) -> None:
        schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
        values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
        assert set(values) | {"global"} == set(schema["properties"])

    def test_every_value_is_in_the_readme(self) -> None:
        readme = (CHART / "README.md").read_text(encoding="utf-8")
        values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
        assert [name for name in names(values) if f"`{name}`" not in readme] == []


def names(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of all values; what Kubernetes itself defines is one."""
    found = []
    for name, value in values.items():
        inner = isinstance(value, dict) and value and name != "resources"
        found += names(value, f"{prefix}{name}.") if inner else [prefix + name]
    return found
