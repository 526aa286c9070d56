"""The node: containerd, kubelet, kube-proxy, and the two daemons of ours that enforce NetworkPolicy and make volumes.

Containers get an own cgroup root, bridge and network name, and all files lie in run/: what is ours can be told from
what belongs to another containerd or kubelet on this machine.
"""

import contextlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from string import Template

from chatbot_cli.errors import CliError

from localcluster import api, images, keeping, packages, processes
from localcluster.paths import NODE, SOURCE, Layout

CGROUP = "chatbot-cluster"
NETWORK = "chatbot-cluster"
BRIDGE = "chatbot0"
POD_RANGE = "10.244.0.0/24"
DNS_IP = "10.96.0.10"
PORTS = {10249: "kube-proxy", 10250: "kubelet", 10256: "kube-proxy"}
"""Where the node listens, besides the API server and etcd."""
WAIT_SECONDS = 90.0
CGROUPS = Path("/sys/fs/cgroup")
SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
}
LEAST = {"fs/inotify/max_user_instances": 8192, "fs/inotify/max_user_watches": 524288}


def start_runtime(layout: Layout) -> None:
    """Prepare the host and start containerd, with the image every pod needs. Raises `CliError`, `OSError`."""
    _prepare_host()
    write_configuration(layout)
    keeping.begin(layout)
    config = str(layout.conf / "containerd.toml")
    containerd = processes.start(layout, "containerd", packages.find("containerd") or "containerd", "--config", config)

    def answers() -> bool:
        processes.still_runs(layout, "containerd", containerd)
        with contextlib.suppress(CliError):
            images.digests(layout)
            return True
        return False

    wait("containerd", answers)
    images.ensure(layout, [images.PAUSE, images.COREDNS])


def start(layout: Layout) -> None:
    """Start the rest and wait until the node is Ready. Raises `CliError`, `OSError`."""
    kubelet = processes.start(
        layout,
        "kubelet",
        layout.bin / "kubelet",
        f"--config={layout.conf}/kubelet.yaml",
        f"--kubeconfig={layout.kubeconfig_of('kubelet')}",
        f"--root-dir={layout.run}/kubelet",
        f"--hostname-override={NODE}",
        f"--node-ip={layout.node_ip}",
    )
    _start_ours(layout)

    def ready() -> bool:
        processes.still_runs(layout, "kubelet", kubelet)
        return is_ready(layout)

    wait("The node", ready)


def is_ready(layout: Layout) -> bool:
    node = api.read(layout, f"/api/v1/nodes/{NODE}") or {}
    conditions = node.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def wait(what: str, ready: Callable[[], bool]) -> None:
    """Raises `CliError` when it takes longer than `WAIT_SECONDS`."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise CliError(f"{what} was not ready in {WAIT_SECONDS:.0f} s.", "The logs say why: make cluster-status")
        time.sleep(0.1)


def _start_ours(layout: Layout) -> None:
    config = f"--config={layout.conf}/kube-proxy.yaml"
    processes.start(layout, "kube-proxy", layout.bin / "kube-proxy", config, f"--hostname-override={NODE}")
    for name, *arguments in (("netpol",), ("provisioner", f"--folder={layout.volumes}")):
        kubeconfig = f"--kubeconfig={layout.kubeconfig_of(name)}"
        processes.start(layout, name, layout.bin / name, kubeconfig, f"--node={NODE}", *arguments)


def _prepare_host() -> None:
    system = Path("/proc/sys")
    for name, value in SYSCTLS.items():
        if (system / name).exists():
            (system / name).write_text(value, encoding="ascii")
    for name, least in LEAST.items():
        if int((system / name).read_text(encoding="ascii")) < least:
            (system / name).write_text(str(least), encoding="ascii")
    # Volumes are mounted by the kubelet and must be seen by the containers.
    subprocess.run([packages.find("mount") or "mount", "--make-rshared", "/"], check=True)  # noqa: S603
    for folder in cgroups():
        _hand_down(folder.parent)
        folder.mkdir(exist_ok=True)


def cgroups() -> list[Path]:
    """Our cgroup in each hierarchy of version 1, or in the one of version 2; there or not."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS / CGROUP]
    return [hierarchy / CGROUP for hierarchy in sorted(CGROUPS.iterdir()) if (hierarchy / "cgroup.procs").exists()]


def _hand_down(parent: Path) -> None:
    """In version 2 a cgroup has only the controllers its parent hands down."""
    with contextlib.suppress(OSError):
        for controller in (parent / "cgroup.controllers").read_text(encoding="ascii").split():
            with contextlib.suppress(OSError):
                (parent / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")


def write_configuration(layout: Layout) -> None:
    """What the daemons read, from conf/ of the checkout. Raises `OSError`."""
    values = {
        "RUN": layout.run,
        "IMAGES": layout.images,
        "PKI": layout.pki,
        "CONF": layout.conf,
        "LOGS": layout.logs,
        "SOCKET": layout.containerd_socket,
        "PAUSE_IMAGE": images.PAUSE.reference,
        "CNI_PLUGINS": packages.cni_plugins(),
        "CGROUP": CGROUP,
        "NETWORK": NETWORK,
        "BRIDGE": BRIDGE,
        "POD_RANGE": POD_RANGE,
        "DNS_IP": DNS_IP,
    }
    for folder in (layout.conf / "cni", layout.volumes):
        folder.mkdir(parents=True, exist_ok=True)
    for file in (SOURCE / "conf").iterdir():
        text = Template(file.read_text(encoding="utf-8")).substitute(values)
        target = layout.conf / "cni" / file.name if file.suffix == ".conflist" else layout.conf / file.name
        target.write_text(text, encoding="utf-8")
    (layout.conf / "resolv.conf").write_text("", encoding="utf-8")
