"""The platform's own processes: starting, migrating and stopping them, in an order that loses no answer."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from chatbot_resource.configuration import Service

from chatbot_cli.errors import CliError
from chatbot_cli.home import Home
from chatbot_cli.layout import DRAIN_SECONDS, PROGRAMS, Program, config_file
from chatbot_cli.processes import Process, start, stop, tail
from chatbot_cli.state import Running, State, save

CONFIG_VARIABLE = "CHATBOT_CONFIG"
SECRETS_VARIABLE = "CHATBOT_SECRETS"
MIGRATION_SECONDS = 300

STOP_SECONDS = DRAIN_SECONDS + 15.0
"""After its drain a process closes what it could not finish; killed before that, answers would hang as running."""

START_ORDER = ("chat", "conversation", "worker", "auth", "gateway")
"""Whoever takes longest to load goes first; nobody depends on anybody at start."""
STOP_ORDER = (("gateway", "chat"), ("worker", "conversation", "auth"))
"""Who still streams an answer goes first; who stores it stays until then."""

# No keys: a process learns its secrets from its own files only, so that none shows in its environment.
_INHERITED = ("PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "REQUESTS_CA_BUNDLE")
_INHERITED_PREFIXES = ("LD_", "LC_", "SSL_CERT_", "OTEL_", "COVERAGE_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True)
class Started:
    """A process that was started just now, and where its part of the log begins."""

    name: str
    process: Process
    log: Path
    log_offset: int

    def last_lines(self, count: int = 12) -> list[str]:
        return tail(self.log, count, self.log_offset)


def environment(home: Home, name: str) -> dict[str, str]:
    """Variables of a service process: where its settings are, and what any process needs; never a key."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key in _INHERITED or key in _PROXIES or key.startswith(_INHERITED_PREFIXES)
    }
    local = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1,localhost"]))
    return inherited | {
        CONFIG_VARIABLE: str(config_file(home, name)),
        SECRETS_VARIABLE: str(home.secrets / PROGRAMS[name].service),
        "NO_PROXY": local,
        "no_proxy": local,
        "PYTHONUNBUFFERED": "1",
    }


def command(program: Program, word: str | None = None) -> list[str]:
    # -P: the current folder must not be searched for modules.
    return [sys.executable, "-P", "-m", program.package, word or program.command]


def start_service(home: Home, state: State, name: str, fingerprint: str) -> Started:
    """Start one process and record it at once."""
    log = home.log(name)
    offset = log.stat().st_size if log.exists() else 0
    process = start(command(PROGRAMS[name]), log, home.folder, environment(home, name))
    if log.exists() and log.stat().st_size < offset:
        offset = 0
    state.processes[name] = Running(process, fingerprint, time.time())
    save(home, state)
    return Started(name, process, log, offset)


def stop_services(
    state: State, names: Collection[str], seconds: float, waiting: Callable[[], None] | None = None
) -> tuple[list[str], list[str]]:
    """Stop those of `names` that run, in `STOP_ORDER`, each group within `seconds`.

    Args:
        waiting: called when a group takes its time, which it does for answers in flight.

    Returns:
        Names of those that were running, and of those that had to be killed.
    """
    stopped: list[str] = []
    killed: list[str] = []
    for group in STOP_ORDER:
        running = {name: record.process for name in group if name in names and (record := state.alive(name))}
        asked, left = stop(running.values(), seconds, waiting=waiting)
        stopped += [name for name, process in running.items() if process in asked]
        killed += [name for name, process in running.items() if process in left]
    return stopped, killed


def migrate(home: Home, services: Iterable[Service]) -> None:
    """Run the migrations of several services side by side. Raises `CliError` with the end of the log."""
    runs: dict[Service, tuple[Path, subprocess.Popen[bytes]]] = {}
    for service in services:
        log = home.log(f"migrate-{service}")
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
            runs[service] = (
                log,
                subprocess.Popen(  # noqa: S603 - our own program, no shell
                    command(PROGRAMS[service], "migrate"),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=home.folder,
                    env=environment(home, service),
                ),
            )
    _await_migrations(runs)


def _await_migrations(runs: Mapping[Service, tuple[Path, "subprocess.Popen[bytes]"]]) -> None:
    deadline = time.monotonic() + MIGRATION_SECONDS
    try:
        for service, (log, run) in runs.items():
            code = run.wait(max(0.1, deadline - time.monotonic()))
            if code:
                raise CliError(f"The migrations of {service} failed.", f"The whole log: {log}", tail(log, 12))
    except subprocess.TimeoutExpired:
        raise CliError("The migrations did not end in time.", f"Their logs: {_logs(runs)}") from None
    finally:
        for _, run in runs.values():
            if run.poll() is None:
                run.terminate()
                run.wait(10)


def _logs(runs: Mapping[Service, tuple[Path, "subprocess.Popen[bytes]"]]) -> str:
    return ", ".join(str(log) for log, _ in runs.values())
