"""What the node takes from the system: containerd, and tools that it and the kubelet call."""

import os
import shutil
import subprocess
from pathlib import Path

from chatbot_cli.errors import CliError

WANTED = {
    "containerd": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "iptables": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "mount": "mount",
    "socat": "socat",
}
"""Program → its Debian package. conntrack is kube-proxy's, socat is for `kubectl port-forward`."""
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CNI_PACKAGE = "containernetworking-plugins"
FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def missing() -> list[str]:
    """Packages to install, by their Debian names."""
    found = [package for program, package in WANTED.items() if find(program) is None]
    return sorted([*found, *([] if cni_plugins() else [CNI_PACKAGE])])


def find(program: str) -> str | None:
    """Also where only root looks."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *FOLDERS]))


def cni_plugins() -> Path | None:
    return next((folder for folder in CNI_FOLDERS if (folder / "bridge").exists()), None)


def install(packages: list[str]) -> None:
    """Raises `CliError` when this is no Debian, or apt fails."""
    by_hand = f"Install them by hand: {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise CliError("Some system packages are missing, and there is no apt-get to install them.", by_hand)
    result = _apt("install", "--no-install-recommends", "--yes", *packages)
    if result.returncode != 0:
        # The list of packages may be old, or have never been fetched.
        _apt("update")
        result = _apt("install", "--no-install-recommends", "--yes", *packages)
    if result.returncode != 0 or missing():
        raise CliError("apt-get could not install what is missing.", by_hand, result.stdout.splitlines()[-8:])


def _apt(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - no shell
        ["apt-get", "--quiet", *arguments],  # noqa: S607 - found above
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
