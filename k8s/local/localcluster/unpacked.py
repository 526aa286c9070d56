"""Prometheus for tests, out of Debian's package: seconds instead of the minutes it takes to build.

The package is only unpacked. Installing it would start a service, and bring an exporter along.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from chatbot_cli.errors import CliError

PACKAGE = "prometheus"
PROGRAMS = ("prometheus", "promtool")


def find(program: str, folder: Path) -> Path | None:
    """Ours, else one that is installed."""
    ours = folder / program
    found = str(ours) if ours.exists() else shutil.which(program)
    return Path(found) if found else None


def missing(folder: Path) -> list[str]:
    return [program for program in PROGRAMS if find(program, folder) is None]


def fetch(folder: Path) -> None:
    """Put the programs into the folder, each whole or not at all. Raises `CliError`."""
    by_hand = f"Put {' and '.join(PROGRAMS)} into {folder}, or anywhere on the PATH: https://prometheus.io/download/"
    if shutil.which("apt-get") is None:
        raise CliError(f"There is no apt-get to fetch {PACKAGE} with, which tests of alerts need.", by_hand)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{PACKAGE}") as name:
        fresh = Path(name)
        fresh.chmod(0o755)  # apt downloads as a user of its own
        if _download(fresh) != 0:
            # The list of packages may be old, or have never been fetched.
            _run(fresh, "apt-get", "--quiet", "update")
            if _download(fresh) != 0:
                raise CliError(f"apt-get could not download the package {PACKAGE}.", by_hand)
        [package] = fresh.glob("*.deb")
        if _run(fresh, "dpkg-deb", "--extract", str(package), str(fresh)) != 0:
            raise CliError(f"The package {package.name} cannot be unpacked.", by_hand)
        for program in PROGRAMS:
            (fresh / "usr" / "bin" / program).replace(folder / program)


def _download(folder: Path) -> int:
    return _run(folder, "apt-get", "--quiet", "download", PACKAGE)


def _run(folder: Path, *command: str) -> int:
    quiet = subprocess.DEVNULL
    return subprocess.run(command, cwd=folder, stdin=quiet, stdout=quiet, stderr=quiet, check=False).returncode  # noqa: S603 - no shell
