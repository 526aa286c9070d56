"""Processes that outlive the command, and are never mistaken for another."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from chatbot_cli import processes
from chatbot_cli.processes import Process, identity, rotate, send, stop, strays, tail

from tests.cli.conftest import Spawn
from tests.support.patience import clock

SLEEP = "import time; time.sleep(60)"
READY = "import signal, time; print('ready', flush=True);"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY} time.sleep(60)"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = clock() + 10
    while not condition():
        assert clock() < deadline
        time.sleep(0.01)


class TestStart:
    def test_runs_in_a_session_of_its_own_and_writes_its_log(self, spawn: Spawn, tmp_path: Path) -> None:
        process = spawn("print('hello', flush=True); " + SLEEP)
        wait_for(lambda: tail(tmp_path / "process.log", 5) == ["hello"])
        assert os.getsid(process.pid) == process.pid
        assert (tmp_path / "process.log").stat().st_mode & 0o777 == 0o600

    def test_a_process_that_dies_at_once_is_not_alive(self, spawn: Spawn) -> None:
        process = spawn("raise SystemExit(3)")
        wait_for(lambda: not process.alive)

    def test_a_second_run_appends_to_the_log(self, spawn: Spawn, tmp_path: Path) -> None:
        for word in ("one", "two"):
            ended = spawn(f"print({word!r})")
            wait_for(lambda ended=ended: not ended.alive)
        assert tail(tmp_path / "process.log", 5) == ["one", "two"]

    def test_a_log_that_has_grown_too_long_is_put_aside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "MAX_LOG_BYTES", 10)
        log = tmp_path / "a.log"
        log.write_text("x" * 11)
        rotate(log)
        assert not log.exists()
        assert (tmp_path / "a.log.1").read_text() == "x" * 11


class TestIdentity:
    def test_survives_being_written_down(self, spawn: Spawn) -> None:
        process = spawn(SLEEP)
        assert Process(process.pid, process.started).alive

    def test_a_recycled_process_id_is_somebody_else(self, spawn: Spawn) -> None:
        process = spawn(SLEEP)
        recycled = replace(process, started=process.started[:-1] + ("1" if process.started[-1] != "1" else "2"))
        assert not recycled.alive

    def test_nothing_that_runs_has_the_id(self) -> None:
        assert identity(2**22 + 1) is None

    def test_a_zombie_is_gone(self) -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        assert identity(pid) is None
        os.waitpid(pid, 0)


class TestStop:
    def test_asks_and_waits(self, spawn: Spawn) -> None:
        process = spawn(SLEEP)
        assert stop([process], 10) == ([process], [])
        assert not process.alive

    def test_kills_who_does_not_listen(self, spawn: Spawn, tmp_path: Path) -> None:
        process = spawn(DEAF)
        wait_for(lambda: tail(tmp_path / "process.log", 1) == ["ready"])
        assert stop([process], 0.2) == ([process], [process])
        assert not process.alive

    def test_says_that_it_waits_only_when_it_takes_long(
        self, spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: list[str] = []
        stop([spawn(SLEEP)], 10, waiting=lambda: said.append("quick"))
        monkeypatch.setattr(processes, "SOON_SECONDS", 0.1)
        deaf = spawn(DEAF)
        wait_for(lambda: tail(tmp_path / "process.log", 1) == ["ready"])
        stop([deaf], 0.3, waiting=lambda: said.append("slow"))
        assert said == ["slow"]

    def test_leaves_a_recycled_process_id_alone(self, spawn: Spawn) -> None:
        bystander = spawn(SLEEP)
        assert stop([replace(bystander, started="another:1")], 1) == ([], [])
        assert bystander.alive

    def test_who_is_gone_already_was_not_stopped(self, spawn: Spawn) -> None:
        process = spawn(SLEEP)
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: not process.alive)
        assert stop([process], 1) == ([], [])
        assert not send(process, signal.SIGTERM)


class TestStrays:
    def test_finds_what_no_record_knows_by_its_environment(self, spawn: Spawn, tmp_path: Path) -> None:
        ours = spawn(SLEEP, CHATBOT_SECRETS=str(tmp_path / "secrets" / "auth"))
        other = spawn(SLEEP, CHATBOT_SECRETS="/somewhere/else")
        wait_for(lambda: bool(strays("CHATBOT_SECRETS", tmp_path, ())))
        assert strays("CHATBOT_SECRETS", tmp_path, ()) == [ours]
        assert strays("CHATBOT_SECRETS", tmp_path, [ours.pid]) == []
        assert other.alive


class TestTail:
    def test_gives_the_last_lines_since_a_place(self, tmp_path: Path) -> None:
        log = tmp_path / "a.log"
        log.write_text("old\n")
        offset = log.stat().st_size
        with log.open("a") as file:
            file.write("".join(f"{number}\n" for number in range(20)))
        assert tail(log, 2, offset) == ["18", "19"]
        assert "old" not in tail(log, 100, offset)

    def test_a_missing_log_has_no_lines(self, tmp_path: Path) -> None:
        assert tail(tmp_path / "none", 3) == []
