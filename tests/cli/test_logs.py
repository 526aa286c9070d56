"""Logs made readable."""

import json
import subprocess
import sys
import time

import pytest
from chatbot_cli import logs
from chatbot_cli.errors import CliError
from chatbot_cli.home import Home

LINE = {
    "timestamp": "2026-11-21T02:03:04.567890Z",
    "level": "warning",
    "event": "slow",
    "logger": "http",
    "ms": 12.5,
    "trace_id": "abcdef0123456789",
    "exception": [{"exc_type": "ValueError", "exc_value": "no\x1b[2J"}],
}


class TestPretty:
    def test_shows_time_process_level_event_and_fields(self) -> None:
        text = logs.pretty("chat", json.dumps(LINE)).plain
        assert text.startswith("02:03:04.567 chat         warning slow ms=12.5 trace=abcdef01")
        assert "ValueError: no[2J" in text

    @pytest.mark.parametrize("line", ["plain text", "[1]", "{", "null"])
    def test_leaves_what_is_not_json_as_it_is(self, line: str) -> None:
        assert logs.pretty("postgres", line).plain.endswith(line)


class TestShow:
    def test_merges_all_processes_by_time(self, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
        for name, second in (("chat", 2), ("auth", 1), ("chat", 3)):
            with home.log(name).open("a") as file:
                file.write(json.dumps({"timestamp": f"2026-01-01T00:00:0{second}Z", "event": f"e{second}"}) + "\n")
        logs.show(home, [], count=10, follow=False, raw=True)
        assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == ["e1", "e2", "e3"]

    def test_shows_only_the_last_lines(self, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
        home.log("chat").write_text("one\ntwo\nthree\n")
        logs.show(home, ["chat"], count=2, follow=False, raw=True)
        assert capsys.readouterr().out == "two\nthree\n"

    def test_an_unknown_process_is_named_with_those_there_are(self, home: Home) -> None:
        with pytest.raises(CliError, match="no process nginx") as caught:
            logs.show(home, ["nginx"], count=2, follow=False, raw=True)
        assert "gateway" in (caught.value.hint or "")

    def test_no_log_yet(self, home: Home) -> None:
        with pytest.raises(CliError, match="no log yet"):
            logs.show(home, [], count=2, follow=False, raw=True)

    def test_follows_also_after_the_log_was_rotated(self, home: Home) -> None:
        log = home.log("chat")
        log.write_text("first\n")
        code = (
            "import sys; from pathlib import Path\n"
            "from chatbot_cli.home import Home; from chatbot_cli.logs import show\n"
            "show(Home(Path(sys.argv[1])), ['chat'], count=5, follow=True, raw=True)"
        )
        command = [sys.executable, "-c", code, str(home.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own code
            assert process.stdout
            assert process.stdout.readline() == "first\n"
            with log.open("a") as file:
                file.write("half ")
                file.flush()
                time.sleep(0.5)
                file.write("line\n")
            assert process.stdout.readline() == "half line\n"
            log.rename(home.logs / "chat.log.1")
            time.sleep(0.5)
            log.write_text("new\n")
            assert process.stdout.readline() == "new\n"
            process.kill()
