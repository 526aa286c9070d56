"""One API server for all workers of a test run: who needs it first starts it, and the end of the run ends it.

Beside each other in namespaces of their own they take a quarter of the time and memory of four servers. Tests that
change what kinds there are, or what everybody may do, use a server of their worker alone.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from localcluster import control_plane
from localcluster.paths import Layout, node_ip

from tests.support.apiserver import ApiServer, built, install_crds, reached
from tests.support.serving import free_port

FOLDER = "CHATBOT_TESTS_API_SERVER"
"""Environment variable; workers inherit it from the process that starts them."""
PORTS = "ports"
"""File with the ports of the API server and of etcd, once it is ready."""


def begin() -> Callable[[], None]:
    """Called once per run, before there are workers. What it returns ends what they have started."""
    folder = Path(tempfile.mkdtemp(prefix="kube-"))
    os.environ[FOLDER] = str(folder)

    def end() -> None:
        del os.environ[FOLDER]
        if (folder / PORTS).exists():
            control_plane.stop(_layout(folder))
        shutil.rmtree(folder, ignore_errors=True)

    return end


@contextlib.contextmanager
def shared_api_server() -> Iterator[ApiServer]:
    """It has our definitions, and no other than a cluster always has."""
    built()
    folder = Path(os.environ[FOLDER])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / PORTS).exists():
            _start(folder)
    with reached(_layout(folder)) as server:
        yield server


def _start(folder: Path) -> None:
    (folder / PORTS).write_text(f"{free_port()} {free_port()}", encoding="ascii")
    try:
        control_plane.start(_layout(folder), scheduler=False)
        with reached(_layout(folder)) as server:
            install_crds(server)
    except BaseException:
        control_plane.stop(_layout(folder))
        (folder / PORTS).unlink()
        raise


def _layout(folder: Path) -> Layout:
    api_port, etcd_port = map(int, (folder / PORTS).read_text(encoding="ascii").split())
    return Layout(folder, built(), api_port, etcd_port, node_ip())
