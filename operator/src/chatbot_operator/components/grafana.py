"""Grafana's dashboards as JSON: panels in rows that fill the width, all of one data source that people choose."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chatbot_operator.components.metadata import digest
from chatbot_operator.world import Manifest

WIDTH = 24
"""Columns of Grafana's grid."""
HEIGHTS = {"stat": 4, "timeseries": 8}
SCHEMA = 39
"""Of Grafana 10 and 11; later ones bring it up to date by themselves."""
RATE = "$__rate_interval"
RANGE = "$__range"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

Kind = Literal["stat", "timeseries"]
Query = tuple[str, str]
"""PromQL, and the legend, in which `{{label}}` stands for a label."""


@dataclass(frozen=True)
class Panel:
    title: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: Kind = "timeseries"
    about: str = ""
    limit: float | None = None
    """From here on it is red; a line in a graph."""
    mappings: Sequence[Manifest] = ()
    stacked: bool = False


@dataclass(frozen=True)
class Row:
    """Panels side by side, or below each other where they are too many."""

    title: str
    panels: Sequence[Panel]
    across: int = 3


@dataclass
class _Grid:
    """Where the next panel goes."""

    y: int = 0
    panels: list[Manifest] = field(default_factory=list)

    def add(self, made: Manifest, x: int, width: int, height: int) -> None:
        place = {"x": x, "y": self.y, "w": width, "h": height}
        self.panels.append({"id": len(self.panels) + 1, **made, "gridPos": place})


def dashboard(key: str, title: str, about: str, rows: Iterable[Row], variables: Iterable[Manifest] = ()) -> Manifest:
    """
    Args:
        key: what no other dashboard has; its address is made from it, and so stays.
        variables: besides that for the data source.
    """
    return {
        "uid": digest(key)[:16],
        "title": title,
        "description": about,
        "tags": ["chatbot"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource(), *variables]},
        "panels": _laid_out(rows),
    }


def variable(name: str, query: str, label: str) -> Manifest:
    """One that people choose from what Prometheus has."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
    }


def _datasource() -> Manifest:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}


def _laid_out(rows: Iterable[Row]) -> list[Manifest]:
    grid = _Grid()
    for row in rows:
        grid.add({"type": "row", "title": row.title, "collapsed": False, "panels": []}, 0, WIDTH, 1)
        grid.y += 1
        for start in range(0, len(row.panels), row.across):
            line = row.panels[start : start + row.across]
            height = max(HEIGHTS[panel.kind] for panel in line)
            for number, panel in enumerate(line):
                grid.add(_panel(panel), number * WIDTH // row.across, WIDTH // row.across, height)
            grid.y += height
    return grid.panels


def _panel(panel: Panel) -> Manifest:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "targets": [_target(number, *query) for number, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }


def _target(number: int, expr: str, legend: str) -> Manifest:
    return {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": expr, "legendFormat": legend}


def _defaults(panel: Panel) -> Manifest:
    steps: list[Manifest] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    made: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}, "min": 0}
    if panel.mappings:
        made["mappings"] = list(panel.mappings)
    if panel.kind == "timeseries":
        made["custom"] = {
            "fillOpacity": 20 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "off" if panel.limit is None else "line"},
        }
    return made


def _options(panel: Panel) -> Manifest:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
