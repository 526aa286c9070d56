"""What the chart renders, without a cluster: valid, as expected, safe, and closed to values it does not know."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chartvalues
import kubernetes_validate
import pytest
import yaml
from chatbot_operator.components.network import OPERATOR
from chatbot_operator.metrics import Metrics
from chatbot_operator.names import LEASE
from chatbot_operator.overview import overview
from chatbot_operator.settings import Images, Settings
from chatbot_resource.crd import custom_resource_definition
from syrupy.assertion import SnapshotAssertion

from tests.chart.helm import CHART, MONITORING, NAMESPACE, Helm, Manifest

KUBERNETES = "1.34"
ROOT = Path(__file__).parents[2]
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
        """What is not Kubernetes's own, an API server judges: test_dry_run.py."""
        for item in rendered:
            if item["apiVersion"].startswith("monitoring.coreos.com/"):
                continue
            kubernetes_validate.validate(item, KUBERNETES, strict=True)

    def test_every_name_stays_with_the_release(self, rendered: list[Manifest]) -> None:
        assert all(item["metadata"]["labels"]["app.kubernetes.io/instance"] == "chatbot-operator" for item in rendered)

    def test_no_wildcard(self, rendered: list[Manifest]) -> None:
        roles = [item for item in rendered if item["kind"] in ("Role", "ClusterRole")]
        assert roles
        for rule in (rule for role in roles for rule in role["rules"]):
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])


class TestAvailability:
    def test_two_pods_of_which_one_may_go(self, helm: Helm) -> None:
        objects = helm.template()
        assert one(objects, "Deployment")["spec"]["replicas"] == 2
        assert one(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1

    def test_one_pod_holds_up_no_node(self, helm: Helm) -> None:
        assert "PodDisruptionBudget" not in {item["kind"] for item in helm.template(replicas=1)}

    def test_pods_are_spread_but_never_kept_from_running(self, helm: Helm) -> None:
        spread = one(helm.template(), "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert {item["topologyKey"] for item in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        assert {item["whenUnsatisfiable"] for item in spread} == {"ScheduleAnyway"}

    def test_they_hear_that_they_are_to_end_from_their_first_moment_on(self, helm: Helm) -> None:
        assert one(helm.template(), "Deployment")["spec"]["template"]["spec"]["shareProcessNamespace"] is True

    def test_another_name_leaves_them_where_the_chatbots_policies_let_them_in(self, helm: Helm) -> None:
        objects = helm.template(nameOverride="concierge", crds__enabled=False)
        pods = one(objects, "Deployment", "chatbot-operator-concierge")["spec"]["template"]["metadata"]["labels"]
        assert pods["app.kubernetes.io/name"] == OPERATOR

    def test_labels_of_pods_never_take_them_out_of_the_selector(self, helm: Helm) -> None:
        labels = {"app.kubernetes.io/name": "other", "team": "a"}
        spec = one(helm.template(podLabels=labels), "Deployment")["spec"]
        assert spec["template"]["metadata"]["labels"] == spec["selector"]["matchLabels"] | {"team": "a"}


class TestNames:
    """Whatever its objects are called, they find each other, and an upgrade that renames them finds its pods."""

    GIVEN: tuple[dict[str, Any], ...] = (
        {},
        {"nameOverride": "concierge"},
        {"fullnameOverride": "bots"},
        {"nameOverride": "concierge", "fullnameOverride": "bots"},
        {"nameOverride": "concierge", "serviceAccount__name": "robot"},
        {"fullnameOverride": "b" * 46 + "----" + "b"},
    )

    def test_no_selector_changes_with_them(self, helm: Helm) -> None:
        found = {json.dumps(selectors(self.template(helm, values)), sort_keys=True) for values in self.GIVEN}
        assert len(found) == 1, "a Deployment's cannot be changed"
        chosen, *others = selectors(self.template(helm, {}))
        assert chosen == {"app.kubernetes.io/name": OPERATOR, "app.kubernetes.io/instance": "chatbot-operator"}
        assert len(others) == 6, "two spreads, the Service, its PodDisruptionBudget, the PodMonitor, and the pods"
        assert all(other == chosen for other in others)

    @pytest.mark.parametrize("values", GIVEN, ids=str)
    def test_every_reference_follows(self, helm: Helm, values: dict[str, Any]) -> None:
        objects = self.template(helm, values)
        names = {(item["kind"], item["metadata"]["name"]) for item in objects}
        assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name) for _, name in names)
        [account] = [name for kind, name in names if kind == "ServiceAccount"]
        [pods] = [item["spec"]["template"]["spec"] for item in objects if item["kind"] == "Deployment"]
        assert pods["serviceAccountName"] == account
        assert ("ConfigMap", pods["volumes"][0]["configMap"]["name"]) in names
        bindings = [item for item in objects if item["kind"] in ("RoleBinding", "ClusterRoleBinding")]
        assert {subject["name"] for item in bindings for subject in item["subjects"]} == {account}
        assert {(item["roleRef"]["kind"], item["roleRef"]["name"]) for item in bindings} <= names
        [election] = [item["rules"] for item in objects if item["kind"] == "Role"]
        assert [rule["resourceNames"] for rule in election if "resourceNames" in rule] == [[LEASE], [account]]
        [configured] = [item["data"] for item in objects if "settings.json" in (item.get("data") or {})]
        assert Settings.model_validate_json(configured["settings.json"]).lease.account == account
        [policy] = [item for item in objects if item["kind"] == "ValidatingAdmissionPolicy"]
        [binding] = [item["spec"] for item in objects if item["kind"] == "ValidatingAdmissionPolicyBinding"]
        assert binding["policyName"] == policy["metadata"]["name"]
        assert binding["paramRef"]["name"] == account
        who, itself = (item["expression"] for item in policy["spec"]["matchConditions"])
        assert f"'system:serviceaccount:{NAMESPACE}:{account}'" in who
        assert f"request.name == '{account}'" in itself

    def test_a_namespace_of_digits_is_a_text(self, helm: Helm) -> None:
        objects = yaml.safe_load_all(helm.text().replace(NAMESPACE, "007"))
        [binding] = [item for item in objects if item and item["kind"] == "ValidatingAdmissionPolicyBinding"]
        assert binding["spec"]["paramRef"]["namespace"] == "007"

    @staticmethod
    def template(helm: Helm, values: dict[str, Any]) -> list[Manifest]:
        return helm.template(apis=MONITORING, crds__enabled=False, **values)


def selectors(objects: list[Manifest]) -> list[Manifest]:
    """By which anything of the chart chooses pods, and what these are labelled with; the Deployment's first."""
    [chosen] = [item["spec"] for item in objects if item["kind"] == "Deployment"]
    spread = chosen["template"]["spec"]["topologySpreadConstraints"]
    others = {item["kind"]: item["spec"]["selector"] for item in objects if "selector" in item.get("spec", {})}
    return [
        chosen["selector"]["matchLabels"],
        *(item["labelSelector"]["matchLabels"] for item in spread),
        others["Service"],
        others["PodDisruptionBudget"]["matchLabels"],
        others["PodMonitor"]["matchLabels"],
        chosen["template"]["metadata"]["labels"],
    ]


class TestMonitoring:
    @pytest.mark.parametrize(
        ("when", "apis", "there"),
        [("Auto", (), False), ("Auto", MONITORING, True), ("Always", (), True), ("Never", MONITORING, False)],
    )
    def test_where_it_is_wanted(self, helm: Helm, when: str, apis: tuple[str, ...], there: bool) -> None:
        wanted = {"monitoring__podMonitor": when, "monitoring__rules": when, "monitoring__dashboard": when}
        objects = helm.template(apis=apis, **wanted)
        kinds = {item["kind"] for item in objects}
        assert ({"PodMonitor", "PrometheusRule"} <= kinds) is there
        dashboards = [item for item in objects if "grafana_dashboard" in item["metadata"]["labels"]]
        assert bool(dashboards) is there

    def test_the_dashboard_is_the_generated_one(self, helm: Helm) -> None:
        found = one(helm.template(apis=MONITORING), "ConfigMap", "chatbot-operator-dashboard")
        [text] = found["data"].values()
        assert json.loads(text) == json.loads(overview())
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"

    def test_labels_for_prometheus_reach_the_chatbots(self, helm: Helm) -> None:
        labels = {"release": "prometheus"}
        assert settings(helm.template(monitoring__labels=labels)).monitor_labels == labels

    def test_each_by_its_own_kind(self, helm: Helm) -> None:
        kinds = {item["kind"] for item in helm.template(apis=MONITORING[:1])}
        assert "PodMonitor" in kinds
        assert "PrometheusRule" not in kinds

    def test_alerts_ask_for_metrics_that_exist(self, helm: Helm) -> None:
        rules = one(helm.template(apis=MONITORING), "PrometheusRule")["spec"]["groups"][0]["rules"]
        asked = {name for rule in rules for name in re.findall(r"chatbot_operator_\w+", rule["expr"])}
        families = Metrics("1").registry.collect()
        served = {f"{family.name}{'_total' * (family.type == 'counter')}" for family in families}
        assert asked
        assert asked <= served

    def test_alerts_ask_for_the_job_that_prometheus_makes_of_the_monitor(self, helm: Helm) -> None:
        objects = helm.template(apis=MONITORING, fullnameOverride="bots")
        one(objects, "PodMonitor", "bots")
        rules = one(objects, "PrometheusRule", "bots")["spec"]["groups"][0]["rules"]
        assert all(f'job="{NAMESPACE}/bots"' in rule["expr"] for rule in rules)


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
        assert found.image_pull_secrets == ("pull",)
        assert (found.resync_seconds, found.workers) == (60, 2)
        assert (found.lease.duration, found.lease.renew) == (10, 2.5)
        assert found.otlp_endpoint == "http://otel:4318"

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
            ({"operator__lease__durationSeconds": 9}, "renewSeconds must be at most half of durationSeconds"),
            ({"monitoring__rules": True}, "at '/monitoring/rules': got boolean, want string"),
            ({"monitoring__rules": "On"}, "value must be one of 'Auto', 'Always', 'Never'"),
            ({"telemetry__otlp__endpoint": "otel:4318"}, "at '/telemetry/otlp/endpoint'"),
            ({"monitoring__interval": "often"}, "at '/monitoring/interval': 'often' does not match pattern"),
            ({"imagePullSecrets": ["pull"]}, "at '/imagePullSecrets/0': got string, want object"),
            ({"imagePullSecrets": [{"name": ""}]}, "at '/imagePullSecrets/0/name'"),
            ({"resources__request": {"cpu": 1}}, "at '/resources': additional properties 'request' not allowed"),
            ({"podLabels": {"a": 1}}, "at '/podLabels/a': got number, want string"),
            ({"image__repository": ""}, "at '/image/repository': minLength: got 0, want 1"),
            ({"crds__enabled": "false"}, "at '/crds/enabled': got string, want boolean"),
            ({"fullnameOverride": "Bots"}, "at '/fullnameOverride': 'Bots' does not match pattern"),
        ],
    )
    def test_refused(self, helm: Helm, values: dict[str, Any], says: str) -> None:
        assert says in helm.refusal(**values)

    @pytest.mark.parametrize("tag", ["y", "1e3", "0777", "null"])
    def test_a_tag_stays_text(self, helm: Helm, tag: str) -> None:
        [container] = one(helm.template(image__tag=tag), "Deployment")["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"chatbot-operator:{tag}"

    def test_a_digest_needs_no_tag(self, helm: Helm) -> None:
        image = "chatbot-operator@sha256:" + "0" * 64
        objects = helm.template(image__repository=image, registry="example.com")
        [container] = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"example.com/{image}"


class TestGenerated:
    @pytest.mark.parametrize("file", chartvalues.files(ROOT), ids=lambda file: file.name)
    def test_is_up_to_date(self, file: Path) -> None:
        assert chartvalues.files(ROOT)[file] == file.read_text(encoding="utf-8"), "run `make generate`"

    def test_the_default_values_satisfy_the_schema(self, helm: Helm) -> None:
        """And so does a file that repeats them all."""
        assert helm.template(CHART / "values.yaml") == helm.template()

    def test_every_value_is_used_and_every_used_one_is_there(self) -> None:
        templates = [file.read_text(encoding="utf-8") for file in (CHART / "templates").iterdir()]
        used = {name for text in templates for name in re.findall(r"\.Values\.([A-Za-z.]+)", text)}
        # By way of a variable, or each by its name in a loop.
        used |= {"operator.lease.durationSeconds", "operator.lease.renewSeconds"}
        used |= {f"images.{name}" for name in Images.model_fields}
        values = chartvalues.read((CHART / "values.yaml").read_text(encoding="utf-8"))
        assert used - {"operator.lease", "images"} == {value.name for value in leaves(values)}

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("a: {}\n", "a is an empty map"),
            ("a:\n  # @schema colour\n  b: 1\n", "a.b: @schema colour is none of"),
        ],
    )
    def test_a_value_must_be_described(self, text: str, says: str) -> None:
        with pytest.raises(chartvalues.BadComment, match=says):
            chartvalues.read(text)

    def test_a_comment_becomes_a_row_and_a_description(self) -> None:
        text = "a:\n  # What b\n  # is.\n  # @schema {minimum: 2}\n  b: 3\n"
        values = chartvalues.read(text)
        assert "| `a.b` | `3` | What b is. |\n" in chartvalues.table(values)
        made = json.loads(chartvalues.schema(values))["properties"]["a"]["properties"]["b"]
        assert made == {"description": "What b is.", "type": "integer", "default": 3, "minimum": 2}


def leaves(values: list[chartvalues.Value]) -> Iterator[chartvalues.Value]:
    for value in values:
        yield from leaves(value.inner) if value.inner else [value]
