"""The operator's own dashboard and metrics: a real operator at work, a real Prometheus that scrapes it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from chatbot_operator.components import dashboard
from chatbot_operator.overview import overview

from tests.operator.processes import operator
from tests.operator.running import BOT
from tests.operator.simulated import make_bot
from tests.operator.specs import BY_HAND
from tests.support.apiserver import ApiServer, playing_kubelet, wait_for
from tests.support.dashboards import asked, check, queries
from tests.support.prometheus import Prometheus, running_prometheus

FILE = Path(__file__).parents[2] / "charts" / "chatbot-operator" / "dashboard.json"
JOB = "system/chatbot-operator"
NEEDS_MORE = {
    "Work: Errors": "a reconcile that fails",
    "Chatbots: Not ready": "a bot that is not",
}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def scraped(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """After a bot has become ready."""
    namespace = api_server.namespace()
    with (
        operator(api_server, tmp_path_factory.mktemp("operator"), namespace) as process,
        playing_kubelet(api_server, namespace),
    ):
        process.wait_ready()
        # As the chart's PodMonitor has it.
        job = {"job_name": JOB, "static_configs": [{"targets": [f"127.0.0.1:{process.port}"]}]}
        with running_prometheus([job]) as prometheus:
            wait_for("a first scrape", lambda: prometheus.query("chatbot_operator_leader == 1"))
            body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment"}
            api_server.create(body | {"metadata": {"name": BOT}, "spec": {"profile": "Dev"}}, namespace)
            wait_for("it to be seen", lambda: prometheus.query("chatbot_operator_resource_phase"))
            ready = f'chatbot_operator_resource_phase{{bot_namespace="{namespace}",bot="{BOT}",phase="Ready"}}'
            wait_for("it to be ready", lambda: prometheus.query(ready), 60)
            yield prometheus


def test_every_panel_shows_something(scraped: Prometheus) -> None:
    empty = {title for title, expr in queries(json.loads(overview())) if not scraped.query(asked(expr, job=JOB))}
    assert empty == set(NEEDS_MORE)


def test_a_bot_is_in_one_phase(scraped: Prometheus) -> None:
    [sample] = scraped.query("chatbot_operator_resource_phase")
    assert (sample["metric"]["bot"], sample["metric"]["phase"]) == (BOT, "Ready")


def test_its_file_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == overview(), "run `make generate`"


@pytest.mark.parametrize("phase", ["Ready", "Paused", "Hibernated", "Idle"])
def test_what_is_at_rest_is_not_shown_as_not_ready(phase: str) -> None:
    [expr] = [expr for title, expr in queries(json.loads(overview())) if title == "Chatbots: Not ready"]
    [(_, phases)] = re.findall(r'(phase!~)"([^"]*)"', expr)
    assert phase in phases.split("|")


def test_grafana_can_show_it() -> None:
    check(json.loads(overview()))


@pytest.mark.parametrize("spec", BY_HAND.values(), ids=BY_HAND)
def test_grafana_can_show_that_of_a_bot(spec: dict[str, object]) -> None:
    check(json.loads(dashboard.text(make_bot(spec))))
