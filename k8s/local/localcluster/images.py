"""Container images: three of the cluster's own made from nothing but a program, and loading any from a file."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chatbot_cli.errors import CliError

from localcluster import packages, paths
from localcluster.paths import Layout

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
DOMAIN = "docker.io"
"""What containerd, as Docker does, puts before a name without a domain. Nothing is fetched from there."""


@dataclass(frozen=True)
class Image:
    """One program on an empty file system with a /tmp."""

    reference: str
    program: str
    user: str


PAUSE = Image("localhost/pause:local", "pause", "65535:65535")
COREDNS = Image("localhost/coredns:local", "coredns", "0:0")
METRICS_SERVER = Image("localhost/metrics-server:local", "metrics-server", "65534:65534")


def load(path: Path, layout: Layout | None = None) -> None:
    """Give an image in a docker-archive or OCI tar file to the cluster's containerd. Raises `CliError`."""
    if not path.is_file():
        raise CliError(f"There is no file {path}.")
    _ctr(layout or paths.this_machine(), "images", "import", str(path))


def full_name(reference: str) -> str:
    """The name containerd has for an image that a manifest calls `reference`, without a domain."""
    return f"{DOMAIN}/{reference}" if "/" in reference else f"{DOMAIN}/library/{reference}"


def digests(layout: Layout) -> dict[str, str]:
    """Reference → digest of all images the cluster has. Raises `CliError`."""
    rows = [line.split() for line in _ctr(layout, "images", "list").splitlines()[1:]]
    return {row[0]: row[2] for row in rows if len(row) > 2}


def contents(layout: Layout) -> set[str]:
    """Digests of all that containerd keeps, layers among them. Raises `CliError`."""
    return set(_ctr(layout, "content", "list", "--quiet").split())


def remove(layout: Layout, names: Sequence[str]) -> None:
    """With what no other image needs. Raises `CliError`."""
    if names:
        _ctr(layout, "images", "remove", "--sync", *names)


def remove_containers(layout: Layout) -> None:
    """All that have ended. Raises `CliError` while one has not."""
    if names := _ctr(layout, "containers", "list", "--quiet").split():
        _ctr(layout, "containers", "remove", *names)


def ensure(layout: Layout, images: Sequence[Image]) -> None:
    """Make and load those of the cluster's own that are not there. Raises `CliError`, `OSError`."""
    there = digests(layout)
    for image in images:
        if image.reference not in there:
            with tempfile.TemporaryDirectory(dir=layout.run) as folder:
                load(pack(image, layout.bin / image.program, Path(folder)), layout)


def pack(image: Image, program: Path, folder: Path) -> Path:
    """Write an image as a docker-archive below `folder`. Raises `OSError`."""
    layer = folder / "layer.tar"
    with tarfile.open(layer, "w") as tar:
        tmp = tarfile.TarInfo("tmp")
        tmp.type, tmp.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(tmp)
        tar.add(program, program.name, filter=_of_root)
    with open(layer, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "User": image.user, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [image.reference], "Layers": ["layer.tar"]}]).encode()
    archive = folder / "image.tar"
    with tarfile.open(archive, "w") as tar:
        for file_name, content in ((name, config), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(file_name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        tar.add(layer, "layer.tar")
    return archive


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755
    return entry


def _ctr(layout: Layout, *arguments: str) -> str:
    program = packages.find("ctr")
    if program is None or not layout.containerd_socket.exists():
        raise CliError("The cluster does not run here.", "Start it: make cluster-up")
    result = subprocess.run(  # noqa: S603 - no shell
        [program, "--address", str(layout.containerd_socket), "--namespace", "k8s.io", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        hint = None if "permission denied" not in result.stderr else "Run the same command as root."
        raise CliError("containerd refused.", hint, result.stderr.splitlines()[-4:])
    return result.stdout
