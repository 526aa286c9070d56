"""A state folder of its own for each test, and small real processes."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chatbot_cli.home import Home, home_of
from chatbot_cli.processes import Process, start, stop

KEYS = ("OPENAI", "ANTHROPIC", "OLLAMA", "GEMINI", "GOOGLE", "MISTRAL", "CHATBOT_")

Spawn = Callable[..., Process]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the developer has set must not decide a test."""
    for name in list(os.environ):
        if name.startswith(KEYS):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def short_folder() -> Iterator[str]:
    """Where sockets go whose own folder has too long a path, as pytest's have."""
    with tempfile.TemporaryDirectory(prefix="s", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the account that runs Postgres must pass
        yield folder


@pytest.fixture(autouse=True)
def nothing_is_left(short_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", short_folder)
    monkeypatch.setenv("TMPDIR", short_folder)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The folder of a bot named `demo`."""
    monkeypatch.setenv("CHATBOT_HOME", str(tmp_path / "bots"))
    home = home_of("demo")
    home.make()
    return home


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Starts `python -c CODE` as a process that outlives its starter; all are gone after the test."""
    started: list[Process] = []

    def spawn(code: str, log: str = "process.log", **environment: str) -> Process:
        process = start([sys.executable, "-c", code], tmp_path / log, tmp_path, os.environ | environment)
        started.append(process)
        return process

    yield spawn
    stop(started, 0)
