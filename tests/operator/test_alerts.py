"""Alerts of one bot, judged by promtool: on which series they fire, and on which they do not."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from chatbot_operator.components import alerts
from chatbot_operator.components.queries import FIRST_TOKEN_BOUNDS

from tests.docs.pages import ROOT, headings
from tests.operator.simulated import make_bot
from tests.operator.specs import BY_HAND
from tests.support import prometheus
from tests.support.prometheus import Series, fires, judged, promtool, rules_file

ALL = 'namespace="team",bot="demo"'
ROUTE = 'method="POST",endpoint="/v1/{path:path}"'
OK, FAILED = (f'http_requests_total{{{ALL},component="gateway",{ROUTE},status="{code}"}}' for code in (200, 503))
HEALTH = f'http_requests_total{{{ALL},component="gateway",endpoint="/api/v1/health/all",status="503"}}'
CHAT_FAILED = FAILED.replace("gateway", "chat")
STARTED, BROKEN = (
    f'conversation_turns_total{{{ALL},component="conversation",state="{state}"}}' for state in ("started", "failed")
)
UNCHECKED = f'gateway_limits_unchecked_total{{{ALL},component="gateway"}}'
JOB = f'conversation_jobs_total{{{ALL},component="conversation-worker",exported_job="index_faq",outcome="failed"}}'
IN_USE, OF_ALL = (f'db_connections_{name}{{{ALL},component="conversation",pod="a"}}' for name in ("active", "max"))
POOL = {OF_ALL: "30x100"}
PARTS = ("gateway", "auth", "chat", "conversation", "conversation-worker")
UP = {f'up{{{ALL},component="{part}",pod="{part}-0"}}': "1x600" for part in PARTS}
HOUR = 60
LABELS = "severity, long, component, phase, exported_job"


def begun(within: Mapping[float, int], every: int) -> Series:
    """Answers a minute that began within so many seconds, of so many."""
    buckets = {str(bound): max((n for s, n in within.items() if s <= bound), default=0) for bound in FIRST_TOKEN_BOUNDS}
    made = {f'ai_first_token_seconds_bucket{{{ALL},component="chat",le="{le}"}}': n for le, n in buckets.items()}
    made[f'ai_first_token_seconds_count{{{ALL},component="chat"}}'] = every
    return {name: f"0+{count}x600" for name, count in made.items()}


def phase(name: str) -> str:
    return f'chatbot_operator_resource_phase{{bot_namespace="team",bot="demo",phase="{name}",namespace="system"}}'


@dataclass(frozen=True)
class Case(prometheus.Case):
    spec: Mapping[str, Any] = field(default_factory=lambda: {"profile": "Dev"})


PAGE = '{severity="critical", long="1h"}'
SLOWER = '{severity="critical", long="6h"}'
TICKET = '{severity="warning", long="3d"}'
AVAILABILITY, FIRST, ANSWERS = (
    "ChatbotAvailabilityBudgetBurns",
    "ChatbotFirstTokenBudgetBurns",
    "ChatbotAnswersFail",
)
CASES = (
    Case("all is well", AVAILABILITY, {OK: "0+60x600"}, 8 * HOUR),
    Case("nobody asks", AVAILABILITY, {OK: "0x600"}, HOUR),
    Case("one in fifty fails", AVAILABILITY, {OK: "0+98x600", FAILED: "0+2x600"}, 20, (PAGE, SLOWER, TICKET)),
    Case(
        "more is promised",
        AVAILABILITY,
        {OK: "0+9990x600", FAILED: "0+10x600"},
        HOUR,
        (SLOWER, TICKET),
        {"slo": {"availability": "99.99"}},
    ),
    Case(
        "less is promised",
        AVAILABILITY,
        {OK: "0+98x600", FAILED: "0+2x600"},
        HOUR,
        (TICKET,),
        {"slo": {"availability": "99"}},
    ),
    Case("it was bad an hour ago", AVAILABILITY, {OK: "0+60x600", FAILED: "0+60x30 1800x600"}, 2 * HOUR, (TICKET,)),
    Case("it was bad long ago", AVAILABILITY, {OK: "0+60x600", FAILED: "0+60x30 1800x600"}, 7 * HOUR),
    Case("few people, few failures", AVAILABILITY, {OK: "0+1x600", FAILED: "0x20 1 2 3 3x600"}, 26),
    Case("somebody looks at the health of all", AVAILABILITY, {OK: "0+60x600", HEALTH: "0+60x600"}, HOUR),
    Case("answers begin in time", FIRST, begun({1: 55, 2.5: 60}, 60), HOUR),
    Case("in time, as far as buckets tell", FIRST, begun({1: 0, 2.5: 100}, 100), HOUR, (SLOWER, TICKET)),
    Case("most begin late", FIRST, begun({1: 1, 5: 10}, 10), HOUR, (PAGE, SLOWER, TICKET)),
    Case("later is promised", FIRST, begun({1: 1, 5: 10}, 10), HOUR, (), {"slo": {"firstTokenP95": "10s"}}),
    Case("a component is away", "ChatbotComponentDown", {next(iter(UP)): "1x5 0x100"}, 8),
    Case(
        "a component stays away",
        "ChatbotComponentDown",
        {next(iter(UP)): "1x5 0x100"},
        20,
        ('{severity="critical", component="gateway"}',),
    ),
    Case(
        "its pods are gone",
        "ChatbotComponentDown",
        {next(iter(UP)): "1x5 stale"},
        20,
        ('{severity="critical", component="gateway"}',),
    ),
    Case(
        "a callee fails",
        "ChatbotComponentFails",
        {CHAT_FAILED: "0+1x100", CHAT_FAILED.replace("503", "200"): "0+9x100", OK: "0+9x100"},
        30,
        ('{severity="warning", component="chat"}',),
    ),
    Case("limits are checked", "ChatbotLimitsUnchecked", {UNCHECKED: "0x100"}, 30),
    Case("limits are not", "ChatbotLimitsUnchecked", {UNCHECKED: "0+1x100"}, 30, ('{severity="warning"}',)),
    Case("answers end well", ANSWERS, {STARTED: "0+9x100"}, HOUR),
    Case("an answer fails now and then", ANSWERS, {STARTED: "0+90x100", BROKEN: "0+1x100"}, HOUR),
    Case(
        "a fifth of answers fails", ANSWERS, {STARTED: "0+5x100", BROKEN: "0+1x100"}, HOUR, ('{severity="critical"}',)
    ),
    Case(
        "a job is given up",
        "ChatbotJobsFail",
        {JOB: "0x10 1x100"},
        15,
        ('{severity="warning", exported_job="index_faq"}',),
    ),
    Case("and is forgotten", "ChatbotJobsFail", {JOB: "0x10 1x100"}, 90),
    Case(
        "a rollout goes on", "ChatbotNotReady", {phase("Progressing"): "1x10 stale", phase("Ready"): "_x10 1x100"}, 30
    ),
    Case(
        "it came to nothing",
        "ChatbotNotReady",
        {phase("Degraded"): "1x100"},
        30,
        ('{severity="warning", phase="Degraded"}',),
    ),
    Case(
        "it may take longer",
        "ChatbotNotReady",
        {phase("Progressing"): "1x100"},
        30,
        (),
        {"rollout": {"deadline": "1h"}},
    ),
    Case("connections are left", "ChatbotPoolIsFull", POOL | {IN_USE: "20x100"}, 30),
    Case(
        "a worker uses all of its",
        "ChatbotPoolIsFull",
        {name.replace("conversation", "conversation-worker"): "8x100" for name in (IN_USE, OF_ALL)},
        30,
    ),
    Case(
        "none are left for long",
        "ChatbotPoolIsFull",
        POOL | {IN_USE: "29x100"},
        30,
        ('{severity="warning", component="conversation"}',),
    ),
    Case("it rests", "ChatbotNotReady", {phase("Hibernated"): "1x100"}, 90),
    Case("the operator is not scraped", "ChatbotNotReady", {}, 90),
)


def groups(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    return alerts.groups(make_bot(spec), monitored=True)


@pytest.mark.parametrize("spec", BY_HAND.values(), ids=BY_HAND)
def test_prometheus_takes_them(tmp_path: Path, spec: Mapping[str, Any]) -> None:
    assert "SUCCESS" in promtool("check", "rules", rules_file(tmp_path, groups(spec)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.says}")
def test_fires_when_it_has_to(tmp_path: Path, case: Case) -> None:
    fires(tmp_path, groups(case.spec), replace(case, series={**UP, **case.series}), LABELS)


def test_says_what_is_wrong_and_where_to_read_on(tmp_path: Path) -> None:
    labels = {"namespace": "team", "bot": "demo", "severity": "critical", "long": "1h", "short": "5m"}
    slower, ticket = {"long": "6h", "short": "30m"}, {"long": "3d", "short": "6h", "severity": "warning"}
    annotations = {
        "summary": "demo: 2% of requests fail, and 99.9 % are promised to succeed.",
        "runbook": "docs/guides/troubleshooting.md, section ChatbotAvailabilityBudgetBurns",
    }
    said = "In the last {long} and still in the last {short}: {factor} times what 30 days allow."
    alert = [
        {
            "exp_labels": labels | other,
            "exp_annotations": annotations | {"description": said.format(**(labels | other), factor=factor)},
        }
        for other, factor in (({}, 14), (slower, 6), (ticket, 1))
    ]
    expected = {"eval_time": "20m", "alertname": AVAILABILITY, "exp_alerts": alert}
    judged(tmp_path, groups({}), UP | {OK: "0+98x600", FAILED: "0+2x600"}, alert_rule_test=[expected])


def every_alert(spec: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    rules = [rule for group in groups(spec or {}) for rule in group["rules"]]
    return [rule for rule in rules if "alert" in rule]


def test_each_is_tried_both_ways() -> None:
    for name in {rule["alert"] for rule in every_alert()} - {"ChatbotComponentFails"}:
        assert {bool(case.firing) for case in CASES if case.alert == name} == {True, False}, name


@pytest.mark.parametrize("name", sorted({rule["alert"] for rule in every_alert()}))
def test_has_an_entry_in_the_guide(name: str) -> None:
    [where] = {rule["annotations"]["runbook"] for rule in every_alert() if rule["alert"] == name}
    file, _, entry = where.partition(", section ")
    assert entry in headings(ROOT / file)


@pytest.mark.parametrize("availability", ["90", "95", "99.999"])
def test_a_budget_can_always_be_burnt(availability: str) -> None:
    """Something above all requests would never be told."""
    [budget, _] = [item.budget for item in alerts.objectives(make_bot({"slo": {"availability": availability}}))]
    assert any(burn.factor * budget < 1 for burn in alerts.BURNS if burn.severity == "critical")


TO_ZERO = {"mode": "KEDA", "minReplicas": 0, "maxReplicas": 3, "targets": {"inFlightStreams": 9}}


@pytest.mark.parametrize(
    ("scaling", "away"),
    [
        ({}, set()),
        ({"chat": TO_ZERO}, {"chat"}),
        ({"chat": TO_ZERO | {"minReplicas": 1}}, set()),
        ({"auth": {"mode": "External"}, "gateway": {"mode": "External"}}, {"auth", "gateway"}),
        ({"conversation": {"mode": "External"}}, {"conversation"}),  # and its worker goes on
    ],
)
def test_components_that_may_be_away_are_not_missed(scaling: Mapping[str, Any], away: set[str]) -> None:
    components = {name: {"scaling": told} for name, told in scaling.items()}
    rules = every_alert({"components": components, "telemetry": {"prometheusURL": "http://prometheus:9090"}})
    down = {rule["labels"]["component"] for rule in rules if rule["alert"] == "ChatbotComponentDown"}
    assert down == set(PARTS) - away
