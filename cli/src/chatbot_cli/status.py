"""`chatbot status`: each process of a bot as it is right now."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from chatbot_cli import state
from chatbot_cli.home import Home
from chatbot_cli.layout import PROGRAMS
from chatbot_cli.postgres import Postgres
from chatbot_cli.readiness import readiness_and_lack
from chatbot_cli.state import Running, State
from chatbot_cli.valkey import Valkey

STORES = ("postgres", "valkey")


@dataclass(frozen=True)
class Row:
    """One process."""

    name: str
    state: str
    """`ready`, `not ready` or `down`."""
    reason: str = ""
    """Why it is not ready, or what it goes on without."""
    pid: int | None = None
    memory_bytes: int | None = None
    """Resident memory of the process and its children; memory they share is counted once."""
    uptime_seconds: int | None = None
    port: int | None = None
    private_port: int | None = None

    @property
    def ok(self) -> bool:
        return self.state == "ready"


@dataclass(frozen=True)
class Report:
    """All processes of one bot."""

    bot: str
    file: str | None
    url: str | None
    rows: list[Row]

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    @property
    def stopped(self) -> bool:
        return all(row.state == "down" for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        return {"bot": self.bot, "file": self.file, "url": self.url, "ok": self.ok} | {
            "processes": [asdict(row) for row in self.rows]
        }


def report(home: Home) -> Report:
    """Look at every process; all are asked at the same time."""
    record = state.load(home)
    with ThreadPoolExecutor(len(PROGRAMS)) as pool:
        services = list(pool.map(lambda name: _service(record, name), PROGRAMS))
    rows = [*services, _postgres(home, record), _valkey(home, record)]
    url = f"http://127.0.0.1:{record.port}" if record.port else None
    return Report(home.name, record.file, url, rows)


def _service(record: State, name: str) -> Row:
    running = record.alive(name)
    port, private = record.ports.get(name, (None, None))
    port = None if name == "worker" else port
    if running is None or private is None:
        return Row(name, "down", _why(record, name), port=port, private_port=private)
    reason, without = readiness_and_lack(private)
    if reason == "ready":
        return _row(name, "ready", without and f"goes on without {without}", running, port, private)
    return _row(name, "not ready", reason, running, port, private)


def _postgres(home: Home, record: State) -> Row:
    server = Postgres(home)
    process = server.running()
    if process is None:
        return Row("postgres", "down", _why(record, "postgres"))
    running = record.processes.get("postgres")
    if running is None or running.process != process:
        running = Running(process, "", psutil.Process(process.pid).create_time())
    return _row("postgres", "ready", "", running)


def _valkey(home: Home, record: State) -> Row:
    running = record.alive("valkey")
    if running is None:
        return Row("valkey", "down", _why(record, "valkey"))
    answers = Valkey(home).answers()
    return _row("valkey", "ready" if answers else "not ready", "" if answers else "no answer", running)


def _why(record: State, name: str) -> str:
    return "ended on its own" if name in record.processes else ""


def _row(
    name: str, how: str, reason: str, running: Running, port: int | None = None, private: int | None = None
) -> Row:
    return Row(
        name,
        how,
        reason,
        running.process.pid,
        _memory(running.process.pid),
        int(time.time() - running.since),
        port,
        private,
    )


def _memory(pid: int) -> int | None:
    try:
        process = psutil.Process(pid)
        total = int(process.memory_info().rss)
        for child in process.children(recursive=True):
            info = child.memory_info()
            total += max(0, info.rss - getattr(info, "shared", 0))
        return total
    except psutil.Error:
        return None
