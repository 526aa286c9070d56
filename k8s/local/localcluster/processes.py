"""The cluster's processes: started in the background, remembered and stopped by pid and start time."""

import json
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import psutil
from chatbot_cli.errors import CliError
from chatbot_cli.processes import Process, identity, tail
from chatbot_cli.processes import start as start_process
from chatbot_cli.processes import stop as stop_processes

from localcluster.paths import Layout

STOP_SECONDS = 10.0
DAEMONS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
    "netpol",
    "provisioner",
)
"""Every process of a whole cluster, in the order of starting; stopped the other way round."""
SHIM = "containerd-shim-runc-v2"
MEMORY = max(1 << 30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8)
"""Bytes. Near it a Go program does nothing but collect; an API server of a thousand chatbots takes more than 1 GiB."""
COLLECTING = {"GOGC": "400", "GOMEMLIMIT": str(MEMORY)}
"""All are Go programs: rarer garbage collection saves the API server a fifth of its work, while there is memory."""


def start(layout: Layout, name: str, program: str | Path, *arguments: str) -> Process:
    """Start a daemon, unless it runs already. What it says goes to logs/NAME.log. Raises `OSError`."""
    if running := alive(layout).get(name):
        return running
    layout.logs.mkdir(parents=True, exist_ok=True)
    layout.processes.mkdir(parents=True, exist_ok=True)
    # Nothing of the shell that started the cluster, such as its proxies and keys, belongs into the daemons.
    path = f"{layout.bin}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    environment = {"PATH": path, "HOME": str(layout.run), **COLLECTING}
    # Containers must be able to read what the kubelet writes for them, so not the strict mask of our other processes.
    process = start_process([program, *arguments], layout.logs / f"{name}.log", layout.run, environment, umask=0o022)
    record = layout.processes / f"{name}.json"
    record.write_text(json.dumps({"pid": process.pid, "started": process.started}), encoding="utf-8")
    return process


def recorded(layout: Layout) -> dict[str, Process]:
    """What was started and not stopped again, dead or alive; a file that cannot be read counts as nothing."""
    found = {}
    for file in sorted(layout.processes.glob("*.json")):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            found[file.stem] = Process(int(record["pid"]), str(record["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def alive(layout: Layout) -> dict[str, Process]:
    return {name: process for name, process in recorded(layout).items() if process.alive}


def stop(layout: Layout, names: Iterable[str], seconds: float = STOP_SECONDS) -> None:
    """Ask these, one after the other, to end; kill each after so many seconds; forget them."""
    known = recorded(layout)
    for name in names:
        if name in known:
            stop_processes([known[name]], seconds)
        (layout.processes / f"{name}.json").unlink(missing_ok=True)


def strays(run: Path, names: Collection[str]) -> Iterator[Process]:
    """Processes of a cluster that need no record to be known: by name, and with a path below its run/ as argument."""
    for candidate in psutil.process_iter():
        try:
            command = candidate.cmdline()
        except (psutil.Error, OSError):
            continue
        ours = command and Path(command[0]).name in names and any(f"{run}/" in part for part in command[1:])
        if ours and (started := identity(candidate.pid)):
            yield Process(candidate.pid, started)


def still_runs(layout: Layout, name: str, process: Process) -> None:
    """Raises `CliError`, with the end of its log, when a daemon has ended."""
    if not process.alive:
        log = layout.logs / f"{name}.log"
        raise CliError(f"{name} has ended right after its start.", f"Its log: {log}", tail(log, 8))
