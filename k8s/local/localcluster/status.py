"""`status`: each process, then what the API server says of the node and the pods."""

import time
from pathlib import Path

import psutil
from chatbot_cli import screen
from rich.table import Table

from localcluster import api, node, processes
from localcluster.paths import Layout

MIB = 1024**2


def show(layout: Layout) -> bool:
    """Print the table; True when everything runs."""
    living = processes.alive(layout)
    table = Table(box=None, pad_edge=False)
    for column in ("process", "state", "pid", "memory", "uptime"):
        table.add_column(column)
    for name in processes.DAEMONS:
        if process := living.get(name):
            table.add_row(name, "[green]running[/]", str(process.pid), *_figures(process.pid))
        else:
            table.add_row(name, "[red]not running[/]")
    screen.out.print(table)
    ready = bool(living) and node.is_ready(layout)
    pods = (api.read(layout, "/api/v1/pods") or {}).get("items", []) if ready else []
    running = sum(pod.get("status", {}).get("phase") == "Running" for pod in pods)
    screen.say("Node", f"Ready, {running} of {len(pods)} pods running" if ready else "not Ready")
    screen.say("Logs", str(layout.logs if layout.logs.exists() else layout.last_logs))
    return ready and len(living) == len(processes.DAEMONS)


def _figures(pid: int) -> tuple[str, str]:
    try:
        process = psutil.Process(pid)
        minutes, seconds = divmod(int(time.time() - process.create_time()), 60)
        return f"{process.memory_info().rss // MIB} MiB", f"{minutes}:{seconds:02d} min"
    except psutil.Error:
        return "", ""


def environment(layout: Layout) -> str:
    """For a shell's `eval`."""
    return "\n".join([f"export KUBECONFIG={layout.kubeconfig}", f'export PATH={Path(layout.bin)}:"$PATH"'])
