"""The stores' entry points, run for real from the virtual environment's wheels, as a user without rights."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.patience import clock

FOLDER = Path(__file__).parents[2] / "k8s" / "images" / "stores"
NOBODY = 65534
SECONDS = 30.0


class Entry:
    """One entry point with its volume, its Secret and its port: what a pod gives it."""

    def __init__(self, script: str, folder: Path, variables: dict[str, str], passwords: dict[str, str]) -> None:
        self.folder, self.passwords, self.log = folder, folder / "passwords", folder / "log"
        self.port = free_port()
        self._command = [sys.executable, str(FOLDER / script)]
        self._variables = variables
        self._running: subprocess.Popen[bytes] | None = None
        for name in ("volume", "sockets", "passwords"):
            (folder / name).mkdir()
            _give_away(folder / name)
        self.tell(**passwords)

    def tell(self, **passwords: str) -> None:
        """Write the Secret's files; `a_b` is the file a-b."""
        for name, password in passwords.items():
            (self.passwords / name.replace("_", "-")).write_text(password, encoding="utf-8")

    @property
    def pid(self) -> int:
        assert self._running
        return self._running.pid

    def start(self) -> None:
        """Start it in a session of its own, so that all its processes can be killed at once."""
        with open(self.log, "ab") as log:
            self._running = subprocess.Popen(  # noqa: S603 - our own program
                [*_as_nobody(), *self._command], env=self._environment(), stdout=log, stderr=log, start_new_session=True
            )

    def ready(self) -> bool:
        """What a probe in the pod would say."""
        command = [*_as_nobody(), *self._command, "ready"]
        done = subprocess.run(command, env=self._environment(), check=False, capture_output=True)  # noqa: S603
        return done.returncode == 0

    def up(self) -> None:
        self.start()
        self.wait(self.ready)

    def wait(self, condition: Callable[[], bool]) -> None:
        end = clock() + SECONDS
        while not condition():
            assert self._running is None or self._running.poll() is None, self.said()
            assert clock() < end, self.said()
            time.sleep(0.02)

    def end(self, number: signal.Signals) -> int:
        """Signal its first process, as a container runtime does, and wait for its end."""
        assert self._running
        self._running.send_signal(number)
        return self._running.wait(SECONDS)

    def kill(self) -> None:
        """Everything at once and without warning, as when a node loses power."""
        if self._running:
            os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait(SECONDS)
            self._running = None

    def fails(self) -> str:
        """Its last words, when it must not start."""
        self.start()
        assert self._running
        assert self._running.wait(SECONDS) == 1, self.said()
        return self.said()

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def close(self) -> None:
        if self._running and self._running.poll() is None:
            self.kill()

    def _environment(self) -> dict[str, str]:
        given = {name: value.format(folder=self.folder, port=self.port) for name, value in self._variables.items()}
        return {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **given}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_nobody() -> list[str]:
    """Nothing where we are no root; root becomes another user, who may read root's own folders but not write there."""
    if os.geteuid() != 0:
        return []
    rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *rights]


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def postgres_in(folder: Path) -> Entry:
    variables = {
        "POSTGRES_VOLUME": "{folder}/volume",
        "POSTGRES_PASSWORDS": "{folder}/passwords",
        "POSTGRES_SOCKETS": "{folder}/sockets",
        "POSTGRES_PORT": "{port}",
    }
    # Quotes, because a password is whatever the Secret says.
    passwords = {"password": 'root\'s "own"', "auth_password": "for auth $1", "conversation_password": "for conv"}
    return Entry("chatbot_postgres.py", folder, variables, passwords)


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entry]:
    entry = postgres_in(tmp_path_factory.mktemp("pg"))
    yield entry
    entry.close()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Entry]:
    variables = {
        "VALKEY_PASSWORD_FILE": "{folder}/passwords/password",
        "VALKEY_DATA": "{folder}/volume",
        "VALKEY_PORT": "{port}",
        "VALKEY_MAXMEMORY": "32mb",
    }
    entry = Entry("chatbot_valkey.py", tmp_path, variables, {"password": 'se "cret'})
    yield entry
    entry.close()
