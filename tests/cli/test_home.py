"""Where state lives, how it is written, and that only one command changes it at a time."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from chatbot_cli import home as homes
from chatbot_cli.errors import CliError, from_os
from chatbot_cli.home import Home, locked, write


def run(code: str, argument: Path) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-c", code, str(argument)]
    return subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own code


class TestRoot:
    def test_is_where_the_variable_says(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("CHATBOT_HOME", str(tmp_path))
        assert homes.root() == tmp_path

    def test_honours_xdg(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        assert homes.root() == tmp_path / "chatbot"

    def test_is_below_the_users_home_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        assert homes.root() == Path.home() / ".local" / "state" / "chatbot"


class TestMake:
    def test_is_for_its_owner_only(self, home: Home) -> None:
        assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700
        assert stat.S_IMODE(home.folder.stat().st_mode) & 0o066 == 0

    def test_sockets_move_to_a_short_path_when_theirs_is_too_long(self, tmp_path: Path) -> None:
        home = Home(tmp_path / ("x" * 100) / "demo")
        home.make()
        assert len(str(home.sockets)) < 60
        assert home.sockets.is_dir()
        home.sockets.rmdir()

    def test_a_folder_that_cannot_be_made_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError) as caught:  # noqa: PT011 - which one depends on the system
            Home(tmp_path / "file" / "demo").make()
        error = from_os(caught.value)
        assert str(tmp_path / "file") in error.message
        assert "CHATBOT_HOME" in (error.hint or "")


class TestWrite:
    def test_replaces_in_one_step_with_the_mode_of_a_secret(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        assert write(path, "one")
        assert not write(path, "one")
        assert write(path, "two")
        assert path.read_text() == "two"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_full_disk_leaves_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        """A limit on file size stands in for the disk: the kernel refuses the write in the same place."""
        path = tmp_path / "state.json"
        path.write_text("old")
        code = (
            "import resource, signal, sys; from pathlib import Path; from chatbot_cli.home import write;"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100));"
            "write(Path(sys.argv[1]), 'x' * 1000)"
        )
        ended = run(code, path)
        assert b"File too large" in ended.stderr
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["state.json"]


class TestLocked:
    def test_keeps_a_second_command_out_and_names_the_first(self, home: Home) -> None:
        words = rf"'chatbot up' \(process {os.getpid()}\) is at work on demo"
        with locked(home, "up"), pytest.raises(CliError, match=words), locked(home, "down"):
            pass
        with locked(home, "down"):
            pass

    def test_a_killed_command_holds_no_lock(self, home: Home) -> None:
        code = (
            "import os, sys; from pathlib import Path; from chatbot_cli.home import Home, locked\n"
            "with locked(Home(Path(sys.argv[1])), 'up'): os._exit(9)"
        )
        run(code, home.folder)
        with locked(home, "up"):
            pass

    def test_who_waits_says_for_whom_and_goes_on_after(self, home: Home) -> None:
        said: list[str] = []
        first = locked(home, "up")
        assert first.__enter__() is False
        ending = threading.Timer(0.3, first.__exit__, (None, None, None))
        ending.start()
        with locked(home, "up", said.append) as waited:
            assert waited
        ending.join()
        assert said == [f"'chatbot up' (process {os.getpid()})"]

    def test_nobody_waits_forever(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(homes, "LOCK_SECONDS", 0.1)
        with locked(home, "up"), pytest.raises(CliError, match="at work on demo"), locked(home, "up", lambda _: None):
            pass
