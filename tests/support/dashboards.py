"""What is in a dashboard of Grafana's, and whether Grafana can show it."""

from collections.abc import Iterator
from typing import Any

Dashboard = dict[str, Any]

KINDS = ("row", "stat", "timeseries")


def queries(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    """Title of the row and the panel, and an expression of it."""
    row = ""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        for target in panel.get("targets", []):
            yield f"{row}: {panel['title']}", target["expr"]


def asked(expr: str, window: str = "30s", **variables: str) -> str:
    """An expression as Grafana sends it."""
    given = {"__rate_interval": window, "__range": window, **variables}
    for name, value in given.items():
        expr = expr.replace(f"${name}", value)
    assert "$" not in expr, expr
    return expr


def check(dashboard: Dashboard) -> None:
    """That it has what Grafana needs, and no panel lies on another."""
    [source, *_] = dashboard["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert len(dashboard["uid"]) <= 40
    panels = dashboard["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    assert {panel["type"] for panel in panels} <= set(KINDS)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", []):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert target["expr"]
