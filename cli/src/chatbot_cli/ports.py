"""TCP ports on loopback: which are free, and who holds the one that is not."""

import contextlib
import random
import socket
from collections.abc import Collection

import psutil

HOST = "127.0.0.1"

# Below the range from which systems take the ports of outgoing connections, so that none is gone between looking and
# listening, and away from the well-known development ports.
_PRIVATE = range(20_000, 30_000)


def is_free(port: int) -> bool:
    """Whether a server could listen here, in the way uvicorn would."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(taken: Collection[int]) -> int:
    """A free private port that is not among `taken`."""
    while True:
        port = random.choice(_PRIVATE)  # noqa: S311 - no secret
        if port not in taken and is_free(port):
            return port


def next_free(port: int) -> int:
    """The first free port above `port`, to suggest."""
    return next((other for other in range(port + 1, port + 100) if is_free(other)), port + 1)


def holder(port: int) -> str | None:
    """Name and id of the process that listens on a port, where the system tells us."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            address = connection.laddr
            if connection.status == psutil.CONN_LISTEN and address and address.port == port and connection.pid:
                # Three words name a program ("python -m http.server"); more might show somebody's secrets.
                command = " ".join(psutil.Process(connection.pid).cmdline()[:3])
                return f"process {connection.pid} ({command})"
    return None
