"""What services count, as docs/reference/metrics.md tells it."""

import re
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric

from tests.docs.pages import DOCS

_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| ([^|]*) \| [^|]+ \|$", re.MULTILINE)


@dataclass(frozen=True)
class Told:
    """A row of the page."""

    name: str
    """As it is in the format: a counter's ends in `_total`."""
    kind: str
    labels: frozenset[str]
    components: frozenset[str]


def told() -> list[Told]:
    rows = _ROW.findall((DOCS / "reference" / "metrics.md").read_text(encoding="utf-8"))
    return [
        Told(name, kind, frozenset(re.findall(r"`(\w+)`", labels)), frozenset(components.split(", ")))
        for name, kind, labels, components in rows
    ]


def named(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name
