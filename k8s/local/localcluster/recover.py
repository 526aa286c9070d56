"""Clearing away what a cluster left: all of it, whether it ended in order or was killed.

Everything is found by what it is, not by a record that may be missing: processes by our folder in their arguments,
containers by our cgroup, mounts by our folder, firewall rules by their chains. What belongs to others stays.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chatbot_cli.errors import CliError
from chatbot_cli.processes import Process, identity, send, wait_gone
from chatbot_cli.processes import stop as stop_processes

from localcluster import keeping, node, packages, processes
from localcluster.paths import Layout

OWNER = Path("/run/chatbot-cluster")
"""Names the run folder of the cluster on this machine: bridge, firewall rules and node ports allow one."""
CNI_RESULTS = Path("/var/lib/cni/results")
SHIM_SOCKETS = Path("/run/containerd/s")
CONTAINER_LOGS = Path("/var/log/containers")
TABLES = ("nat", "filter", "mangle")
KILL_SECONDS = 10.0
COMMENT = re.compile(rf'--comment ".*name: \\?"{re.escape(node.NETWORK)}\\?" id: ')
KUBERNETES_CHAIN = re.compile(r"KUBE-[A-Z0-9-]+")


@dataclass
class Cleared:
    """How much there was, for one line to the user."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, count: int) -> None:
        if count:
            self.counts[what] = self.counts.get(what, 0) + count

    def __str__(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in self.counts.items())


def claim(layout: Layout) -> None:
    """Say that this machine's cluster is ours. Raises `OSError`."""
    OWNER.write_text(f"{layout.run}\n", encoding="utf-8")


def clear(layout: Layout, ended: int = 0) -> Cleared:
    """End and remove everything of this cluster, if there is anything.

    Args:
        ended: how many processes of containers have been killed already.

    Raises:
        CliError: a cluster of another home lives on this machine, or a mount cannot be taken off.
        OSError: a file cannot be removed.
    """
    refuse_another(layout)
    cleared = Cleared()
    cleared.add("containers' processes", ended + kill_containers())
    cleared.add("processes", _kill_daemons(layout))
    cleared.add("mounts", _unmount(layout))
    cleared.add("bridge", _remove_bridge())
    cleared.add("firewall rules", sum(_remove_rules(program) for program in ("iptables", "ip6tables")))
    _quietly("nft", "delete", "table", "inet", "kube_netpol")
    cleared.add("cgroups", _remove_cgroups())
    _remove_files(layout)
    return cleared


def refuse_another(layout: Layout) -> None:
    """Raises `CliError` when a cluster of another home lives on this machine: much of it looks like ours."""
    owner = _owner()
    if owner and owner != layout.run and any(processes.strays(owner, processes.DAEMONS)):
        raise CliError(
            f"Another cluster runs on this machine, from {owner.parent}.",
            f"Use that, or stop it: CHATBOT_CLUSTER_HOME={owner.parent} make cluster-down",
        )


def _owner() -> Path | None:
    try:
        return Path(OWNER.read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return None


def kill_containers() -> int:
    """Kill whatever is in our cgroups until they are empty; it may fork meanwhile. How many processes that were."""
    killed: set[int] = set()
    deadline = time.monotonic() + KILL_SECONDS
    while (pids := _contained()) and time.monotonic() < deadline:
        killed |= pids
        _kill(pids)
    return len(killed)


def _contained() -> set[int]:
    pids: set[int] = set()
    for top in node.cgroups():
        # Unlike rglob, this goes on where a cgroup is removed while it is looked at.
        for folder, _, _ in os.walk(top):
            with contextlib.suppress(OSError):
                pids.update(int(pid) for pid in Path(folder, "cgroup.procs").read_text(encoding="ascii").split())
    return {pid for pid in pids if pid > 0 and identity(pid)}


def _kill_daemons(layout: Layout) -> int:
    recorded = list(processes.alive(layout).values())
    daemons = {process.pid: process for process in (*recorded, *processes.strays(layout.run, processes.DAEMONS))}
    stop_processes(daemons.values(), processes.STOP_SECONDS)
    # A shim does not end when asked: it waits for its container's exit to be collected, by nobody.
    shims = list(processes.strays(layout.run, {processes.SHIM}))
    _kill({shim.pid for shim in shims})
    return len(daemons) + len(shims)


def _kill(pids: Iterable[int]) -> None:
    victims = [Process(pid, started) for pid in pids if (started := identity(pid))]
    for victim in victims:
        send(victim, signal.SIGKILL)
    wait_gone(victims, KILL_SECONDS)


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """Mount points below a folder, in an order in which they can be taken off: the youngest first.

    Args:
        mountinfo: the content of /proc/self/mountinfo.
    """
    points = [_unescaped(line.split()[4]) for line in mountinfo.splitlines()]
    return [point for point in reversed(points) if point.startswith(f"{folder}/")]


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _unmount(layout: Layout) -> int:
    points = _mounts(layout)
    for point in points:
        _quietly("umount", "--lazy", point)
    if left := _mounts(layout):
        raise CliError("Some mounts of the last cluster cannot be taken off.", "Look at them by hand.", left[:8])
    return len(points)


def _mounts(layout: Layout) -> list[str]:
    """containerd mounts below its own folder, too, what it unpacks."""
    return [point for folder in (layout.run, layout.images) for point in mounts_below(folder, _mountinfo())]


def _mountinfo() -> str:
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")


def _remove_bridge() -> int:
    return int(Path(f"/sys/class/net/{node.BRIDGE}").exists() and _quietly("ip", "link", "delete", node.BRIDGE))


def _remove_rules(program: str) -> int:
    """Take off the rules of kube-proxy, kubelet and our network; how many rules and chains that were."""
    removed = 0
    for table in TABLES:
        saved = _output(f"{program}-save", "-t", table)
        if script := removal(table, saved):
            _quietly(f"{program}-restore", "--noflush", stdin=script)
            removed += script.count("\n-")
    return removed


def removal(table: str, saved: str) -> str:
    """What `iptables-restore --noflush` must read to remove Kubernetes' chains and our network's rules from a table.

    Args:
        saved: what `iptables-save -t TABLE` says.

    Returns:
        The script; empty when there is nothing of ours.
    """
    rules = [line for line in saved.splitlines() if line.startswith("-A ")]
    ours = {line[1:].split()[0] for line in saved.splitlines() if line.startswith(":KUBE-")}
    ours |= {_target(rule) for rule in rules if COMMENT.search(rule)} - {"ACCEPT", "RETURN", "MASQUERADE", ""}
    from_others = [
        rule for rule in rules if rule.split()[1] not in ours and (_target(rule) in ours or COMMENT.search(rule))
    ]
    if not ours and not from_others:
        return ""
    chains = sorted(chain for chain in ours if f":{chain} " in saved)
    return "\n".join(
        [
            f"*{table}",
            *(f":{chain} - [0:0]" for chain in chains),
            *(f"-D {rule.removeprefix('-A ')}" for rule in from_others),
            *(f"-X {chain}" for chain in chains),
            "COMMIT",
            "",
        ]
    )


def _target(rule: str) -> str:
    found = re.search(r" -[jg] (\S+)", rule)
    return found[1] if found else ""


def _remove_cgroups() -> int:
    removed = 0
    for top in node.cgroups():
        folders = [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
                removed += 1
    return removed


def _remove_files(layout: Layout) -> None:
    """The logs stay until the next time, in the home's last-logs/."""
    state = layout.run / "containerd" / "state"
    for address in (state / "io.containerd.runtime.v2.task").glob("*/*/address"):
        with contextlib.suppress(OSError):
            socket = Path(address.read_text(encoding="utf-8").strip().removeprefix("unix://"))
            if socket.parent == SHIM_SOCKETS:
                socket.unlink()
    for sandbox in (layout.images / keeping.CRI / "sandboxes").glob("*"):
        for result in CNI_RESULTS.glob(f"*-{sandbox.name}-*"):
            result.unlink(missing_ok=True)
    for link in CONTAINER_LOGS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(layout.logs):
            link.unlink(missing_ok=True)
    if layout.logs.exists():
        shutil.rmtree(layout.last_logs, ignore_errors=True)
        layout.logs.replace(layout.last_logs)
    if layout.run.exists():
        shutil.rmtree(layout.run)
    keeping.clear(layout)
    if _owner() == layout.run:
        OWNER.unlink()


def _output(*command: str) -> str:
    return _call(command).stdout


def _quietly(*command: str, stdin: str | None = None) -> bool:
    return _call(command, stdin).returncode == 0


def _call(command: Sequence[str], stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    """A program that is not there has left nothing either."""
    program = packages.find(command[0])
    if program is None:
        return subprocess.CompletedProcess(command, 127, "", "")
    return subprocess.run(  # noqa: S603 - no shell
        [program, *command[1:]], input=stdin, capture_output=True, text=True, check=False
    )
