"""Where everything lies. All of it is in one folder outside the checkout, the cluster's home:

bin/        what was built; survives `down`
containerd/ its images; those of services survive `down`
run/        one life of the cluster: certificates, kubeconfigs, logs, process ids, etcd, containers, volumes
last-logs/  what the last life logged
"""

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil
from chatbot_cli.errors import CliError

SOURCE = Path(__file__).resolve().parent.parent
"""The folder k8s/local of the checkout: modules/, conf/, manifests/."""
NODE = "chatbot"
"""The node's name. One machine carries one node."""
API_PORT = 6443
API_PORT_FILE = "api-port"
API_PORT_VARIABLE = "CHATBOT_CLUSTER_API_PORT"
ETCD_PORT = 2379
LOOPBACK = "127.0.0.1"
MAX_SOCKET_PATH = 100
"""Bytes; the kernel takes 107, and containerd appends to it."""


@dataclass(frozen=True)
class Layout:
    """One cluster: where it keeps its state, where its programs are, and where it listens."""

    run: Path
    bin: Path
    api_port: int
    etcd_port: int
    node_ip: str

    @property
    def pki(self) -> Path:
        return self.run / "pki"

    @property
    def logs(self) -> Path:
        return self.run / "logs"

    @property
    def last_logs(self) -> Path:
        """Those of the last life."""
        return self.run.parent / "last-logs"

    @property
    def processes(self) -> Path:
        """One small file per started process."""
        return self.run / "processes"

    @property
    def conf(self) -> Path:
        return self.run / "conf"

    @property
    def volumes(self) -> Path:
        return self.run / "volumes"

    @property
    def images(self) -> Path:
        """What containerd keeps: images, unpacked, and while a cluster lives its containers."""
        return self.run.parent / "containerd"

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.kubeconfig_of("admin")

    def kubeconfig_of(self, name: str) -> Path:
        return self.run / f"{name}.kubeconfig"

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.api_port}"


def home() -> Path:
    """The cluster's home: $CHATBOT_CLUSTER_HOME, else chatbot-operator/ in the user's cache folder."""
    if named := os.environ.get("CHATBOT_CLUSTER_HOME"):
        return Path(named).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "chatbot-operator"


def this_machine() -> Layout:
    """The one cluster of this machine. Raises `CliError` when its home or its address will not do."""
    run = home() / "run"
    layout = Layout(run, home() / "bin", _api_port(run), ETCD_PORT, node_ip())
    if len(os.fsencode(layout.containerd_socket)) > MAX_SOCKET_PATH:
        raise CliError(
            f"The path of the cluster's home is too long for a socket: {home()}",
            "Set CHATBOT_CLUSTER_HOME to a shorter one.",
        )
    if any(character in str(run) for character in "\\\"' :\n$"):
        raise CliError(
            f"The path of the cluster's home has characters its programs do not take: {home()}",
            "Set CHATBOT_CLUSTER_HOME to one of letters, digits, dots, dashes and slashes.",
        )
    return layout


def _api_port(run: Path) -> int:
    """The one asked for, else that of the cluster that runs, else the usual one."""
    named = os.environ.get(API_PORT_VARIABLE)
    if not named:
        with contextlib.suppress(OSError):
            named = (run / API_PORT_FILE).read_text(encoding="ascii").strip()
    named = named or str(API_PORT)
    if not named.isdigit() or not 0 < int(named) < 2**16:
        raise CliError(f"{API_PORT_VARIABLE} is no port: {named}", "Name one from 1 to 65535.")
    return int(named)


def node_ip() -> str:
    """The address pods reach this machine by: where it would send from, else any but loopback, else loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: for UDP this only asks the kernel for the route. The address is one for documentation.
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            pass
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == socket.AF_INET and not address.address.startswith("127."):
                return address.address
    return LOOPBACK
