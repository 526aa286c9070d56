"""By what the number of pods is chosen: what is asked of Kubernetes and of KEDA, and what is told when they cannot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from chatbot_chat.runs.service import RUNS_IN_FLIGHT
from chatbot_cli.cluster.planning import preview
from chatbot_cli.cluster.resolved import resolved
from chatbot_common.telemetry import HTTP_REQUESTS
from chatbot_operator import names
from chatbot_operator.components import load
from chatbot_operator.kinds import CUSTOM_METRICS
from chatbot_operator.world import Manifest
from chatbot_resource.status import Condition

from tests.operator.running import SETTINGS
from tests.operator.simulated import UID, Cluster, make_bot
from tests.operator.test_plan import blocked
from tests.support.prometheus import promtool

KEDA = frozenset({"ScaledObject"})
PROMETHEUS = {"prometheusURL": "http://prometheus.monitoring.svc:9090/"}
GATEWAY = 'namespace="team",pod="demo-gateway-5d9c7b8f6-x2x2x"'
GATEWAY_UP, REQUESTS = f"up{{{GATEWAY}}}", f'http_requests_total{{{GATEWAY},endpoint="/v1/{{path:path}}",status="200"}}'
TO_NOTHING = {"mode": "KEDA", "minReplicas": 0, "maxReplicas": 4, "targets": {"inFlightStreams": 20}}


def spec(*parts: str, **scaling: Any) -> dict[str, Any]:
    components = {part: {"scaling": scaling} for part in parts or ("chat",)}
    return {"profile": "Dev", "components": components, "telemetry": PROMETHEUS}


def converged(written: Mapping[str, Any], apis: frozenset[str] = KEDA) -> Cluster:
    return Cluster(make_bot(written), apis=apis).converge()


def triggers(scaled: Manifest) -> list[tuple[str, str]]:
    return [(item["type"], item["metadata"].get("threshold", "")) for item in scaled["spec"]["triggers"]]


class TestScaledObject:
    def test_stands_for_the_cluster_s_own_autoscaler(self) -> None:
        cluster = converged(spec(mode="KEDA", minReplicas=2, maxReplicas=9, targets={"cpuPercent": 60}))
        assert ("HorizontalPodAutoscaler", "demo-chat") not in cluster.children
        assert "replicas" not in cluster.child("Deployment", "demo-chat")["spec"]
        assert cluster.child("ScaledObject", "demo-chat")["spec"] == {
            "scaleTargetRef": {"name": "demo-chat"},
            "minReplicaCount": 2,
            "maxReplicaCount": 9,
            "triggers": [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}],
            "advanced": {
                "horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}}}
            },
        }

    def test_asks_prometheus_for_streams(self) -> None:
        cluster = converged(spec("chat", "auth", mode="KEDA", minReplicas=1, targets={"inFlightStreams": 20}))
        for name in ("demo-chat", "demo-auth"):
            scaled = cluster.child("ScaledObject", name)
            assert triggers(scaled) == [("cpu", ""), ("prometheus", "20")]
            told = scaled["spec"]["triggers"][1]["metadata"]
            assert told["serverAddress"] == "http://prometheus.monitoring.svc:9090"
            assert told["query"] == (
                'sum(chat_runs_in_flight{namespace="team",pod=~"demo-chat-[a-z0-9]+(-[a-z0-9]+)?"})'
            )
            assert "cooldownPeriod" not in scaled["spec"]

    def test_that_may_take_all_pods_is_woken_by_the_gateway(self) -> None:
        quiet = {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 120}}}
        scaled = converged(spec(**TO_NOTHING, **quiet)).child("ScaledObject", "demo-chat")
        assert triggers(scaled) == [("cpu", ""), ("prometheus", "20"), ("prometheus", "1")]
        assert scaled["spec"]["minReplicaCount"] == 0
        assert scaled["spec"]["cooldownPeriod"] == scaled["spec"]["initialCooldownPeriod"] == 120
        query = scaled["spec"]["triggers"][2]["metadata"]["query"]
        assert 'http_requests_total{namespace="team",pod=~"demo-gateway-' in query
        assert query.endswith("> bool 0")

    @pytest.mark.parametrize(
        ("series", "asked"),
        [
            ({GATEWAY_UP: "1x60", REQUESTS: "7x60"}, 0),
            ({GATEWAY_UP: "1x60"}, 0),  # nobody has ever asked
            ({GATEWAY_UP: "1x28 _ _ 1x30", REQUESTS: "7x60"}, 0),  # a scrape or two were lost
            ({GATEWAY_UP: "1x60", REQUESTS: "0+1x60"}, 1),
            ({GATEWAY_UP: "1x60", REQUESTS: "_x29 1x30"}, 1),  # the first of all
            ({}, 1),  # not scraped
            ({GATEWAY_UP: "0x60"}, 1),  # does not get through
            ({GATEWAY_UP.replace("demo", "other"): "1x60"}, 1),  # another bot's
        ],
    )
    def test_knows_whether_anybody_asks_or_that_it_cannot(
        self, tmp_path: Path, series: Mapping[str, str], asked: int
    ) -> None:
        given = [{"series": name, "values": values} for name, values in series.items()]
        expected = {
            "expr": load.asked(make_bot({})),
            "eval_time": "30m",
            "exp_samples": [{"labels": "{}", "value": asked}],
        }
        tests = [{"interval": "1m", "input_series": given, "promql_expr_test": [expected]}]
        file = tmp_path / "test.yaml"
        file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": tests}), encoding="utf-8")
        promtool("test", "rules", file)

    def test_goes_by_metrics_that_the_services_have(self) -> None:
        [gauge], [counter] = RUNS_IN_FLIGHT.collect(), HTTP_REQUESTS.collect()
        assert (gauge.name, f"{counter.name}_total") == (load.STREAMS, load.REQUESTS)

    def test_is_shown_by_a_plan(self) -> None:
        cluster = Cluster(make_bot(spec(**TO_NOTHING)), apis=KEDA)
        found = preview(cluster.bot, UID, cluster.converge().observed, SETTINGS)
        assert (found.changes, found.restarts) == ((), ())
        rows = {row.part: row.cells[0].text for row in resolved(found.workloads, {})}
        assert rows["chat"] == "0 to 4 by KEDA, cpu 70 %, 20 streams each"


class TestWithoutKeda:
    def test_everything_else_goes_on(self) -> None:
        cluster = converged(spec("chat", "auth", **TO_NOTHING), frozenset())
        assert cluster.condition("Ready").status == "True"
        told = cluster.condition("AutoscalingReady")
        assert (told.status, told.reason) == ("False", "ApiNotInstalled")
        assert (
            "no ScaledObject (keda.sh), which spec.components.auth.scaling.mode asks for: install KEDA" in told.message
        )
        assert told.message.endswith("Or the operator has no right to it.")
        assert said(cluster.condition("DependenciesDetected")) == said(told)
        assert not [kind for kind, _ in cluster.children if kind in ("ScaledObject", "HorizontalPodAutoscaler")]

    def test_a_deployment_keeps_its_pods_and_gets_one_if_it_has_none(self) -> None:
        live = converged(spec(**TO_NOTHING), frozenset()).child("Deployment", "demo-chat")
        assert "replicas" not in live["spec"]
        # Else nobody would wake it: see applying.py.
        assert names.SCALED_BY not in live["metadata"]["annotations"]
        with_keda = converged(spec(**TO_NOTHING)).child("Deployment", "demo-chat")
        assert with_keda["metadata"]["annotations"][names.SCALED_BY] == "KEDA"


class TestStreamsOfPods:
    BY_STREAMS = spec(mode="HPA", targets={"inFlightStreams": 20})

    def test_need_custom_metrics(self) -> None:
        cluster = converged(self.BY_STREAMS, frozenset())
        metrics = cluster.child("HorizontalPodAutoscaler", "demo-chat")["spec"]["metrics"]
        assert [item["type"] for item in metrics] == ["Resource"]
        told = cluster.condition("AutoscalingReady")
        assert (told.status, told.reason) == ("False", "CustomMetricsUnavailable")
        assert "spec.components.chat.scaling.targets.inFlightStreams" in told.message
        assert said(cluster.condition("DependenciesDetected")) == said(told)
        assert cluster.condition("Ready").status == "True"

    def test_count_where_they_are_served(self) -> None:
        cluster = converged(self.BY_STREAMS, frozenset({CUSTOM_METRICS}))
        metrics = cluster.child("HorizontalPodAutoscaler", "demo-chat")["spec"]["metrics"]
        target = {"type": "AverageValue", "averageValue": "20"}
        assert metrics[1] == {"type": "Pods", "pods": {"metric": {"name": "chat_runs_in_flight"}, "target": target}}
        assert cluster.condition("AutoscalingReady").reason == "Autoscaling"
        assert cluster.condition("DependenciesDetected").status == "True"


class TestDependencies:
    def test_are_named_together(self) -> None:
        route = {"type": "HTTPRoute", "hostnames": ["a.b"], "parentRefs": [{"name": "web"}]}
        cluster = converged(spec(mode="KEDA") | {"exposure": route}, frozenset())
        told = cluster.condition("DependenciesDetected")
        assert (told.status, told.reason) == ("False", "ApiNotInstalled")
        assert "no HTTPRoute (gateway.networking.k8s.io), which spec.exposure.type asks for" in told.message
        assert "no ScaledObject (keda.sh), which spec.components.chat.scaling.mode asks for" in told.message
        assert cluster.condition("RouteReady").message in told.message
        assert cluster.condition("AutoscalingReady").message in told.message
        assert cluster.condition("Degraded").status == "False"

    def test_what_nobody_asks_for_is_not_missed(self) -> None:
        assert converged({"profile": "Dev"}, frozenset()).condition("DependenciesDetected").status == "True"


def said(condition: Condition) -> tuple[str, str, str]:
    return condition.status, condition.reason, condition.message


def ready(status: str, reason: str = "", message: str = "") -> list[Manifest]:
    return [{"type": "Ready", "status": status, "reason": reason, "message": message}]


class TestFinding:
    @pytest.mark.parametrize(
        ("conditions", "words"),
        [
            ([], "has not been taken up by KEDA yet"),
            (ready("Unknown"), "has not been taken up by KEDA yet"),
            (ready("False", "TriggerError", "Triggers are not working"), "TriggerError: Triggers are not working"),
            (ready("Unknown", "PartialTriggerError", "Some triggers fail"), "PartialTriggerError: Some triggers fail"),
            ([*ready("True"), {"type": "Paused", "status": "True", "message": "paused"}], "is paused by an annotation"),
        ],
    )
    def test_names_the_object_and_what_keda_says(self, conditions: list[Manifest], words: str) -> None:
        cluster = converged(spec(mode="KEDA"))
        cluster.child("ScaledObject", "demo-chat")["status"] = {"conditions": conditions}
        cluster.report()
        told = cluster.condition("AutoscalingReady")
        assert (told.status, told.reason) == ("False", "ScaledObjectNotReady")
        assert told.message.startswith("ScaledObject demo-chat ")
        assert words in told.message
        assert cluster.condition("Ready").status == "True"

    def test_is_none_while_it_scales(self) -> None:
        cluster = converged(spec(mode="KEDA"))
        cluster.child("ScaledObject", "demo-chat")["status"] = {"conditions": ready("True")}
        cluster.report()
        assert cluster.condition("AutoscalingReady").reason == "Autoscaling"

    def test_is_also_what_kubernetes_says_of_what_keda_made(self) -> None:
        cluster = converged(spec(mode="KEDA"))
        scaled = cluster.child("ScaledObject", "demo-chat")
        scaled["status"] = {"conditions": ready("True")}
        failing = {"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric", "message": "no cpu"}
        metadata = {"name": "keda-hpa-demo-chat", "labels": scaled["metadata"]["labels"]}
        metadata["ownerReferences"] = [{"kind": "ScaledObject", "uid": "of the ScaledObject", "controller": True}]
        cluster.children["HorizontalPodAutoscaler", "keda-hpa-demo-chat"] = {
            "kind": "HorizontalPodAutoscaler",
            "metadata": metadata,
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "demo-chat"}},
            "status": {"conditions": [failing]},
        }
        cluster.reconcile()
        assert ("HorizontalPodAutoscaler", "keda-hpa-demo-chat") in cluster.children
        told = cluster.condition("AutoscalingReady")
        assert (told.reason, told.message) == (
            "MetricsUnavailable",
            "HorizontalPodAutoscaler keda-hpa-demo-chat: no cpu",
        )


class TestFigures:
    """What metrics-server has not measured yet is no fault of anybody's."""

    def told(self, message: str, at: str) -> str:
        cluster = converged(spec(minReplicas=1, maxReplicas=2))
        failing = {"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric", "message": message}
        live = cluster.child("HorizontalPodAutoscaler", "demo-chat")
        live["status"] = {"conditions": [failing | {"lastTransitionTime": "2026-11-21T06:00:00Z"}]}
        cluster.at = at
        cluster.report()
        assert cluster.condition("Ready").status == "True"
        assert message in cluster.condition("AutoscalingReady").message
        return cluster.condition("AutoscalingReady").reason

    @pytest.mark.parametrize(
        "message",
        [
            "failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)",
            "unable to get metrics for resource cpu: no metrics returned from resource metrics API",
        ],
    )
    def test_of_new_pods_come_within_minutes(self, message: str) -> None:
        assert self.told(message, "2026-11-21T06:02:30Z") == "MetricsPending"
        assert self.told(message, "2026-11-21T06:03:30Z") == "MetricsUnavailable"
        assert self.told(message, "") == "MetricsUnavailable"

    def test_that_nobody_serves_are_told_at_once(self) -> None:
        message = "the server could not find the requested resource (get pods.metrics.k8s.io)"
        assert self.told(message, "2026-11-21T06:00:01Z") == "MetricsUnavailable"


class TestBegin:
    """Nothing is said to follow the load before it says so itself."""

    def test_is_told_from_the_first_moment_on(self) -> None:
        cluster = Cluster(make_bot(spec(minReplicas=1, maxReplicas=2)))
        cluster.report([*cluster.plan()])
        assert said(cluster.condition("AutoscalingReady"))[:2] == ("False", "NotCreated")
        cluster.converge()
        assert cluster.condition("AutoscalingReady").reason == "Autoscaling"

    def test_of_a_new_one_is_waited_for_and_then_told(self) -> None:
        cluster = converged(spec(minReplicas=1, maxReplicas=2))
        live = cluster.child("HorizontalPodAutoscaler", "demo-chat")
        del live["status"]
        live["metadata"]["creationTimestamp"] = "2026-11-21T06:00:00Z"
        for at, reason in (("2026-11-21T06:02:30Z", "MetricsPending"), ("2026-11-21T06:03:30Z", "MetricsUnavailable")):
            cluster.at = at
            cluster.report()
            text = "HorizontalPodAutoscaler demo-chat: it has not asked for the load of its pods yet."
            assert said(cluster.condition("AutoscalingReady")) == ("False", reason, text)
            assert cluster.condition("Ready").status == "True"
        cluster.child("Deployment", "demo-chat")["spec"]["replicas"] = 0
        cluster.report()
        assert cluster.condition("AutoscalingReady").status == "True", "there is nothing to be measured"

    def test_is_no_matter_while_nothing_runs(self) -> None:
        cluster = converged(spec(minReplicas=1, maxReplicas=2))
        cluster.edit(mode="Hibernated")
        cluster.reconcile()
        assert cluster.condition("AutoscalingReady").status == "True"


class TestIdle:
    @pytest.fixture
    def cluster(self) -> Cluster:
        cluster = converged(spec("chat", "conversation", **TO_NOTHING))
        for name in ("demo-chat", "demo-conversation"):
            self.scale(cluster, name, 0)
        return cluster

    @staticmethod
    def scale(cluster: Cluster, name: str, count: int) -> None:
        live = cluster.child("Deployment", name)
        live["spec"]["replicas"] = count
        counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), count)
        live["status"] = {"observedGeneration": live["metadata"]["generation"]} | counts

    def test_is_told_as_what_it_is(self, cluster: Cluster) -> None:
        told = cluster.report()
        assert (told.phase, told.components_ready) == ("Idle", "2/4")
        for kind in ("Ready", "Available"):
            assert (cluster.condition(kind).status, cluster.condition(kind).reason) == ("False", "ScaledToZero")
        assert "Deployment demo-chat has no pods: nobody asks" in cluster.condition("Ready").message
        for kind in ("Progressing", "Degraded"):
            assert cluster.condition(kind).status == "False"

    def test_ends_with_the_first_pod(self, cluster: Cluster) -> None:
        for name in ("demo-chat", "demo-conversation"):
            self.scale(cluster, name, 1)
        assert cluster.report().phase == "Ready"

    def test_holds_nothing_up(self, cluster: Cluster) -> None:
        cluster.edit(limits={"perMinute": 7}, images={"chat": "chat:2"})
        steps = cluster.reconcile()
        assert blocked(steps) == {"gateway": "WaitingForComponent"}, "until chat has its new form, without any pod"
        self.scale(cluster, "demo-chat", 0)
        assert blocked(cluster.reconcile()) == {}

    def test_is_nothing_to_go_back_to(self, cluster: Cluster) -> None:
        before = {name for kind, name in cluster.children if kind == "ControllerRevision"}
        cluster.edit(images={"chat": "chat:2"})
        cluster.reconcile()
        self.scale(cluster, "demo-chat", 0)
        cluster.reconcile()
        assert {name for kind, name in cluster.children if kind == "ControllerRevision"} == before
