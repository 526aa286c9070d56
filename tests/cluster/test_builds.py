"""Programs appear whole or not at all, and are made anew when what they are made from changes."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from chatbot_cli.errors import CliError
from localcluster import builds
from localcluster.builds import BUILDS, Build, build_one, is_built, last_seconds, named

GREETING = 'package main\n\nvar greeting = "hello"\n\nfunc main() { println(greeting) }\n'

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """A module with one program under two names."""
    monkeypatch.setattr(builds, "SOURCE", tmp_path)
    source = tmp_path / "modules" / "greeter"
    source.mkdir(parents=True)
    (source / "go.mod").write_text("module chatbot.local/greeter\n\ngo 1.21\n")
    (source / "main.go").write_text(GREETING)
    return Build(
        "greeter", {".": "greet"}, minutes=1, gib=0, versions=("main.greeting=hi",), links={"greet": ("salute",)}
    )


def make(build: Build, folder: Path) -> None:
    build_one(build, folder, lambda compiled, seconds: None)


def says(program: Path) -> str:
    return subprocess.run([program], capture_output=True, text=True, check=True).stderr.strip()  # noqa: S603


@needs_go
class TestBuildOne:
    def test_makes_the_program_its_links_and_its_stamp(self, build: Build, tmp_path: Path) -> None:
        assert not is_built(build, tmp_path / "bin")
        make(build, tmp_path / "bin")
        assert says(tmp_path / "bin" / "greet") == says(tmp_path / "bin" / "salute") == "hi"
        assert is_built(build, tmp_path / "bin")
        assert last_seconds(build, tmp_path / "bin") is not None
        assert not (tmp_path / "bin" / ".greeter").exists()

    def test_a_failure_names_the_fault_and_leaves_the_old_program(self, build: Build, tmp_path: Path) -> None:
        make(build, tmp_path / "bin")
        (build.source / "main.go").write_text(GREETING + "nonsense\n")
        with pytest.raises(CliError) as failure:
            make(build, tmp_path / "bin")
        assert "main.go:6" in "\n".join(failure.value.details)
        assert says(tmp_path / "bin" / "greet") == "hi"
        assert not is_built(build, tmp_path / "bin")

    def test_goes_on_over_what_an_interrupted_build_left(self, build: Build, tmp_path: Path) -> None:
        half = tmp_path / "bin" / ".greeter" / "greeter"
        half.parent.mkdir(parents=True)
        half.write_bytes(b"\x7fELF")
        make(build, tmp_path / "bin")
        assert says(tmp_path / "bin" / "greet") == "hi"

    def test_refuses_a_disk_that_is_too_full(self, build: Build, tmp_path: Path) -> None:
        with pytest.raises(CliError, match="Too little disk"):
            make(replace(build, gib=10**6), tmp_path / "bin")

    def test_refuses_pins_without_checksums(self, build: Build, tmp_path: Path) -> None:
        (build.source / "go.mod").write_text(
            "module chatbot.local/greeter\n\ngo 1.21\n\nrequire golang.org/x/text v0.19.0\n"
        )
        (build.source / "main.go").write_text(
            'package main\n\nimport "golang.org/x/text/language"\n\nfunc main() { println(language.English) }\n'
        )
        with pytest.raises(CliError) as failure:
            make(build, tmp_path / "bin")
        assert "go.sum" in "\n".join(failure.value.details)


class TestIsBuilt:
    @pytest.fixture
    def built(self, build: Build, tmp_path: Path) -> Path:
        """As `build_one` leaves it, without the time it takes."""
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "greet").write_text("")
        (folder / "salute").symlink_to("greet")
        (folder / ".greeter.json").write_text(json.dumps({"inputs": builds.inputs(build), "seconds": 1}))
        return folder

    def test_holds_when_nothing_changed(self, build: Build, built: Path) -> None:
        assert is_built(build, built)

    @pytest.mark.parametrize("file", ["go.mod", "go.sum", "main.go"])
    def test_ends_when_an_input_changes(self, build: Build, built: Path, file: str) -> None:
        with open(build.source / file, "a") as changed:
            changed.write("// changed\n")
        assert not is_built(build, built)

    def test_ends_when_flags_change(self, build: Build, built: Path) -> None:
        assert not is_built(replace(build, tags="netgo"), built)

    @pytest.mark.parametrize("file", ["greet", "salute", ".greeter.json"])
    def test_ends_when_something_is_gone(self, build: Build, built: Path, file: str) -> None:
        (built / file).unlink()
        assert not is_built(build, built)

    @pytest.mark.parametrize("stamp", ["", "[]", "{", '{"inputs": 3}'])
    def test_a_broken_stamp_is_none(self, build: Build, built: Path, stamp: str) -> None:
        (built / ".greeter.json").write_text(stamp)
        assert not is_built(build, built)


class TestNamed:
    def test_keeps_the_order_of_need(self) -> None:
        assert [build.name for build in named(["jaeger", "kubernetes", "etcd"])] == ["etcd", "kubernetes", "jaeger"]

    def test_refuses_what_there_is_not(self) -> None:
        with pytest.raises(CliError, match="no build kubernets") as failure:
            named(["kubernets"])
        assert "metrics-server" in (failure.value.hint or "")


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_every_module_is_committed_with_its_checksums(build: Build) -> None:
    assert (build.source / "go.mod").is_file()
    assert (build.source / "go.sum").is_file()


@pytest.mark.parametrize(
    ("name", "package", "version"),
    [("kubernetes", "k8s.io/kubernetes", builds.KUBERNETES), ("kubernetes", "helm.sh/helm/v3", builds.HELM),
     ("metrics-server", "sigs.k8s.io/metrics-server", builds.METRICS_SERVER)],
)  # fmt: skip
def test_the_version_a_program_tells_is_the_one_it_is_pinned_to(name: str, package: str, version: str) -> None:
    (build,) = named([name])
    assert f"{package} v{version}" in (build.source / "go.mod").read_text()


def test_without_go_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(builds, "USUAL_GO", tmp_path / "go")
    with pytest.raises(CliError) as failure:
        builds.find_go()
    assert "go.dev/dl" in (failure.value.hint or "")
