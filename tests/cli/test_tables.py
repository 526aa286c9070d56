"""The table of `chatbot status` on a narrow terminal."""

import pytest
from chatbot_cli import tables
from chatbot_cli.status import Report, Row
from rich.console import Console


def test_a_reason_wraps_instead_of_being_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "out", Console(width=80, highlight=False, soft_wrap=True))
    reason = "database: ConnectionRefusedError, redis: timeout"
    row = Row("conversation", "not ready", reason, 1234567, 200 * 1024**2, 90_000, 40001, 40002)
    tables.show_status(Report("demo", "f.yaml", None, [row]), as_json=False)
    printed = capsys.readouterr().out
    assert "…" not in printed
    start = next(line for line in printed.splitlines() if line.startswith("process")).index("reason")
    told = [line[start:].strip() for line in printed.splitlines()[2:] if not line.startswith("Not")]
    assert "".join(told).replace(" ", "") == reason.replace(" ", "")
    assert "conversation  not ready" in printed
