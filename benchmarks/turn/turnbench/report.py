"""The figures as a table of ratios, beside what is to be reached, and as JSON."""

import os
import platform
from collections.abc import Callable
from typing import Any

import psutil

from turnbench.contenders import BOUND, LITELLM, OURS, PORTKEY
from turnbench.scenarios import Figures, against, turns_against_litellm

RATES = (("whole", "stateless answers a second"), ("streamed", "streams of 34 chunks a second"))


SHOWN = 0.02
"""Of ms of CPU; less is what a process does by itself meanwhile."""


def taken_by_others(since: Any) -> float:
    """Percent of the processors' time in which they ran others of the same host: no figure of that time is ours alone.

    Args:
        since: what `psutil.cpu_times()` was.
    """
    now = psutil.cpu_times()
    waited = getattr(now, "steal", 0.0) - getattr(since, "steal", 0.0)
    return float(100 * waited / (sum(now) - sum(since)))


def table(figures: Figures) -> str:
    lines = [("", "to reach", "measured"), *_lines(figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    lines.insert(1, ("-" * widths[0], "-" * widths[1], "-" * widths[2]))
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _lines(figures: Figures) -> list[tuple[str, str, str]]:
    lines: list[tuple[str, str, str]] = []
    for key, name in RATES:
        if found := figures.get(key):
            middle = found["median"]
            said = ", ".join(f"{who} {middle[who]:.0f}" for who in (BOUND, OURS, PORTKEY, LITELLM) if who in middle)
            goal = ">= 0.25" if key == "whole" else ">= 0.4"
            lines += [
                (name, "", said),
                ("  ours / bound", goal, _ratio(against(found, BOUND))),
                ("  ours / LiteLLM", ">= 20", _ratio(against(found, LITELLM))),
                ("  ours / Portkey", "", _ratio(against(found, PORTKEY))),
                *(("", "", f"{who} cannot: {said[:60]}") for who, said in found["failed"].items()),
            ]
    if found := figures.get("cpu"):
        lines += [("ms of CPU of one answer", "", ""), *_cpu(found)]
    for key, row in ROWS.items():
        if found := figures.get(key):
            lines.append(row(found))
    if figures.get("turns") and figures.get("whole"):
        lines.append(("  stateful turns / LiteLLM's stateless", ">= 2", _ratio(turns_against_litellm(figures))))
    if "taken_by_others" in figures:
        lines.append(("processors taken by others of the host", "0", f"{figures['taken_by_others']:.1f} %"))
    return lines


def _cpu(found: Figures) -> list[tuple[str, str, str]]:
    return [
        (f"  {name}", "", ", ".join(f"{who} {spent:.2f}" for who, spent in seen.items() if spent >= SHOWN))
        for name, seen in found.items()
    ]


def _added(found: Figures) -> tuple[str, str, str]:
    said = ", ".join(f"{who} {found['added'][who]:.1f} ms" for who in (OURS, BOUND) if who in found["added"])
    return f"added to the median at {found['rate']:.0f}/s", "<= 3 ms", said


def _memory(found: Figures) -> tuple[str, str, str]:
    said = ", ".join(f"{name} {mb:.0f} → {found['after'][name]:.0f}" for name, mb in sorted(found["before"].items()))
    return f"MB after {found['turns'] // 10} and after {found['turns']} turns", "flat", said


ROWS: dict[str, Callable[[Figures], tuple[str, str, str]]] = {
    "added": _added,
    "turns": lambda found: ("complete turns a second", "", f"{found['median']:.0f}"),
    "streams": lambda found: (
        "streams at once, none lost or out of order",
        "1000",
        ", ".join(f"{seen['open_at_once']} {name} ({seen['whole']} whole)" for name, seen in found.items()),
    ),
    "memory": _memory,
}


def _ratio(found: float | None) -> str:
    return "not measured" if found is None else f"{found:.2f}"


def document(figures: Figures) -> dict[str, Any]:
    """For a file: the figures, and where they were taken."""
    here = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
    }
    return {"machine": here, "load_average": os.getloadavg(), "figures": figures}
