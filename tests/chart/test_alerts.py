"""Alerts of the operator, which the chart brings, judged by promtool: on which series they fire, and on which not."""

from pathlib import Path

import pytest

from tests.chart.helm import MONITORING, NAMESPACE, Helm, Manifest
from tests.docs.pages import ROOT, headings
from tests.support.prometheus import Case, fires, promtool, rules_file

JOB = f'job="{NAMESPACE}/chatbot-operator"'
LEADER, OTHER = (f'chatbot_operator_leader{{{JOB},pod="{pod}"}}' for pod in "ab")
ELSEWHERE = LEADER.replace(NAMESPACE, "another")
ERRORS = f'chatbot_operator_errors_total{{{JOB},pod="a",reason="Unavailable"}}'
FORBIDDEN = f'chatbot_operator_api_requests_total{{{JOB},pod="a",verb="patch",code="403"}}'
WAITING = f'chatbot_operator_queue_oldest_seconds{{{JOB},pod="a"}}'
READY, DEGRADED = (f'chatbot_operator_resources{{{JOB},pod="a",phase="{name}"}}' for name in ("Ready", "Degraded"))
LABELS = "severity, reason, verb, phase"

CRITICAL = ('{severity="critical"}',)
NO_LEADER, FAILS, IS_FORBIDDEN, BEHIND, ATTENTION = (
    "ChatbotOperatorHasNoLeader",
    "ChatbotOperatorFails",
    "ChatbotOperatorIsForbidden",
    "ChatbotOperatorIsBehind",
    "ChatbotsNeedAttention",
)
CASES = (
    Case("one leads", NO_LEADER, {LEADER: "1x60", OTHER: "0x60"}, 30),
    Case("another takes over", NO_LEADER, {LEADER: "1x10 stale", OTHER: "0x13 1x60"}, 15),
    Case("nobody leads", NO_LEADER, {LEADER: "0x60", OTHER: "0x60"}, 10, CRITICAL),
    Case("nobody is there", NO_LEADER, {LEADER: "1x10 stale"}, 30, CRITICAL),
    Case("nobody was ever there", NO_LEADER, {}, 10, CRITICAL),
    Case("that of another release leads", NO_LEADER, {LEADER: "0x60", ELSEWHERE: "1x60"}, 10, CRITICAL),
    Case("nothing failed", FAILS, {ERRORS: "5x60"}, 30),
    Case("something failed once", FAILS, {ERRORS: "0x9 1x60"}, 18),
    Case("it goes on failing", FAILS, {ERRORS: "0+1x60"}, 30, ('{severity="warning", reason="Unavailable"}',)),
    Case("something was refused once", IS_FORBIDDEN, {FORBIDDEN: "0x9 1x60"}, 18),
    Case("others are faster", IS_FORBIDDEN, {FORBIDDEN.replace("403", "409"): "0+1x60"}, 30),
    Case("it goes on being refused", IS_FORBIDDEN, {FORBIDDEN: "0+1x60"}, 30, ('{severity="warning", verb="patch"}',)),
    Case("they wait a while", BEHIND, {WAITING: "0x9 100x60"}, 30),
    Case("they wait long once", BEHIND, {WAITING: "0x9 130x3 0x60"}, 14),
    Case("they go on waiting long", BEHIND, {WAITING: "0x9 130x60"}, 20, ('{severity="warning"}',)),
    Case("all are well", ATTENTION, {READY: "9x60", DEGRADED: "0x60"}, 30),
    Case("one was mended in time", ATTENTION, {DEGRADED: "0x9 1x9 0x60"}, 25),
    Case("one is not", ATTENTION, {DEGRADED: "0x9 1x60"}, 30, ('{severity="warning", phase="Degraded"}',)),
)


@pytest.fixture(scope="module")
def groups(helm: Helm) -> list[Manifest]:
    [found] = [item for item in helm.template(apis=MONITORING) if item["kind"] == "PrometheusRule"]
    return list(found["spec"]["groups"])


def test_prometheus_takes_them(groups: list[Manifest], tmp_path: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", rules_file(tmp_path, groups))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.says}")
def test_fires_when_it_has_to(groups: list[Manifest], tmp_path: Path, case: Case) -> None:
    fires(tmp_path, groups, case, LABELS)


def test_each_is_tried_both_ways(groups: list[Manifest]) -> None:
    for rule in groups[0]["rules"]:
        assert {bool(case.firing) for case in CASES if case.alert == rule["alert"]} == {True, False}, rule["alert"]


def test_has_an_entry_in_the_guide(groups: list[Manifest]) -> None:
    for rule in groups[0]["rules"]:
        file, _, entry = rule["annotations"]["runbook"].partition(", section ")
        assert entry == rule["alert"]
        assert entry in headings(ROOT / file)
