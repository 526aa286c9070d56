"""What alerts, dashboards and autoscalers ask for is what services count, and the reference tells all of it."""

import importlib
import json
import re
from collections.abc import Callable, Iterator

import pytest
from chatbot_operator.components import alerts, dashboard, load
from chatbot_operator.metrics import Metrics
from chatbot_resource.model import ChatbotDeployment
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from tests.docs.pages import ROOT
from tests.operator.simulated import make_bot
from tests.operator.specs import BY_HAND
from tests.support.dashboards import queries
from tests.support.metrics import named, told

for service in ("auth.main", "chat.main", "conversation.main", "conversation.worker", "gateway.main"):
    importlib.import_module(f"chatbot_{service}")  # which declares what it counts

PARTS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
OWN = {"_bucket": {"le"}, "_info": {"version", "python"}}
"""Labels that are declared by no name."""
ATTACHED = {"namespace", "bot", "component", "pod", "job"}
"""Labels that Prometheus adds."""
TAKEN = ATTACHED - {"bot"}
"""A metric's own label of such a name becomes `exported_NAME`; the operator's pods are no bot's."""
ELSEWHERE = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
WORDS = {"and", "or", "unless", "bool", "offset"}

_GROUPING = re.compile(r"\b(?:by|without|on)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"\b([a-zA-Z_:][\w:]*)\b(?!\s*\()(\{[^}]*\})?")


def asked(expr: str) -> tuple[dict[str, set[str]], set[str]]:
    """Series of an expression with the labels that choose them, and the labels by which it groups."""
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)
    grouped = {name.strip() for names in _GROUPING.findall(plain) for name in names.split(",")} - {""}
    plain = re.sub(r"\[[^\]]*\]|\boffset \w+", "", _GROUPING.sub("", plain))
    found: dict[str, set[str]] = {}
    for name, matchers in _SELECTOR.findall(plain):
        if name not in WORDS:
            found.setdefault(name, set()).update(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers))
    return found, grouped


def expressions() -> Iterator[str]:
    """All that is asked of one bot's pods."""
    bot: ChatbotDeployment = make_bot(BY_HAND["dev"])
    yield from (rule["expr"] for group in alerts.groups(bot, monitored=True) for rule in group["rules"])
    yield from (expr for _, expr in queries(json.loads(dashboard.text(bot))))
    yield from (load.streams(bot), load.asked(bot), load.STREAMS)


def operators() -> Iterator[str]:
    """What is asked of the operator itself."""
    rules = (ROOT / "charts/chatbot-operator/templates/prometheusrule.yaml").read_text(encoding="utf-8")
    yield from (re.sub(r"\{\{.*?\}\}", 'job=""', expr) for expr in re.findall(r"expr: (.*)", rules))
    overview = json.loads((ROOT / "charts/chatbot-operator/dashboard.json").read_text(encoding="utf-8"))
    yield from (expr for _, expr in queries(overview))


def declared(registry: CollectorRegistry = REGISTRY) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Name, kind and labels of each, without Python's and the process's own."""
    for collector in registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            [family] = collector.describe()
            yield named(family), family.type, frozenset(collector._labelnames)


def series() -> dict[str, set[str]]:
    """Every name that a scrape of a service or of the operator has, and its labels."""
    made = {name: set(ATTACHED) for name in ELSEWHERE}
    for metric, kind, own in (*declared(), *declared(Metrics("1").registry)):
        for part in PARTS[kind]:
            labels = {f"exported_{name}" if name in TAKEN else name for name in own}
            made[metric.removesuffix("_total").removesuffix("_info") + part] = labels | ATTACHED | OWN.get(part, set())
    return made


@pytest.mark.parametrize("ask", [expressions, operators])
def test_what_is_asked_for_is_there(ask: Callable[[], Iterator[str]]) -> None:
    known, seen = series(), set()
    for expr in ask():
        found, grouped = asked(expr)
        for name, labels in found.items():
            if not name.startswith("chatbot:"):  # recorded by a rule of the same group
                assert name in known, expr
                assert labels <= known[name], expr
                seen.add(name)
        assert not grouped or any(grouped <= known.get(name, grouped) for name in found), expr
    assert len(seen) > 5


def test_recorded_names_are_those_that_are_recorded() -> None:
    rules = [rule for group in alerts.groups(make_bot(BY_HAND["dev"]), monitored=True) for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    asked_for = {name for rule in rules for name in asked(rule["expr"])[0] if name.startswith("chatbot:")}
    assert asked_for <= recorded


@pytest.mark.parametrize("operator", [False, True])
def test_the_reference_tells_all_of_them(operator: bool) -> None:
    registry = Metrics("1").registry if operator else REGISTRY
    assert {(item.name, item.kind, item.labels) for item in told(operator=operator)} == set(declared(registry))
