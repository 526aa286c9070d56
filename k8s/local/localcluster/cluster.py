"""`up`, `down` and `status` of the whole cluster.

Level-based: `up` looks at what runs and starts what does not, so it may be broken off and repeated anywhere. Where
nothing runs, what an earlier life left is cleared first.
"""

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import psutil
from chatbot_cli import screen
from chatbot_cli.errors import CliError
from chatbot_cli.ports import holder, is_free

from localcluster import (
    addons,
    api,
    builds,
    control_plane,
    keeping,
    node,
    packages,
    paths,
    processes,
    progress,
    recover,
    unpacked,
)
from localcluster.paths import Layout

GIB = 1024**3
NEEDED_GIB = 3
"""Of disk for the state and the images of a cluster."""
DOWN_SECONDS = 2.0


@dataclass(frozen=True)
class Outcome:
    layout: Layout
    seconds: float
    """From the first process to a usable cluster; 0 when it ran already."""


def build(names: Sequence[str]) -> None:
    """Build these, or everything usual, with what tests take from Debian. Raises `CliError`, `OSError`."""
    folder = paths.home() / "bin"
    asked = names or (*builds.USUAL, unpacked.PACKAGE)
    with _locked("build"):
        progress.build_missing(builds.named(name for name in asked if name != unpacked.PACKAGE), folder)
        if unpacked.PACKAGE in asked and unpacked.missing(folder):
            with screen.step("Unpack", f"fetching Debian's package {unpacked.PACKAGE}") as step:
                unpacked.fetch(folder)
                step.done(f"{', '.join(unpacked.PROGRAMS)} in {folder}")
    screen.say("Built", f"{', '.join(asked)} in {folder}")


def up() -> Outcome:
    """Raises `CliError`, `OSError`."""
    _check_machine("start")
    layout = paths.this_machine()
    with _locked("up"):
        seconds = 0.0 if _runs(layout) else _start(layout)
        _add_the_rest(layout)
    return Outcome(layout, seconds)


def down(kept: Collection[str]) -> recover.Cleared:
    """Stop everything and remove its state; what was built stays.

    Args:
        kept: digests of images, as containerd knows them, that the next cluster need not unpack again.

    Raises:
        CliError: as `recover.clear`.
        OSError: a file cannot be removed.
    """
    _check_machine("stop")
    layout = paths.this_machine()
    with _locked("down"):
        # Nothing of its state is kept, so nothing needs long: the API server would wait a minute for its watchers.
        others = [name for name in reversed(processes.DAEMONS) if name != "containerd"]
        processes.stop(layout, others, DOWN_SECONDS)
        recover.refuse_another(layout)
        ended = recover.kill_containers()
        if "containerd" in processes.alive(layout):
            keeping.end(layout, kept)
        processes.stop(layout, ["containerd"], DOWN_SECONDS)
        return recover.clear(layout, ended)


def _start(layout: Layout) -> float:
    """The seconds from the first process to a usable cluster."""
    _install_packages()
    running = processes.alive(layout)
    if not running:
        with screen.step("Leftovers", "looking for what a dead cluster left") as step:
            cleared = str(recover.clear(layout))
            step.done(f"cleared: {cleared}") if cleared else step.unchanged("none")
    recover.claim(layout)
    _check_network(layout, running)
    progress.build_missing(builds.named(["etcd", "kubernetes"]), layout.bin)
    _check_disk()
    began = time.monotonic()
    with screen.step("Containers", "starting containerd, loading its images") as step:
        layout.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        node.start_runtime(layout)
        step.done("containerd answers")
    with screen.step("Control plane", "starting etcd, API server, controller-manager, scheduler") as step:
        control_plane.start(layout, scheduler=True)
        addons.apply_base(layout)
        step.done(f"ready at {layout.server}")
    with screen.step("Node", "starting kubelet, kube-proxy, netpol, provisioner") as step:
        node.start(layout)
        step.done(f"{paths.NODE} ({layout.node_ip}) is Ready")
    with screen.step("Names", "waiting for CoreDNS") as step:
        addons.await_names(layout)
        step.done("pods find each other by name; the cluster is usable")
    return time.monotonic() - began


def _add_the_rest(layout: Layout) -> None:
    """What a cluster can begin without."""
    progress.build_missing(builds.named(["metrics-server"]), layout.bin)
    if not addons.exists(layout, "metrics-server"):
        with screen.step("Metrics", "adding metrics-server") as step:
            addons.add_metrics(layout)
            step.done("metrics-server added; `kubectl top` answers in about 20 s")
    progress.build_missing(builds.named(["weaviate"]), layout.bin)


def _runs(layout: Layout) -> bool:
    """True when every process lives, the API server answers and the node is Ready."""
    return (
        not set(processes.DAEMONS) - processes.alive(layout).keys()
        and api.answers(layout, "/readyz")
        and node.is_ready(layout)
        and addons.available(layout, "coredns")
    )


def _install_packages() -> None:
    if missing := packages.missing():
        with screen.step("Packages", f"installing {', '.join(missing)}") as step:
            packages.install(missing)
            step.done(f"installed: {', '.join(missing)}")


def _check_machine(verb: str) -> None:
    if platform.system() != "Linux":
        raise CliError(
            f"This cluster runs on Linux only, and this is {platform.system()}.",
            "Use kind or any other cluster: k8s/kind, or set KUBECONFIG.",
        )
    if os.geteuid() != 0:
        raise CliError(
            f"Only root can {verb} a node: it makes cgroups, mounts and networks.", "Use sudo -E, or a shell of root."
        )


def _check_network(layout: Layout, running: Collection[str]) -> None:
    """A foreign process on a port is named, never touched."""
    if layout.node_ip == paths.LOOPBACK:
        raise CliError("This machine has no IPv4 address but loopback.", "Connect it to a network, or add an address.")
    wanted = {layout.api_port: "kube-apiserver", layout.etcd_port: "etcd", **node.PORTS}
    for port, daemon in wanted.items():
        if daemon not in running and not is_free(port):
            other = f"{paths.API_PORT_VARIABLE}=7443" if port == layout.api_port else None
            raise CliError(
                f"Port {port} of {daemon} is in use by {holder(port) or 'a process that cannot be seen'}.",
                f"Stop that{f', or choose another port: {other} make cluster-up' if other else ''}.",
            )


def _check_disk() -> None:
    free = psutil.disk_usage(str(paths.home())).free
    if free < NEEDED_GIB * GIB:
        raise CliError(
            f"Too little disk: {free / GIB:.1f} GiB are free at {paths.home()}, a cluster needs {NEEDED_GIB}.",
            "Free some space, or set CHATBOT_CLUSTER_HOME to a folder on another disk.",
        )


@contextlib.contextmanager
def _locked(purpose: str) -> Iterator[None]:
    """One command at a time; another waits for its end."""
    home = paths.home()
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            screen.say("Waiting", f"for {file.read() or 'another command'} to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"'{purpose}' (process {os.getpid()})")
        file.flush()
        yield
        file.truncate(0)
