"""The command line: what it says to those who cannot have a cluster here."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chatbot_cli.errors import CliError
from localcluster import cluster, node, packages, paths

ROOT = Path(__file__).parents[2]


STUB = """#!/bin/sh
# Python, uv and what they install, to make.
case "$*" in
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python && cp "$0" .venv/bin/uv ;;
    "-V") echo "Python 3.12.0" ;;
    "k8s/local env") echo "export KUBECONFIG=/there" ;;
esac
"""


def test_in_a_fresh_clone_a_shell_reads_settings_and_a_person_what_is_done(tmp_path: Path) -> None:
    needed = [ROOT / "Makefile", *ROOT.glob("requirements/*.txt"), *ROOT.glob("*/pyproject.toml")]
    for file in (*needed, *ROOT.glob("services/*/pyproject.toml")):
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    stub = tmp_path / "stub"
    stub.write_text(STUB)
    stub.chmod(0o755)
    made = subprocess.run(  # noqa: S603
        ["make", "--silent", "cluster-env", f"PYTHON={stub}"],  # noqa: S607
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == "export KUBECONFIG=/there\n"
    assert made.stderr.startswith("Making .venv/ with Python 3.12.0\nInstalling the installer (uv)\nInstalling ")


def call(*arguments: str, home: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603
        [sys.executable, ROOT / "k8s" / "local", *arguments],
        env={**os.environ, "CHATBOT_CLUSTER_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


class TestCall:
    def test_help_has_examples(self, tmp_path: Path) -> None:
        result = call("--help", home=tmp_path)
        assert result.returncode == 0
        assert "k8s/local up" in result.stdout

    def test_an_unknown_build_is_named(self, tmp_path: Path) -> None:
        result = call("build", "kubernets", home=tmp_path)
        assert result.returncode == 1
        assert "kubernets" in result.stderr
        assert "Traceback" not in result.stderr

    def test_env_is_for_a_shell(self, tmp_path: Path) -> None:
        result = call("env", home=tmp_path)
        shell = f'{result.stdout}\necho "$KUBECONFIG"'
        said = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout  # noqa: S603, S607
        assert said == f"{tmp_path}/run/admin.kubeconfig\n"

    def test_status_of_nothing_fails(self, tmp_path: Path) -> None:
        result = call("status", home=tmp_path)
        assert result.returncode == 1
        assert "not running" in result.stdout


class TestUp:
    @pytest.fixture(autouse=True)
    def home(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("CHATBOT_CLUSTER_HOME", str(tmp_path))

    def test_needs_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(CliError, match="Only root") as failure:
            cluster.up()
        assert "sudo" in (failure.value.hint or "")

    def test_needs_linux(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Darwin")
        with pytest.raises(CliError, match="Darwin") as failure:
            cluster.up()
        assert "kind" in (failure.value.hint or "")


class TestPackages:
    def test_without_apt_it_names_what_to_install(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(packages, "FOLDERS", ())
        monkeypatch.setattr(packages, "CNI_FOLDERS", (tmp_path,))
        assert set(packages.missing()) == {*packages.WANTED.values(), packages.CNI_PACKAGE}
        with pytest.raises(CliError, match="no apt-get") as failure:
            packages.install(["containerd"])
        assert "containerd" in (failure.value.hint or "")


def test_every_setting_in_the_configuration_is_filled_in(layout: paths.Layout) -> None:
    node.write_configuration(layout)
    written = [path for path in layout.conf.rglob("*") if path.is_file()]
    assert len(written) == 5
    assert not [path.name for path in written if "$" in path.read_text()]
