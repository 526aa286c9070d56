"""A real Weaviate for tests: the binary that `make cluster-build` makes, as a single node with an API key."""

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.patience import clock
from tests.support.serving import free_port

KEY = "a-key-for-tests"
START_SECONDS = 60.0


def binary() -> Path:
    """Where it is. Skips the test when it was never built; fails it when CHATBOT_REQUIRE_CLUSTER is set."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("CHATBOT_CLUSTER_HOME") or cache / "chatbot-operator")
    path = home / "bin" / "weaviate-server"
    if not path.exists():
        reason = f"needs the real Weaviate: {path} is not there, build it with `make cluster-build`"
        pytest.fail(reason) if os.environ.get("CHATBOT_REQUIRE_CLUSTER") else pytest.skip(reason)
    return path


class Weaviate:
    """One server, started, stopped and emptied at will; its address and key stay."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port, self.grpc_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._others = [free_port() for _ in range(4)]

    def start(self) -> None:
        """Returns once it is ready."""
        with (self._folder / "log").open("ab") as log:
            command = [str(self._program), "--host", "127.0.0.1", "--port", str(self.port), "--scheme", "http"]
            self._process = subprocess.Popen(  # noqa: S603 - our own binary
                command, env=self._environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        end = clock() + START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or clock() > end:
                pytest.fail("Weaviate did not start:\n" + (self._folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def lose_data(self) -> None:
        """As when its volume was made anew. Stops it."""
        self.stop(signal.SIGKILL)
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/v1/.well-known/ready")
            return connection.getresponse().status == 200
        return False

    def _environment(self) -> dict[str, str]:
        gossip, data, raft, raft_rpc = (str(port) for port in self._others)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "PERSISTENCE_DATA_PATH": str(self._folder / "data"),
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
            "AUTHENTICATION_APIKEY_ENABLED": "true",
            "AUTHENTICATION_APIKEY_ALLOWED_KEYS": KEY,
            "AUTHENTICATION_APIKEY_USERS": "chatbot",
            "AUTHORIZATION_ADMINLIST_ENABLED": "true",
            "AUTHORIZATION_ADMINLIST_USERS": "chatbot",
            "DEFAULT_VECTORIZER_MODULE": "none",
            "DISABLE_TELEMETRY": "true",
            "GO_PROFILING_DISABLE": "true",
            "GRPC_PORT": str(self.grpc_port),
            "CLUSTER_HOSTNAME": "node1",
            "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "CLUSTER_GOSSIP_BIND_PORT": gossip,
            "CLUSTER_DATA_BIND_PORT": data,
            "RAFT_PORT": raft,
            "RAFT_INTERNAL_RPC_PORT": raft_rpc,
            "RAFT_BOOTSTRAP_EXPECT": "1",
            "RAFT_TIMEOUTS_MULTIPLIER": "1",  # elections are quick where there is nobody else
            "RAFT_DRAIN_SLEEP": "1ms",
        }


@contextlib.contextmanager
def running_weaviate() -> Iterator[Weaviate]:
    program = binary()
    with tempfile.TemporaryDirectory(prefix="wv-", ignore_cleanup_errors=True) as folder:
        server = Weaviate(program, Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop(signal.SIGKILL)
