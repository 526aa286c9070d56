"""The last words of `chatbot up` can be pasted into a shell, whatever the question holds."""

import json
import shlex

import pytest
from chatbot_cli.closing import show
from chatbot_cli.home import Home
from chatbot_cli.up import Outcome


@pytest.mark.parametrize("question", ["When?", 'What\'s `id` in $HOME "now"; [bold]\\?'])
def test_the_suggested_question_stays_one_word(home: Home, question: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(Outcome(home, 8080, "http://127.0.0.1:8080/#/sign-in?token=x", True, 1.0, question))
    printed = capsys.readouterr().out
    said = next(line for line in printed.splitlines() if " chat " in line and question[:4] in line)
    assert shlex.split(said)[-2:] == ["chat", question]
    body = next(line for line in printed.splitlines() if line.strip().startswith("-d"))
    assert json.loads(shlex.split(body)[1]) == {"content": question}
