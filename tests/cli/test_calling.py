"""Hints can be pasted: none names a `chatbot` that is not on the PATH."""

import re
from pathlib import Path

import chatbot_cli
import pytest
from chatbot_cli.calling import call

HINT = re.compile(r"""["'(: ]chatbot (up|down|status|logs|chat|token|link)\b""")


def test_it_is_a_path_where_the_path_does_not_lead_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert re.fullmatch(r"(\S+/chatbot|python -m chatbot_cli) status", call("status"))


def test_no_hint_names_the_bare_command() -> None:
    folder = Path(chatbot_cli.__file__).parent
    files = [path for path in folder.glob("*.py") if path.name != "app.py"]  # its --help names the program itself
    assert not [(path.name, line) for path in files for line in path.read_text().splitlines() if HINT.search(line)]
