"""etcd, API server, controller-manager and scheduler: enough for everything that needs no pod.

Usable alone: `start(Layout(run, bin, api_port, etcd_port, node_ip), scheduler=False)` gives an API server in about four
seconds; `stop(layout)` ends it. Needs no root. Two of them may run at once, with different folders and ports: nothing
listens but etcd and the API server, on the ports given.
"""

import time
from collections.abc import Callable, Sequence

from chatbot_cli.errors import CliError
from chatbot_cli.processes import Process

from localcluster import api, certificates, processes
from localcluster.paths import API_PORT_FILE
from localcluster.paths import Layout as Layout

SERVICE_RANGE = "10.96.0.0/16"
READY_SECONDS = 60.0
# The defaults of 20 to 50 requests a second double the time of a start.
FAST = ("--kube-api-qps=200", "--kube-api-burst=400")
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def start(layout: Layout, *, scheduler: bool, api_flags: Sequence[str] = ()) -> None:
    """Start the control plane and wait until the default ServiceAccount exists, so that pods may be created.

    Args:
        api_flags: more flags of the API server, such as those of an audit log.

    Raises:
        CliError: something ended, or was not ready in `READY_SECONDS`; with the end of its log.
        OSError: a folder cannot be written or a program is not there.
    """
    layout.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificates.ensure(layout)
    (layout.run / API_PORT_FILE).write_text(f"{layout.api_port}\n", encoding="ascii")
    started = {"etcd": _etcd(layout), "kube-apiserver": _apiserver(layout, api_flags)}
    _wait(layout, started, "kube-apiserver", lambda: api.answers(layout, "/readyz"))
    started["kube-controller-manager"] = _controller_manager(layout)
    if scheduler:
        started["kube-scheduler"] = _scheduler(layout)
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    _wait(layout, started, "kube-controller-manager", lambda: api.answers(layout, account))


def stop(layout: Layout) -> None:
    """End it, the last started first; its state stays."""
    processes.stop(layout, reversed(NAMES))


def _etcd(layout: Layout) -> Process:
    client = f"https://127.0.0.1:{layout.etcd_port}"
    # Alone, it has no peers to talk to: any free port will do.
    peer = "http://127.0.0.1:0"
    data = layout.run / "etcd"
    data.mkdir(mode=0o700, exist_ok=True)
    return processes.start(
        layout,
        "etcd",
        layout.bin / "etcd",
        f"--data-dir={data}",
        # A crash of the machine may cost the cluster, which is made anew in seconds; each write is much faster.
        "--unsafe-no-fsync",
        "--log-level=warn",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--client-cert-auth",
        f"--trusted-ca-file={layout.pki}/etcd-ca.crt",
        *(f"--{flag}={layout.pki}/etcd-server.{end}" for flag, end in (("cert-file", "crt"), ("key-file", "key"))),
    )


def _apiserver(layout: Layout, more: Sequence[str]) -> Process:
    pki = layout.pki
    return processes.start(
        layout,
        "kube-apiserver",
        layout.bin / "kube-apiserver",
        f"--etcd-servers=https://127.0.0.1:{layout.etcd_port}",
        f"--etcd-cafile={pki}/etcd-ca.crt",
        f"--etcd-certfile={pki}/etcd-client.crt",
        f"--etcd-keyfile={pki}/etcd-client.key",
        f"--advertise-address={layout.node_ip}",
        f"--secure-port={layout.api_port}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        # The second as some distributions have it: who sets an owner must be allowed to hold it back.
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
        "--allow-privileged=true",
        "--profiling=false",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP,Hostname",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        # The aggregation layer, for metrics-server.
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        "--enable-aggregator-routing=true",
        *more,
    )


def _controller_manager(layout: Layout) -> Process:
    pki = layout.pki
    return processes.start(
        layout,
        "kube-controller-manager",
        layout.bin / "kube-controller-manager",
        f"--kubeconfig={layout.kubeconfig_of('controller-manager')}",
        "--secure-port=0",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        *FAST,
    )


def _scheduler(layout: Layout) -> Process:
    return processes.start(
        layout,
        "kube-scheduler",
        layout.bin / "kube-scheduler",
        f"--kubeconfig={layout.kubeconfig_of('scheduler')}",
        "--secure-port=0",
        "--leader-elect=false",
        *FAST,
    )


def _wait(layout: Layout, started: dict[str, Process], name: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        for daemon, process in started.items():
            processes.still_runs(layout, daemon, process)
        if time.monotonic() > deadline:
            raise CliError(
                f"{name} was not ready in {READY_SECONDS:.0f} s.",
                f"Its log: {layout.logs / f'{name}.log'}",
            )
        time.sleep(0.1)
