"""What services and the operator count, as docs/reference/metrics.md tells it."""

import re
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric

from tests.docs.pages import DOCS

_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| ([^|]*) \| [^|]+ \|$", re.MULTILINE)


@dataclass(frozen=True)
class Told:
    """A row of the page."""

    name: str
    """As it is in the format: a counter's ends in `_total`, what only tells something in `_info`."""
    kind: str
    labels: frozenset[str]
    components: frozenset[str]


OPERATOR = frozenset({"operator"})


def told(*, operator: bool = False) -> list[Told]:
    """Of the services, or of the operator."""
    found = _ROW.findall((DOCS / "reference" / "metrics.md").read_text(encoding="utf-8"))
    rows = (
        Told(name, kind, frozenset(re.findall(r"`(\w+)`", labels)), frozenset(components.split(", ")))
        for name, kind, labels, components in found
    )
    return [row for row in rows if (row.components == OPERATOR) is operator]


def named(family: Metric) -> str:
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
