"""What of monitoring is made for a bot, and when; on a real API server with the definitions of the kinds."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from chatbot_chat.providers.metering import AI_FIRST_TOKEN
from chatbot_operator import names
from chatbot_operator.components import monitoring, network, queries
from chatbot_operator.components.context import Context
from chatbot_operator.world import Manifest, Observed

from tests.operator.running import BOT, SETTINGS, Run, World
from tests.operator.simulated import Cluster, make_bot
from tests.operator.specs import DEV
from tests.operator.test_components import DATA, REWRITE, Plain
from tests.support.apiserver import ApiServer, playing_kubelet, wait_for
from tests.support.optional_apis import MONITORING, install, remove

PICTURE = DATA / "monitoring" / "children.yaml"
APIS = frozenset({"PodMonitor", "PrometheusRule"})
EVERYTHING = {"PodMonitor", "PrometheusRule", "ConfigMap"}


def made(spec: dict[str, Any], apis: frozenset[str] = APIS, **settings: Any) -> dict[str, Manifest]:
    told = SETTINGS.model_copy(update=settings)
    found = monitoring.build(Context(make_bot(spec), Observed(apis=apis), told))
    return {item["kind"]: item for item in found}


class TestWhen:
    def test_all_where_the_kinds_are(self) -> None:
        assert set(made({})) == EVERYTHING

    def test_nothing_where_they_are_not(self) -> None:
        assert made({}, frozenset()) == {}

    @pytest.mark.parametrize(
        ("switch", "kind"), [("monitors", "PodMonitor"), ("rules", "PrometheusRule"), ("dashboards", "ConfigMap")]
    )
    def test_each_may_be_switched_off(self, switch: str, kind: str) -> None:
        assert set(made({"telemetry": {switch: "Off"}})) == EVERYTHING - {kind}

    @pytest.mark.parametrize(
        ("spec", "apis", "missed"),
        [
            ({}, APIS, True),
            ({"telemetry": {"monitors": "Off"}}, APIS, False),
            ({}, frozenset({"PrometheusRule"}), False),
        ],
    )
    def test_only_pods_that_the_monitor_scrapes_are_missed(
        self, spec: dict[str, Any], apis: frozenset[str], missed: bool
    ) -> None:
        groups = made(spec, apis)["PrometheusRule"]["spec"]["groups"]
        told = {rule.get("alert") for group in groups for rule in group["rules"]}
        assert ("ChatbotComponentDown" in told) is missed
        assert {"ChatbotNotReady", "ChatbotAvailabilityBudgetBurns"} <= told

    def test_nobody_is_woken_for_a_bot_that_hibernates(self) -> None:
        assert set(made({"mode": "Hibernated"})) == EVERYTHING - {"PrometheusRule"}


def test_are_as_the_picture_shows() -> None:
    """The dashboard is another's business: test_overview.py and tests/e2e/test_metrics.py."""
    found = made({"slo": {"availability": "99.95", "firstTokenP95": "1500ms"}})
    painted = yaml.dump_all([found["PodMonitor"], found["PrometheusRule"]], Dumper=Plain, sort_keys=False, width=120)
    if REWRITE in os.environ:
        PICTURE.write_text(painted)
    assert painted == PICTURE.read_text(), f"rewrite the pictures with {REWRITE}=1 and look at the difference"


class TestLabels:
    def test_those_of_the_chart_are_on_what_prometheus_selects(self) -> None:
        found = made({}, monitor_labels={"release": "prometheus", names.BOT: "other"})
        for kind in ("PodMonitor", "PrometheusRule"):
            labels = found[kind]["metadata"]["labels"]
            assert (labels["release"], labels[names.BOT]) == ("prometheus", "demo")

    def test_that_of_the_sidecar_is_on_the_dashboard(self) -> None:
        assert made({})["ConfigMap"]["metadata"]["labels"]["grafana_dashboard"] == "1"

    def test_dashboards_of_two_bots_are_two(self) -> None:
        [one] = made({})["ConfigMap"]["data"].items()
        bot = make_bot({})
        other = bot.model_copy(update={"metadata": bot.metadata.model_copy(update={"namespace": "other"})})
        [two] = monitoring.build(Context(other, Observed(apis=APIS), SETTINGS))[-1]["data"].items()
        assert one[0] != two[0]
        assert json.loads(one[1])["uid"] != json.loads(two[1])["uid"]


class TestScraped:
    def test_are_the_pods_whose_policy_lets_prometheus_in(self) -> None:
        """And no others: stores have no port of that name."""
        children = Cluster(make_bot(DEV)).converge().manifests()
        monitor = made(DEV)["PodMonitor"]["spec"]
        [endpoint] = monitor["podMetricsEndpoints"]
        scraped = {}
        for (kind, _), item in children.items():
            if kind in ("Deployment", "StatefulSet", "Job"):
                template = item["spec"]["template"]
                labels = template["metadata"]["labels"]
                ports = [port for one in template["spec"]["containers"] for port in one.get("ports", [])]
                numbers = [port["containerPort"] for port in ports if port.get("name") == endpoint["port"]]
                if numbers and monitor["selector"]["matchLabels"].items() <= labels.items():
                    scraped[labels[names.COMPONENT]] = numbers
        assert scraped == {part: [names.PRIVATE_PORT] for part in network.SCRAPED}
        for part in scraped:
            policy = children["NetworkPolicy", f"demo-{part}"]["spec"]
            rule = next(rule for rule in policy["ingress"] if network.PROMETHEUS in rule.get("from", []))
            assert [port["port"] for port in rule["ports"]] == [names.PRIVATE_PORT]


def test_one_whose_name_is_taken_leaves_the_bot_ready() -> None:
    cluster = Cluster(make_bot(DEV), apis=APIS).converge()
    other = {"uid": "another", "controller": True, "kind": "Prometheus", "name": "demo"}
    cluster.child("PodMonitor", "demo")["metadata"]["ownerReferences"] = [other]
    told = cluster.report()
    detected = cluster.condition("DependenciesDetected")
    assert (detected.status, detected.reason) == ("False", "NameConflict")
    assert "PodMonitor demo belongs to another resource" in detected.message
    assert (told.phase, cluster.condition("Degraded").status) == ("Ready", "False")


def test_what_is_lacking_does_not_hide_what_is_refused() -> None:
    scaling = {"chat": {"scaling": {"mode": "KEDA"}}}
    cluster = Cluster(make_bot(DEV | {"components": scaling}), apis=APIS).converge()
    other = {"uid": "another", "controller": True, "kind": "Prometheus", "name": "demo"}
    cluster.child("PodMonitor", "demo")["metadata"]["ownerReferences"] = [other]
    cluster.report()
    detected = cluster.condition("DependenciesDetected")
    assert (detected.status, detected.reason) == ("False", "ApiNotInstalled")
    assert "no ScaledObject" in detected.message
    assert "PodMonitor demo belongs to another resource" in detected.message


def test_bounds_are_those_of_chats_histogram() -> None:
    assert tuple(AI_FIRST_TOKEN._upper_bounds) == (*queries.FIRST_TOKEN_BOUNDS, float("inf"))


@pytest.mark.parametrize(
    ("seconds", "within"),
    [
        (2.5, 'L(le="2.5")'),
        (2.0, '0.3333 * L(le="1.0") + 0.6667 * L(le="2.5")'),
        (0.05, 'L(le="0.05")'),
        (60.0, 'L(le="60.0")'),
        (0.06, '0.8 * L(le="0.05") + 0.2 * L(le="0.1")'),
    ],
)
def test_between_two_bounds_it_lies_on_the_line(seconds: float, within: str) -> None:
    of = queries.Series("team", "demo")
    for bound in queries.FIRST_TOKEN_BOUNDS:
        text = queries.rate(of("ai_first_token_seconds_bucket", component="chat", le=str(bound)), "5m")
        within = within.replace(f'L(le="{bound}")', text)
    assert f"({within})" in queries.slow_share(of, seconds, "5m")


@pytest.fixture(scope="module")
def api_server(own_api_server: ApiServer) -> Iterator[ApiServer]:
    """With the definitions of Prometheus's operator."""
    install(own_api_server, MONITORING)
    yield own_api_server
    remove(own_api_server, MONITORING)


class TestOnACluster:
    async def test_are_made_kept_and_taken_away(self, world: World) -> None:
        world.create_bot({"profile": "Dev"})
        run = Run(world, lambda: APIS)
        with playing_kubelet(world.api, world.namespace):
            await run.until("Ready", "True")
            rule = world.existing("PrometheusRule", BOT)
            assert "0.001" in json.dumps(rule["spec"])
            world.existing("PodMonitor", BOT)
            world.existing("ConfigMap", f"{BOT}-dashboard")
            writes = world.writes()
            await Run(world, lambda: APIS).reconcile(world.key)
            assert world.writes() == writes
            world.api.patch("PodMonitor", world.namespace, BOT, {"spec": {"selector": {"matchLabels": {"a": "b"}}}})
            world.api.delete("PrometheusRule", world.namespace, BOT)
            await run.until("Ready", "True")
            assert world.existing("PrometheusRule", BOT)["metadata"]["uid"] != rule["metadata"]["uid"]
            run.edit(telemetry={"monitors": "Off", "rules": "Off", "dashboards": "Off"})
            await run.until("Ready", "True")
            assert [world.get(kind, BOT) for kind in ("PodMonitor", "PrometheusRule")] == [None, None]
            assert world.get("ConfigMap", f"{BOT}-dashboard") is None

    async def test_what_is_promised_is_changed_without_touching_a_pod(self, world: World) -> None:
        world.create_bot({"profile": "Dev"})
        run = Run(world, lambda: APIS)
        with playing_kubelet(world.api, world.namespace):
            await run.until("Ready", "True")
            before = world.existing("Deployment", f"{BOT}-gateway")["metadata"]["generation"]
            run.edit(slo={"availability": "99.5", "firstTokenP95": "5s"})
            await run.until("Ready", "True")
            assert "99.5 %" in json.dumps(world.existing("PrometheusRule", BOT)["spec"])
            assert world.existing("Deployment", f"{BOT}-gateway")["metadata"]["generation"] == before

    async def test_one_that_is_refused_is_named_and_the_rest_goes_on(self, world: World) -> None:
        """As the admission webhook of Prometheus's operator refuses rules, or a quota."""
        quota = {"hard": {"count/prometheusrules.monitoring.coreos.com": "0"}}
        where = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
        body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": quota}
        world.api.request("POST", where, body)
        wait_for("the quota", lambda: world.api.request("GET", f"{where}/none").get("status", {}).get("hard"))
        world.create_bot({"profile": "Dev"})
        run = Run(world, lambda: APIS)
        with playing_kubelet(world.api, world.namespace):
            told = await run.until("DependenciesDetected", "False", "ApplyRefused")
            [refused] = [item for item in told.conditions if item.type == "DependenciesDetected"]
            assert f"PrometheusRule {BOT}" in refused.message
            told = await run.until("Ready", "True")
            assert told.phase == "Ready"
            [refused] = [item for item in told.conditions if item.type == "DependenciesDetected"]
            assert (refused.status, refused.reason) == ("False", "ApplyRefused")
            world.existing("PodMonitor", BOT)
