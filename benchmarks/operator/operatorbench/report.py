"""The figures as a table, beside what is to be reached, and as JSON."""

import os
import platform
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from operatorbench.phases import Figures

Show = Callable[[Figures], str]


def seconds(name: str) -> Show:
    return lambda found: f"{found[name]:.2f} s" if found[name] < 10 else f"{found[name]:.0f} s"


def pair(name: str) -> Show:
    return lambda found: f"{found[f'{name}_p50']:.2f} / {found[f'{name}_p99']:.2f} s"


def number(name: str) -> Show:
    return lambda found: f"{found[name]:.0f}"


def percent(name: str) -> Show:
    return lambda found: f"{found[name]:.1f} %"


def megabytes(*names: str) -> Show:
    return lambda found: f"{max(found[name] for name in names):.0f} MB"


def calls(name: str) -> Show:
    return lambda found: " ".join(f"{verb} {count}" for verb, count in found[name].items() if count)


ROWS: Sequence[tuple[str, str, Show]] = (
    ("children", "", number("children")),
    ("created to all children", "", seconds("all_children")),
    ("created to all ready", "", seconds("all_ready")),
    ("  CPU of the operator / API server and etcd", "", lambda found: _cpus(found)),
    ("  API calls", "", calls("create_calls")),
    ("edit to first child write, p50 / p99", "p99 < 2 s", pair("edit_idle")),
    ("the same, many at once", "p99 < 10 s", pair("edit_batch")),
    ("deleted child back, p50 / p99", "< 5 s", pair("deleted_back")),
    ("edited child back, p50 / p99", "< 5 s", pair("edited_back")),
    ("restart to everything looked at", "", seconds("restart")),
    ("  CPU", "", seconds("restart_cpu")),
    ("  writes", "0", number("restart_writes")),
    ("  API calls", "", calls("restart_calls")),
    ("CPU of one resync", "", seconds("resync_cpu")),
    ("  writes", "0", number("resync_writes")),
    ("  API calls of two", "", calls("resync_calls")),
    ("idle CPU, operator", "< 2 %", percent("idle_cpu_percent")),
    ("  and with a resync every 10 minutes", "< 2 %", lambda found: f"{with_resyncs(found):.1f} %"),
    ("  API server and etcd", "", percent("idle_server_cpu_percent")),
    ("  API calls in 60 s", "", calls("idle_calls")),
    ("memory when idle", "< 400 MB", megabytes("memory", "idle_memory")),
    ("  at its highest", "< 400 MB", megabytes("memory_peak", "restart_memory_peak")),
    ("processors taken by others of the host", "0", percent("taken_by_others")),
)


def needless(results: Sequence[Figures]) -> list[str]:
    """What may not be at any load: resources that nobody has changed are written."""
    return [
        f"{found['size']} unchanged resources: {found[name]:.0f} writes of a {name.partition('_')[0]}, instead of none"
        for found in results
        for name in ("restart_writes", "resync_writes")
        if found[name]
    ]


def with_resyncs(found: Figures) -> float:
    """Percent of a core. Each resource is looked at completely every four hours besides."""
    return float(found["idle_cpu_percent"] + 100 * found["resync_cpu"] / 600 + 100 * found["restart_cpu"] / 14400)


def _cpus(found: Figures) -> str:
    return f"{found['create_operator_cpu']:.0f} / {found['create_server_cpu']:.0f} s"


def taken_by_others(since: Any) -> float:
    """Percent of the processors' time in which they ran others of the same host: no figure of that time is ours alone.

    Args:
        since: what `psutil.cpu_times()` was.
    """
    now = psutil.cpu_times()
    waited = getattr(now, "steal", 0.0) - getattr(since, "steal", 0.0)
    return float(100 * waited / (sum(now) - sum(since)))


def table(results: Sequence[Figures]) -> str:
    lines = [["", "to reach", *(f"{found['size']} resources" for found in results)]]
    lines += [[name, goal, *(show(found) for found in results)] for name, goal, show in ROWS]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def document(results: Sequence[Figures]) -> dict[str, Any]:
    """For a file: the figures, and where they were taken."""
    cores, memory = os.cpu_count(), psutil.virtual_memory().total
    here = {"python": platform.python_version(), "cores": cores, "memory_gb": round(memory / 2**30)}
    return {"machine": here, "load_average": os.getloadavg(), "results": list(results)}
