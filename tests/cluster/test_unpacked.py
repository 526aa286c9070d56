"""Programs that tests take out of Debian's packages."""

from pathlib import Path

import pytest
from chatbot_cli.errors import CliError
from localcluster import unpacked


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def test_what_is_there_is_not_missing(tmp_path: Path) -> None:
    (tmp_path / "promtool").write_text("")
    assert unpacked.missing(tmp_path) == ["prometheus"]


def test_one_that_is_installed_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in unpacked.PROGRAMS:
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert unpacked.missing(tmp_path / "bin") == []


def test_without_apt_it_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="no apt-get") as failure:
        unpacked.fetch(tmp_path / "bin")
    assert str(tmp_path / "bin") in (failure.value.hint or "")


def test_a_download_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt = tmp_path / "apt" / "apt-get"
    apt.parent.mkdir()
    apt.write_text("#!/bin/sh\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(apt.parent))
    with pytest.raises(CliError, match="could not download"):
        unpacked.fetch(tmp_path / "bin")
    assert list((tmp_path / "bin").iterdir()) == []
