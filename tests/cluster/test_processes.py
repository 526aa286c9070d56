"""Only what this cluster started is stopped, and it is found even where no record is."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from chatbot_cli.errors import CliError
from chatbot_cli.processes import Process, identity, stop
from localcluster import processes
from localcluster.paths import Layout

SLEEP = ("-c", "import time; print('here', flush=True); time.sleep(60)")


@pytest.fixture
def layout(layout: Layout) -> Iterator[Layout]:
    yield layout
    stop(processes.recorded(layout).values(), 5)


@pytest.fixture
def foreign() -> Iterator[int]:
    """A process of somebody else."""
    with subprocess.Popen([sys.executable, *SLEEP], stdout=subprocess.DEVNULL) as process:  # noqa: S603
        yield process.pid
        process.kill()


def record(layout: Layout, name: str, content: str) -> None:
    layout.processes.mkdir(exist_ok=True)
    (layout.processes / f"{name}.json").write_text(content)


class TestStart:
    def test_remembers_what_it_started_until_it_is_stopped(self, layout: Layout) -> None:
        started = processes.start(layout, "etcd", sys.executable, *SLEEP)
        assert processes.alive(layout) == {"etcd": started}
        processes.stop(layout, ["etcd"])
        assert not started.alive
        assert processes.recorded(layout) == {}

    def test_starts_nothing_twice(self, layout: Layout) -> None:
        first = processes.start(layout, "etcd", sys.executable, *SLEEP)
        assert processes.start(layout, "etcd", sys.executable, *SLEEP) == first

    def test_starts_again_what_has_died(self, layout: Layout) -> None:
        first = processes.start(layout, "etcd", sys.executable, *SLEEP)
        stop([first], 5)
        assert processes.start(layout, "etcd", sys.executable, *SLEEP) != first

    def test_hands_nothing_of_our_shell_down(self, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        process = processes.start(layout, "etcd", sys.executable, *SLEEP)
        with open(f"/proc/{process.pid}/environ") as environment:
            assert "OPENAI_API_KEY" not in environment.read()

    def test_what_ended_is_reported_with_the_end_of_its_log(self, layout: Layout) -> None:
        process = processes.start(layout, "etcd", sys.executable, "-c", "raise SystemExit('no such flag')")
        deadline = time.monotonic() + 10
        while process.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(CliError, match="etcd has ended") as failure:
            processes.still_runs(layout, "etcd", process)
        assert failure.value.details == ["no such flag"]


class TestRecords:
    def test_a_pid_that_went_to_another_process_is_never_signalled(self, layout: Layout, foreign: int) -> None:
        record(layout, "kubelet", json.dumps({"pid": foreign, "started": "another-boot:1"}))
        assert processes.alive(layout) == {}
        processes.stop(layout, ["kubelet"])
        assert identity(foreign) is not None
        assert processes.recorded(layout) == {}

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x", "started": ""}', "null"])
    def test_a_broken_record_is_none(self, layout: Layout, content: str) -> None:
        record(layout, "kubelet", content)
        assert processes.recorded(layout) == {}


class TestStrays:
    def test_finds_ours_by_name_and_folder(self, layout: Layout, foreign: int) -> None:
        named_etcd = [sys.executable, *SLEEP, f"--data-dir={layout.run}/etcd"]
        # A process is what it calls itself in its first argument: here both names are given by `exec -a`.
        with subprocess.Popen(["bash", "-c", 'exec -a etcd "$@"', "-", *named_etcd], stdout=subprocess.PIPE) as ours:  # noqa: S603, S607
            assert ours.stdout is not None
            assert ours.stdout.readline() == b"here\n"
            found = [process.pid for process in processes.strays(layout.run, processes.DAEMONS)]
            ours.kill()
        assert found == [ours.pid]
        assert foreign not in found

    def test_leaves_those_of_another_folder_and_other_programs(self, layout: Layout) -> None:
        command = [sys.executable, *SLEEP, f"--data-dir={layout.run}/etcd"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as editor:  # noqa: S603
            found = list(processes.strays(layout.run, processes.DAEMONS))
            elsewhere = list(processes.strays(layout.run.parent / "other", {os.path.basename(sys.executable)}))
            editor.kill()
        assert found == []
        assert elsewhere == []


def test_identity_of_a_process_that_is_gone() -> None:
    assert not Process(2**22 - 1, "x").alive
