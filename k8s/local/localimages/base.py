"""The base image, named as the Dockerfiles' PYTHON_IMAGE: Debian's CPython out of its .deb files.

No debootstrap, no daemon, and three times smaller: packages are unpacked, not installed. Where they come from and that
they are genuine is apt's business. What `python:3.13-slim` has beyond these, our Dockerfiles do not use.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from chatbot_cli.errors import CliError

from localimages.catalog import HERE

PACKAGES = (
    *("base-files", "busybox-static", "ca-certificates", "media-types", "netbase", "tzdata"),
    *("libc6", "libgcc-s1", "libstdc++6", "libcrypt1", "zlib1g", "libexpat1", "libssl3", "libffi8", "libbz2-1.0"),
    *("liblzma5", "libsqlite3-0", "libuuid1", "libncursesw6", "libtinfo6", "libreadline8"),
    *("libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal", "python3.11"),
    *("python3.11-venv", "python3-pip-whl", "python3-setuptools-whl"),
)
"""The last three: what `python3 -m venv` needs while an image is built; 3 MB."""
MERGED = ("bin", "lib", "lib64", "sbin")
UNUSED = (
    *(f"usr/share/{name}" for name in ("bug", "doc", "gdb", "info", "lintian", "locale", "man", "pixmaps")),
    *(f"usr/lib/python3.11/{name}" for name in ("idlelib", "lib2to3", "pydoc_data", "test", "turtledemo")),
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/aarch64-linux-gnu/gconv",
)
LINKS = {
    **dict.fromkeys(("cat", "chmod", "cp", "env", "find", "grep", "id", "ls", "mkdir", "mv", "rm", "sh"), "busybox"),
    **dict.fromkeys(("sleep", "test", "touch", "true"), "busybox"),
    "python3": "python3.11",
    "python": "python3",
}
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def digest() -> str:
    """Hash of the recipe. Newer packages do not change it: what works goes on working until the cache is removed."""
    recipe = (Path(__file__), HERE / "python" / "Dockerfile")
    return hashlib.sha256(b"".join(path.read_bytes() for path in recipe)).hexdigest()


def assemble(folder: Path, packages: Path) -> None:
    """Write the file system to `folder`/rootfs, with .deb files cached in `packages`. Raises `CliError`, `OSError`."""
    rootfs = folder / "rootfs"
    shutil.rmtree(rootfs, ignore_errors=True)
    # The merged layout first, so that packages that still ship /lib or /bin land in /usr.
    for name in MERGED:
        (rootfs / "usr" / name).mkdir(parents=True)
        (rootfs / name).symlink_to(f"usr/{name}")
    for file in _downloaded(packages):
        _unpack(file, rootfs)
    for name in UNUSED:
        shutil.rmtree(rootfs / name, ignore_errors=True)
    for name, target in LINKS.items():
        if not (rootfs / "usr/bin" / name).exists():
            (rootfs / "usr/bin" / name).symlink_to(target)
    for name, text in FILES.items():
        (rootfs / name).write_text(text, encoding="utf-8")
    _write_certificates(rootfs)


def _downloaded(folder: Path) -> list[Path]:
    """The packages' files; those that are not there are fetched."""
    folder.mkdir(parents=True, exist_ok=True)
    if missing := [name for name in PACKAGES if not _file(folder, name)]:
        download = ["apt-get", "download", "--quiet", *missing]
        try:
            _run(download, folder)
        except CliError:
            # The list of packages may be old, or have never been fetched.
            _run(["apt-get", "update", "--quiet"], folder)
            _run(download, folder)
    return [file for name in PACKAGES if (file := _file(folder, name))]


def _file(folder: Path, name: str) -> Path | None:
    return next(iter(sorted(folder.glob(f"{name}_*.deb"))), None)


def _unpack(package: Path, rootfs: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as files:  # noqa: S603, S607
        _run(["tar", "--extract", "--keep-directory-symlink", "--directory", str(rootfs)], rootfs, files.stdout)


def _write_certificates(rootfs: Path) -> None:
    """What the package's own script would do."""
    found = sorted((rootfs / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = rootfs / "etc/ssl/certs/ca-certificates.crt"
    bundle.write_bytes(b"".join(path.read_bytes() for path in found))


def _run(command: Sequence[str], folder: Path, stdin: IO[bytes] | int | None = subprocess.DEVNULL) -> None:
    if shutil.which(command[0]) is None:
        raise CliError(
            f"There is no {command[0]} here.", "Images are built here on Debian and Ubuntu only; see k8s/kind."
        )
    done = subprocess.run(  # noqa: S603 - no shell
        list(command),
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        stdin=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CliError(f"{command[0]} failed while the base image was assembled.", None, done.stderr.splitlines()[-6:])
