"""What runs on the cluster: CoreDNS, a default StorageClass, the rights of our daemons, metrics-server."""

import os
import subprocess

from chatbot_cli.errors import CliError

from localcluster import api, images
from localcluster.node import wait
from localcluster.paths import SOURCE, Layout

DEPLOYMENTS = "/apis/apps/v1/namespaces/kube-system/deployments/"


def apply_base(layout: Layout) -> None:
    """All that can be said before there is a node. Raises `CliError`."""
    _apply(layout, "base")


def await_names(layout: Layout) -> None:
    """Wait until pods can look up names. Raises `CliError`."""
    wait("CoreDNS", lambda: available(layout, "coredns"))


def add_metrics(layout: Layout) -> None:
    """For `kubectl top` and HPAs; they answer some 15 s later. Raises `CliError`, `OSError`."""
    images.ensure(layout, [images.METRICS_SERVER])
    _apply(layout, "metrics")


def exists(layout: Layout, name: str) -> bool:
    return api.read(layout, DEPLOYMENTS + name) is not None


def available(layout: Layout, name: str) -> bool:
    found = api.read(layout, DEPLOYMENTS + name) or {}
    return int(found.get("status", {}).get("availableReplicas", 0)) > 0


def _apply(layout: Layout, folder: str) -> None:
    result = subprocess.run(  # noqa: S603 - no shell
        [layout.bin / "kubectl", "apply", "--server-side", "--filename", SOURCE / "manifests" / folder],
        env={**os.environ, "KUBECONFIG": str(layout.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise CliError(f"The cluster refused manifests/{folder}.", None, result.stderr.splitlines()[-6:])
