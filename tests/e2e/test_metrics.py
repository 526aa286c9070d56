"""What the monitor, alerts and dashboard of a bot make of its real processes, which a real Prometheus scrapes."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import psutil
import pytest
import yaml
from chatbot_cli.layout import WORKER
from chatbot_operator.components import monitoring
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import selector
from chatbot_operator.world import Manifest, Observed
from chatbot_resource.model import ChatbotDeployment
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.e2e.conftest import Laptop
from tests.operator.running import SETTINGS
from tests.support.apiserver import wait_for
from tests.support.dashboards import asked, queries
from tests.support.metrics import named, told
from tests.support.prometheus import Prometheus, Target, running_prometheus, scrape_config

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("laptop")]

PARTS = {"gateway", "auth", "chat", "conversation", "conversation-worker"}
NEEDS_MORE = {
    "Now: Phase": "the operator's metrics, see tests/operator/test_overview.py",
    "What people get: Refused because of a limit": "a user at the limit",
    "Models: Cost an hour": "models with prices",
    "Models: Providers in trouble": "a provider that fails",
    "Models: Calls of tools": "a model that calls some",
    "Components: Not answered by a service": "a service that is away",
}
"""Panels that have nothing to show of a bot that is well."""


def monitored(laptop: Laptop) -> dict[str, Manifest]:
    """What the operator makes of the file, by kind."""
    bot = ChatbotDeployment.model_validate(next(yaml.safe_load_all(laptop.resource.read_text())))
    observed = Observed(apis=frozenset({"PodMonitor", "PrometheusRule"}))
    return {item["kind"]: item for item in monitoring.build(Context(bot, observed, SETTINGS))}


def pods(laptop: Laptop, namespace: str) -> Iterator[Target]:
    """Its processes as if each were a pod, and things that are not to be scraped."""
    bot = ChatbotDeployment.model_validate(next(yaml.safe_load_all(laptop.resource.read_text())))
    ports = json.loads((laptop.home / "tester" / "state.json").read_text())["ports"]
    for process, (public, private) in ports.items():
        part = "conversation-worker" if process == WORKER else process
        labels = selector(bot, part)
        yield Target(private, labels, namespace, f"{part}-0")
        yield Target(public, labels, namespace, f"{part}-0", "http")
        yield Target(private, labels | {"chatbot-operator.io/bot": "other"}, namespace, "other-0")


def scrapes(laptop: Laptop) -> Iterator[tuple[str, str]]:
    """What each component serves now."""
    for target in pods(laptop, "default"):
        bot = target.labels["chatbot-operator.io/bot"]
        if target.port_name == "private" and bot == "tester":
            part = target.labels["app.kubernetes.io/component"]
            yield part, httpx2.get(f"http://127.0.0.1:{target.port}/metrics").text


def talk(laptop: Laptop) -> None:
    """A minute in the life of a bot, shortened: answers of two models, and looks around."""
    with laptop.client(laptop.token()) as client:
        for model in ("retrieval", "echo"):
            sent = client.post("/api/v1/chat/send", json={"content": "When are you open?", "model": model})
            assert sent.is_success, sent.text
        assert client.get("/v1/models").is_success
        assert client.get("/api/v1/conversations").is_success
        assert client.get("/api/v1/health/all").is_success


@pytest.fixture(scope="module")
def made(laptop: Laptop) -> dict[str, Manifest]:
    return monitored(laptop)


@pytest.fixture(scope="module")
def prometheus(laptop: Laptop, made: dict[str, Manifest]) -> Iterator[Prometheus]:
    """After some talk, of which it saw enough to tell rates."""
    monitor = made["PodMonitor"]
    targets = list(pods(laptop, monitor["metadata"]["namespace"]))
    with running_prometheus([scrape_config(monitor, targets)], made["PrometheusRule"]["spec"]["groups"]) as running:
        talk(laptop)
        wait_for("a first scrape", lambda: running.query("conversation_turns_total"))
        for _ in range(3):
            talk(laptop)
            time.sleep(1.5)
        wait_for("rates", lambda: running.query('rate(ai_first_token_seconds_count{model="echo"}[30s]) > 0'))
        wait_for("jobs", lambda: running.query('rate(conversation_jobs_total{outcome="done"}[30s]) > 0'))
        yield running


def test_every_component_is_scraped_once(prometheus: Prometheus) -> None:
    found = [(item["labels"]["component"], item["health"]) for item in prometheus.targets()]
    assert sorted(found) == [(part, "up") for part in sorted(PARTS)]


def test_series_have_the_labels_that_queries_choose_by(prometheus: Prometheus) -> None:
    [sample] = prometheus.query('http_requests_total{endpoint="/v1/{path:path}",method="GET",component="gateway"}')
    labels = sample["metric"]
    assert (labels["namespace"], labels["bot"], labels["pod"]) == ("default", "tester", "gateway-0")
    assert labels["job"] == "default/tester"


def test_every_rule_has_a_sense(prometheus: Prometheus) -> None:
    wait_for("rules to be judged", lambda: {rule["health"] for rule in prometheus.rules()} == {"ok"})


def test_shares_are_recorded_of_what_happened(prometheus: Prometheus) -> None:
    assert prometheus.value('chatbot:gateway_errors:ratio_rate5m{bot="tester"}') == 0
    assert prometheus.value('chatbot:first_token_slow:ratio_rate5m{bot="tester"}') < 0.5


def test_every_panel_shows_something(prometheus: Prometheus, made: dict[str, Manifest]) -> None:
    [text] = made["ConfigMap"]["data"].values()
    empty = {title for title, expr in queries(json.loads(text)) if not prometheus.query(asked(expr))}
    assert empty == set(NEEDS_MORE)


def test_panels_show_what_happened(prometheus: Prometheus, made: dict[str, Manifest]) -> None:
    [text] = made["ConfigMap"]["data"].values()
    shown: dict[str, Any] = {title: prometheus.query(asked(expr)) for title, expr in queries(json.loads(text))}
    assert {item["metric"]["component"] for item in shown["Components: Replicas that answer"]} == PARTS
    assert {item["metric"]["status"] for item in shown["What people get: Requests by status"]} == {"200"}
    assert {item["metric"]["model"] for item in shown["Models: First token, 95th percentile"]} == {"retrieval", "echo"}
    assert {item["metric"]["state"] for item in shown["What people get: Answers by what became of them"]} == {
        "completed"
    }
    assert float(shown["Now: Pods that answer"][0]["value"][1]) == 5
    assert float(shown["Now: Requests"][0]["value"][1]) > 0


def test_the_reference_tells_what_is_served(laptop: Laptop, prometheus: Prometheus) -> None:
    """Each series there is has the labels it tells, and comes from a component that it tells."""
    known = {item.name: item for item in told()}
    names = set()
    for component, text in scrapes(laptop):
        for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
            if family.name.startswith(("python_", "process_")):
                continue
            name = named(family)
            names.add(name)
            for sample in family.samples:
                assert component in known[name].components, sample
                assert sample.labels.keys() - {"le"} == known[name].labels, sample
    assert names == known.keys()
    assert {"gen_ai_client_token_usage", "ai_tokens_used_total", "conversation_jobs_total"} <= names


def test_a_component_that_dies_is_missed(laptop: Laptop, prometheus: Prometheus) -> None:
    state = json.loads((laptop.home / "tester" / "state.json").read_text())
    psutil.Process(state["processes"][WORKER]["process"]["pid"]).kill()
    pending = 'ALERTS{alertname="ChatbotComponentDown",alertstate="pending"}'
    [alert] = wait_for("the alert", lambda: prometheus.query(pending))
    assert alert["metric"]["component"] == "conversation-worker"
    laptop.up()
    wait_for("its end", lambda: not prometheus.query(pending))
