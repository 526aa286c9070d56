"""The record of what was started."""

import json
import os
from pathlib import Path

import pytest
from chatbot_cli import __main__ as main
from chatbot_cli import bots, state
from chatbot_cli.calling import call
from chatbot_cli.errors import CliError
from chatbot_cli.home import Home, home_of
from chatbot_cli.processes import Process, identity
from chatbot_cli.state import Running, State


def myself() -> Running:
    return Running(Process(os.getpid(), identity(os.getpid()) or ""), "digest", 1.5)


class TestLoad:
    def test_reads_what_was_saved(self, home: Home) -> None:
        saved = State("f.yaml", 8080, {"auth": (1, 2)}, "/docs", {"auth": myself()}, {"auth": "x"})
        state.save(home, saved)
        assert state.load(home) == saved

    def test_a_field_of_another_version_is_passed_over(self, home: Home) -> None:
        state.save(home, State(port=8080))
        document = json.loads(home.state_file.read_text())
        home.state_file.write_text(json.dumps(document | {"admin_email": "admin@demo.example"}))
        assert state.load(home) == State(port=8080)

    def test_there_is_none_yet(self, home: Home) -> None:
        assert state.load(home) == State()

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}', '{"version": 1, "processes": 3}'])
    def test_a_record_that_cannot_be_read_is_a_fresh_start(self, home: Home, text: str) -> None:
        home.state_file.write_text(text)
        assert state.load(home) == State()


class TestAlive:
    def test_only_the_very_process(self) -> None:
        mine = myself()
        other = Running(Process(mine.process.pid, "boot:1"), "", 0)
        record = State(processes={"auth": mine, "chat": other})
        assert record.alive("auth") == mine
        assert record.alive("chat") is None
        assert record.alive("gateway") is None


class TestPick:
    def test_the_only_one(self, home: Home) -> None:
        state.save(home, State())
        assert bots.pick(None) == home

    def test_the_named_one(self, home: Home) -> None:
        other = home_of("other")
        other.make()
        state.save(home, State())
        state.save(other, State())
        assert bots.pick("other") == other

    def test_the_only_one_that_runs(self, home: Home) -> None:
        other = home_of("other")
        other.make()
        state.save(home, State())
        state.save(other, State(processes={"auth": myself()}))
        assert bots.pick(None) == other

    def test_several_need_a_name(self, home: Home) -> None:
        other = home_of("other")
        other.make()
        state.save(home, State())
        state.save(other, State())
        with pytest.raises(CliError, match="There are several bots here: demo, other"):
            bots.pick(None)

    def test_none_says_how_to_start_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHATBOT_HOME", str(tmp_path / "none"))
        with pytest.raises(CliError) as caught:
            bots.pick(None)
        assert call("up -f") in (caught.value.hint or "")


class TestPickToPurge:
    def test_what_is_stopped_is_never_guessed(self, home: Home) -> None:
        state.save(home, State())
        with pytest.raises(CliError, match="No bot runs") as caught:
            bots.pick_to_purge(None)
        assert call("down --purge --name NAME") in (caught.value.hint or "")
        assert "demo" in (caught.value.hint or "")
        assert bots.pick_to_purge("demo") == home

    def test_the_only_one_that_runs(self, home: Home) -> None:
        state.save(home, State(processes={"auth": myself()}))
        other = home_of("other")
        other.make()
        state.save(other, State())
        assert bots.pick_to_purge(None) == home
        state.save(other, State(processes={"auth": myself()}))
        with pytest.raises(CliError, match="Several bots run"):
            bots.pick_to_purge(None)

    def test_the_command_twice_removes_one(self, home: Home) -> None:
        state.save(home, State())
        assert main.run(["down", "--purge", "--yes"]) == 1
        assert home.state_file.exists()
