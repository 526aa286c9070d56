"""Recording rules and alerts of one bot, as groups of Prometheus's rules.

`slo` promises two things, and each has a budget of what may go wrong in 30 days. An alert tells that the budget is
being burnt so fast that it will not last: over a long window, so that it matters, and over a short one, so that it
still goes on (Google's SRE workbook, chapter 5). Besides them there are the few alerts that a person has to act on.
Each has its entry in docs/guides/troubleshooting.md.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from chatbot_resource.fields import seconds
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.profiles import resolve_scaling

from chatbot_operator.components import network
from chatbot_operator.components.queries import (
    FAILED,
    Series,
    failed_share,
    pool_share,
    rate,
    series,
    share,
    slow_share,
)
from chatbot_operator.world import Manifest

GUIDE = "docs/guides/troubleshooting.md"
VALUE = "{{ $value | humanizePercentage }}"
COMPONENT, JOB, PHASE = (f"{{{{ $labels.{name} }}}}" for name in ("component", "exported_job", "phase"))
"""What Prometheus fills in."""
QUIET = 5
"""So few failures in the long window are nobody's alarm: a bot that few people use would cry wolf at each."""
SLOW_BUDGET = Decimal("0.05")
"""What a 95th percentile leaves."""


@dataclass(frozen=True)
class Burn:
    """How fast is too fast: `factor` times the pace at which the budget lasts exactly 30 days."""

    factor: int
    long: str
    short: str
    severity: str


BURNS = (
    Burn(14, "1h", "5m", "critical"),  # 2 % of the budget in an hour
    Burn(6, "6h", "30m", "critical"),  # 5 % in six hours
    Burn(1, "3d", "6h", "warning"),  # 10 % in three days
)
WINDOWS = ("5m", "30m", "1h", "6h", "3d")


@dataclass(frozen=True)
class Objective:
    """One promise: the recorded share of what breaks it, and how much of that is allowed."""

    alert: str
    record: str
    says: str
    budget: Decimal
    counter: str
    """Selector of what must have grown by `QUIET`, or nobody is told."""


def groups(bot: ChatbotDeployment, *, monitored: bool) -> list[Manifest]:
    """`spec.groups` of a PrometheusRule, which is also what `promtool check rules` reads.

    Args:
        monitored: whether our PodMonitor scrapes the pods. Where it does not, nobody knows what is missed.
    """
    common = {"namespace": bot.metadata.namespace, "bot": bot.name}
    made = {"slo": [*_recordings(bot), *_burning(bot)], "alerts": [*(_missed(bot) if monitored else ()), *_broken(bot)]}
    return [
        {
            "name": f"chatbot-{bot.name}-{name}",
            "rules": [rule | {"labels": common | rule.get("labels", {})} for rule in rules],
        }
        for name, rules in made.items()
    ]


def record(objective: str, window: str) -> str:
    """Name of a recorded share."""
    return f"chatbot:{objective}:ratio_rate{window}"


def _recordings(bot: ChatbotDeployment) -> Iterator[Manifest]:
    of, slow = series(bot), seconds(bot.spec.slo.first_token_p95)
    for window in WINDOWS:
        yield {"record": record("gateway_errors", window), "expr": failed_share(of, window)}
        yield {"record": record("first_token_slow", window), "expr": slow_share(of, slow, window)}


def objectives(bot: ChatbotDeployment) -> tuple[Objective, Objective]:
    of, slo = series(bot), bot.spec.slo
    return (
        Objective(
            alert="ChatbotAvailabilityBudgetBurns",
            record="gateway_errors",
            says=f"requests fail, and {slo.availability} % are promised to succeed",
            budget=(100 - Decimal(slo.availability)) / 100,
            counter=of.requests(status_like=FAILED),
        ),
        Objective(
            alert="ChatbotFirstTokenBudgetBurns",
            record="first_token_slow",
            says=f"answers begin later than {slo.first_token_p95}, and 95 % are promised to begin earlier",
            budget=SLOW_BUDGET,
            counter=of("ai_first_token_seconds_count", component="chat"),
        ),
    )


def _burning(bot: ChatbotDeployment) -> Iterator[Manifest]:
    of = series(bot)
    for objective in objectives(bot):
        for burn in BURNS:
            limit = f"{(burn.factor * objective.budget).normalize():f}"
            long, short = (of(record(objective.record, window)) for window in (burn.long, burn.short))
            enough = f"sum(increase({objective.counter}[{burn.long}])) >= {QUIET}"
            yield _alert(
                objective.alert,
                f"{long} > {limit} and {short} > {limit} and on () {enough}",
                "2m",
                {"severity": burn.severity, "long": burn.long, "short": burn.short},
                f"{bot.name}: {VALUE} of {objective.says}.",
                f"In the last {burn.long} and still in the last {burn.short}: {burn.factor} times what 30 days allow.",
            )


def _missed(bot: ChatbotDeployment) -> Iterator[Manifest]:
    of = series(bot)
    for part in network.SCRAPED:
        if not _may_be_away(bot, part):
            yield _down(bot, of, part)


def _broken(bot: ChatbotDeployment) -> Iterator[Manifest]:
    of = series(bot)
    yield from (_component_fails(bot, of), _limits_unchecked(bot, of), _answers_fail(bot, of), _jobs_fail(bot, of))
    yield _pool_is_full(bot, of)
    yield _not_ready(bot)


def _may_be_away(bot: ChatbotDeployment, part: str) -> bool:
    """Whether whoever scales it may take away the last pod."""
    if part == "conversation-worker":
        return False
    scaling = resolve_scaling(bot.spec, part)  # type: ignore[arg-type]
    return scaling.mode == "External" or scaling.min == 0


def _down(bot: ChatbotDeployment, of: Series, part: str) -> Manifest:
    return _alert(
        "ChatbotComponentDown",
        f"absent({of('up', component=part)} == 1)",
        "5m",
        {"severity": "critical", "component": part},
        f"{bot.name}: no pod of {part} has answered Prometheus for five minutes.",
        f"kubectl -n {bot.metadata.namespace} get pods -l chatbot-operator.io/bot={bot.name}",
    )


def _component_fails(bot: ChatbotDeployment, of: Series) -> Manifest:
    failed, all_ = (rate(of.served(**only), "5m", "component") for only in ({"status_like": FAILED}, {}))
    return _alert(
        "ChatbotComponentFails",
        f"{failed} / {all_} > 0.05",
        "10m",
        {"severity": "warning"},
        f"{bot.name}: {COMPONENT} answers {VALUE} of requests with an error.",
        f"kubectl -n {bot.metadata.namespace} logs deploy/{bot.name}-{COMPONENT} --tail=50",
    )


def _limits_unchecked(bot: ChatbotDeployment, of: Series) -> Manifest:
    return _alert(
        "ChatbotLimitsUnchecked",
        f"{rate(of('gateway_limits_unchecked_total', component='gateway'), '5m')} > 0",
        "5m",
        {"severity": "warning"},
        f"{bot.name}: the gateway does not reach Redis, so nobody's requests are limited.",
        f"kubectl -n {bot.metadata.namespace} logs deploy/{bot.name}-gateway --tail=50",
    )


def _answers_fail(bot: ChatbotDeployment, of: Series) -> Manifest:
    failed = of("conversation_turns_total", state_like="failed|interrupted")
    ratio = share(rate(failed, "15m"), rate(of("conversation_turns_total", state="started"), "15m"))
    return _alert(
        "ChatbotAnswersFail",
        f"{ratio} > 0.1 and on () sum(increase({failed}[15m])) >= {QUIET}",
        "5m",
        {"severity": "critical"},
        f"{bot.name}: {VALUE} of answers break off.",
        "The model's provider, mostly: see its errors on the dashboard and in the log of chat.",
    )


def _jobs_fail(bot: ChatbotDeployment, of: Series) -> Manifest:
    failed = of("conversation_jobs_total", component="conversation-worker", outcome="failed")
    return _alert(
        "ChatbotJobsFail",
        f"sum by (exported_job) (increase({failed}[1h])) > 0",
        "0m",
        {"severity": "warning"},
        f"{bot.name}: a job {JOB} was given up after all its attempts.",
        f"kubectl -n {bot.metadata.namespace} logs deploy/{bot.name}-conversation-worker --tail=50",
    )


def _pool_is_full(bot: ChatbotDeployment, of: Series) -> Manifest:
    return _alert(
        "ChatbotPoolIsFull",
        f"{pool_share(of)} > 0.9",
        "10m",
        {"severity": "warning"},
        f"{bot.name}: a pod of {COMPONENT} uses {VALUE} of its connections to Postgres, so that requests wait for one.",
        f"kubectl -n {bot.metadata.namespace} get hpa {bot.name}-{COMPONENT}",
    )


def _not_ready(bot: ChatbotDeployment) -> Manifest:
    """From the operator's own metrics, so that it is told by nobody where those are not scraped."""
    mine = f'bot_namespace="{bot.metadata.namespace}",bot="{bot.name}"'
    phases = "Pending|Progressing|Degraded|Failed"
    patience = math.ceil(seconds(bot.spec.rollout.deadline) / 60) + 5
    return _alert(
        "ChatbotNotReady",
        f'max by (phase) (chatbot_operator_resource_phase{{{mine},phase=~"{phases}"}}) > 0',
        f"{patience}m",
        {"severity": "warning"},
        f"{bot.name}: {PHASE} for longer than a rollout may take.",
        f"kubectl -n {bot.metadata.namespace} describe cbd {bot.name}",
    )


def _alert(name: str, expr: str, lasting: str, labels: Mapping[str, str], summary: str, description: str) -> Manifest:
    annotations = {"summary": summary, "description": description, "runbook": f"{GUIDE}, section {name}"}
    return {"alert": name, "expr": expr, "for": lasting, "labels": dict(labels), "annotations": annotations}
