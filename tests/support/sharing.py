"""API servers for all workers of a test run: who needs one first starts it, and its end ends it, even by a signal.

Most tests are beside each other on one, in namespaces of their own, for a quarter of the time and memory of four. Files
that change what kinds there are, or what everybody may do, have one to themselves, and leave it to the next such file.
"""

import contextlib
import fcntl
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from localcluster import control_plane
from localcluster.paths import Layout, node_ip

from tests.support.apiserver import ROOT, ApiServer, audit_flags, built, install_crds, reached
from tests.support.serving import free_port

FOLDER = "CHATBOT_TESTS_API_SERVER"
"""Environment variable; workers inherit it from the process that starts them. Each server has a folder in it."""
PORTS = "ports"
"""File with the ports of the API server and of etcd, once it is ready."""


def begin() -> Callable[[], None]:
    """Called once per run, before there are workers. What it returns ends what they have started."""
    folder = tempfile.mkdtemp(prefix="kube-")
    os.environ[FOLDER] = folder
    # Its input ends when we do, whatever ends us; what interrupts us is not meant for it.
    command = [sys.executable, "-m", "tests.support.sharing", folder]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ender = subprocess.Popen(  # noqa: S603 - ourselves
        command, stdin=subprocess.PIPE, cwd=ROOT, env=paths, start_new_session=True
    )

    def end() -> None:
        del os.environ[FOLDER]
        ender.communicate()

    return end


def _end(folder: Path) -> None:
    for ports in folder.glob(f"*/{PORTS}"):
        control_plane.stop(_layout(ports.parent))
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def shared_api_server() -> Iterator[ApiServer]:
    """It has our definitions, and no other than a cluster always has."""
    folder = _folder("shared")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _start(folder)
    with reached(_layout(folder)) as server:
        yield server


@contextlib.contextmanager
def lone_api_server(*, empty: bool = False) -> Iterator[ApiServer]:
    """One that nobody else uses meanwhile: the first that is free, else one more.

    Args:
        empty: without our definitions; it writes down what ServiceAccounts ask for, see `ApiServer.audited`.
    """
    for number in itertools.count():
        folder = _folder(f"{'empty' if empty else 'lone'}-{number}")
        with (folder / "lock").open("w") as lock:
            if _is_free(lock):
                _start(folder, empty=empty)
                with reached(_layout(folder)) as server:
                    yield server
                return


def _is_free(lock: IO[str]) -> bool:
    """And ours from now on, until it is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder(name: str) -> Path:
    built()
    folder = Path(os.environ[FOLDER]) / name
    folder.mkdir(exist_ok=True)
    return folder


def _start(folder: Path, *, empty: bool = False) -> None:
    """Unless it runs already; by who holds its lock."""
    if (folder / PORTS).exists():
        return
    (folder / PORTS).write_text(f"{free_port()} {free_port()}", encoding="ascii")
    layout = _layout(folder)
    try:
        control_plane.start(layout, scheduler=False, api_flags=audit_flags(layout) if empty else ())
        if not empty:
            with reached(layout) as server:
                install_crds(server)
    except BaseException:
        control_plane.stop(layout)
        (folder / PORTS).unlink()
        raise


def _layout(folder: Path) -> Layout:
    api_port, etcd_port = map(int, (folder / PORTS).read_text(encoding="ascii").split())
    return Layout(folder, built(), api_port, etcd_port, node_ip())


if __name__ == "__main__":
    sys.stdin.read()
    _end(Path(sys.argv[1]))
