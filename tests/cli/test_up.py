"""`chatbot up` and its companions for real: the whole platform from the sample, killed, interrupted, stopped, removed.

One bot lives through the tests of this module in their order; starting one for each would take minutes.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from chatbot_cli.home import Home
from chatbot_cli.postgres import Postgres
from chatbot_cli.processes import identity

from tests.support.apiserver import wait_for
from tests.support.serving import free_port

pytestmark = pytest.mark.timeout(300)

SAMPLE = Path(__file__).parents[2] / "k8s" / "samples" / "minimal.yaml"
QUESTION = "How do I connect to the Wi-Fi?"


@dataclass
class Machine:
    """A laptop with a `chatbot` command."""

    home: Path
    port: int
    docs: Path
    said: list[str] = field(default_factory=list)
    """Conversations that must outlive every restart."""

    @property
    def environment(self) -> dict[str, str]:
        told = {"PATH": os.environ["PATH"], "CHATBOT_HOME": str(self.home), "OLLAMA_HOST": "127.0.0.1:1"}
        return told | {"COLUMNS": "160"}  # whether a reason is folded depends on how much memory a process takes

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "chatbot_cli", *arguments]

    def run(self, *arguments: str, code: int | None = 0) -> "subprocess.CompletedProcess[str]":
        ended = subprocess.run(  # noqa: S603 - our own program
            self.command(*arguments),
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            timeout=200,
        )
        assert code is None or ended.returncode == code, ended.stdout + ended.stderr
        return ended

    def up(self, *arguments: str, code: int = 0) -> str:
        ended = self.run("up", "-f", str(SAMPLE), "--port", str(self.port), *arguments, code=code)
        return ended.stdout + ended.stderr

    def status(self) -> dict[str, dict[str, Any]]:
        report = json.loads(self.run("status", "--json", code=None).stdout)
        return {row["name"]: row for row in report["processes"]}

    def pids(self) -> dict[str, int]:
        return {name: row["pid"] for name, row in self.status().items()}

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.run('token').stdout.strip()}"}
        return httpx2.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, trust_env=False).json()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("up")
    (folder / "docs").mkdir()
    (folder / "docs" / "kiln.md").write_text("# The pottery kiln\n\nThe kiln\0 fires on Fridays at 1240 degrees.\n")
    (folder / "docs" / "picture.md").write_bytes(b"\x89PNG\xff")
    machine = Machine(folder / "home", free_port(), folder / "docs")
    yield machine
    for folder in machine.home.glob("*"):
        machine.run("down", "--name", folder.name, "--timeout", "2", code=None)


def sign_in(machine: Machine, text: str) -> dict[str, Any]:
    """Use the printed link the way the page does."""
    found = re.search(r"#/sign-in\?token=(\S+)", text)
    assert found
    url = f"http://127.0.0.1:{machine.port}/api/v1/auth/link"
    response = httpx2.post(url, json={"token": found[1]}, trust_env=False)
    assert response.status_code == 200, response.text
    return dict(response.json())


def check_the_curl_example(text: str) -> None:
    """No token may stand in an argument, where every user of the machine can read it."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if "token --header | curl" in line)
    example = "\n".join(lines[first : first + 3])
    assert re.fullmatch(
        r" *\S+ token --header \| curl -N -H @- http://127\.0\.0\.1:\d+/api/v1/chat/send \\\n"
        r" *-H 'Content-Type: application/json' -H 'Accept: text/event-stream' \\\n"
        r""" *-d '\{"content": ".+"\}'""",
        example,
    ), example


class TestUp:
    def test_the_first_start_ends_with_a_bot_that_answers(self, machine: Machine) -> None:
        text = machine.up("--knowledge", str(machine.docs))
        assert "harbour is ready" in text
        assert "2 Markdown files" in text
        assert "picture.md: not UTF-8 text" in text
        assert "answers come back" in text
        check_the_curl_example(text)
        tokens = sign_in(machine, text)
        me = httpx2.get(
            f"http://127.0.0.1:{machine.port}/api/v1/users/me",
            headers={"Authorization": f"Bearer {tokens['access_token']}"},
            trust_env=False,
        ).json()
        assert (me["email"], me["role"]) == ("admin@harbour.example", "admin")

    def test_a_token_opens_no_session_that_stays(self, machine: Machine) -> None:
        postgres = Postgres(Home(machine.home / "harbour"))
        living = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL"
        before = postgres.query(living, "auth")
        assert machine.get("/api/v1/users/me")["role"] == "admin"
        assert machine.run("token", "--header").stdout.startswith("Authorization: Bearer ey")
        assert postgres.query(living, "auth") == before

    def test_nobody_drains_longer_than_down_waits(self, machine: Machine) -> None:
        told = [json.loads(path.read_text()) for path in (machine.home / "harbour" / "config").glob("*.json")]
        assert {settings["drain_seconds"] for settings in told} == {20}

    def test_every_process_is_ready(self, machine: Machine) -> None:
        rows = machine.status()
        assert {row["state"] for row in rows.values()} == {"ready"}
        assert set(rows) == {"gateway", "auth", "chat", "conversation", "worker", "postgres", "valkey"}
        assert all(row["memory_bytes"] > 0 for row in rows.values())

    def test_it_answers_from_the_faqs_and_from_the_folder(self, machine: Machine) -> None:
        faq = machine.run("chat", QUESTION)
        assert "harbour-members" in faq.stdout
        assert QUESTION in faq.stderr
        assert "1240" in machine.run("chat", "When does the kiln fire?").stdout

    def test_no_secret_is_in_a_log_an_argument_or_an_environment(self, machine: Machine) -> None:
        folder = machine.home / "harbour"
        secrets = [path.read_text() for path in (folder / "secrets").rglob("*") if path.is_file()]
        secrets = [secret for secret in secrets if "://" not in secret]
        seen = [path.read_text(errors="replace") for path in (folder / "logs").iterdir()]
        seen += [path.read_text() for path in (folder / "config").rglob("*") if path.is_file()]
        for pid in machine.pids().values():
            seen += [Path(f"/proc/{pid}/{name}").read_text(errors="replace") for name in ("cmdline", "environ")]
        assert not [secret[:4] for secret in secrets if any(secret in text for text in seen)]
        assert all(path.stat().st_mode & 0o077 == 0 for path in (folder / "secrets").rglob("*"))

    def test_again_changes_nothing_and_gives_a_new_link(self, machine: Machine) -> None:
        before = machine.pids()
        text = machine.up()
        assert "was running already, unchanged" in text
        assert "as last time" in text
        assert machine.pids() == before
        sign_in(machine, text)

    def test_what_was_killed_is_shown_and_brought_back(self, machine: Machine) -> None:
        before = machine.pids()
        killed = [before[name] for name in ("auth", "postgres")]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        while any(map(identity, killed)):
            time.sleep(0.1)
        ended = machine.run("status", code=1)
        assert re.search(r"auth +down .*ended on its own", ended.stdout)
        text = machine.up()
        assert "no longer running: " in text
        after = machine.pids()
        assert {name for name in before if before[name] != after[name]} == {"auth", "postgres"}
        # Who was there before finds Postgres again by itself.
        wait_for("all to be ready", lambda: machine.run("status", code=None).returncode == 0, 60)

    def test_a_changed_file_restarts_only_whom_it_concerns(self, machine: Machine, tmp_path: Path) -> None:
        before = machine.pids()
        file = tmp_path / "changed.yaml"
        file.write_text(SAMPLE.read_text().replace("profile: Dev", "profile: Dev\n  limits: {perMinute: 77}"))
        machine.run("up", "-f", str(file), "--port", str(machine.port))
        after = machine.pids()
        assert {name for name in before if before[name] != after[name]} == {"gateway"}

    def test_what_it_goes_on_without_is_told_and_stops_nobody(self, machine: Machine, tmp_path: Path) -> None:
        file = tmp_path / "tools.yaml"
        tools = f"{{mcpServers: [{{name: shop, url: 'http://127.0.0.1:{free_port()}/mcp'}}]}}"
        file.write_text(SAMPLE.read_text().replace("profile: Dev", f"profile: Dev\n  tools: {tools}"))
        text = machine.run("up", "-f", str(file), "--port", str(machine.port)).stdout
        assert re.search(r"! Degraded +chat goes on without tools \(ToolMissing\); why: .*logs chat", text)
        assert "harbour is ready" in text
        chat = machine.status()["chat"]
        assert (chat["state"], chat["reason"]) == ("ready", "goes on without tools (ToolMissing)")

    def test_a_second_bot_on_the_same_port_is_refused_by_name(self, machine: Machine, tmp_path: Path) -> None:
        file = tmp_path / "other.yaml"
        file.write_text(SAMPLE.read_text().replace("name: harbour\n", "name: other\n"))
        ended = machine.run("up", "-f", str(file), "--port", str(machine.port), code=1)
        assert f"Port {machine.port} is in use by the bot harbour" in ended.stderr
        assert "--port" in ended.stderr


class TestDown:
    def test_stops_everything_and_keeps_what_was_said(self, machine: Machine) -> None:
        said = [item["id"] for item in machine.get("/api/v1/conversations")["data"]]
        assert said
        pids = machine.pids()
        text = machine.run("down").stdout
        assert "PostgreSQL" in text
        assert not [name for name, pid in pids.items() if identity(pid)]
        assert machine.run("status", code=1).stdout.count("down") >= 7
        assert "was not running" in machine.run("down").stdout
        machine.said += said

    def test_a_busy_port_is_refused_with_who_holds_it(self, machine: Machine) -> None:
        with socket.create_server(("127.0.0.1", machine.port)):
            text = machine.up(code=1)
        assert f"Port {machine.port} is in use by process {os.getpid()}" in text

    def test_ctrl_c_while_starting_leaves_a_state_to_go_on_from(self, machine: Machine) -> None:
        with subprocess.Popen(  # noqa: S603 - our own program
            machine.command("up", "-f", str(SAMPLE), "--port", str(machine.port)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=machine.environment,
            start_new_session=True,
        ) as process:
            assert process.stdout
            for line in process.stdout:
                if "Databases" in line:
                    break
            time.sleep(0.5)
            os.killpg(process.pid, signal.SIGINT)
            text = process.stdout.read()
        assert process.returncode == 130, text
        assert "What has started keeps running" in text
        survivors = {name: pid for name, pid in machine.pids().items() if pid}
        assert {"postgres", "chat"} <= set(survivors)
        machine.up()
        assert survivors.items() <= machine.pids().items()

    def test_what_was_said_is_still_there(self, machine: Machine) -> None:
        there = {item["id"] for item in machine.get("/api/v1/conversations")["data"]}
        assert machine.said
        assert set(machine.said) <= there

    def test_purge_asks_and_then_removes_everything(self, machine: Machine) -> None:
        assert machine.run("down", "--purge", code=None).returncode != 0
        assert (machine.home / "harbour" / "data" / "postgres").exists()
        machine.run("down", "--purge", "--yes")
        assert list(machine.home.iterdir()) == [] or not (machine.home / "harbour").exists()
        assert "nothing to stop" in machine.run("down").stdout


class TestMistakes:
    """What is wrong is said before anything is started."""

    def up(self, machine: Machine, text: str, tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        file = tmp_path / "f.yaml"
        file.write_text(text)
        return machine.run("up", "-f", str(file), "--port", str(free_port()), *arguments, code=None)

    def test_in_the_file(self, machine: Machine, tmp_path: Path) -> None:
        text = SAMPLE.read_text().replace("profile: Dev", "profile: Dev\n  limits: {perMinut: 1}")
        ended = self.up(machine, text, tmp_path)
        assert ended.returncode == 2
        assert ":9: spec.limits.perMinut: unknown field; did you mean perMinute?" in ended.stderr

    def test_in_a_reference(self, machine: Machine, tmp_path: Path) -> None:
        ended = self.up(machine, SAMPLE.read_text().split("---")[0], tmp_path)
        assert ended.returncode == 1
        assert "there is no ConfigMap harbour-faqs in this file" in ended.stderr

    def test_in_the_knowledge_folder(self, machine: Machine, tmp_path: Path) -> None:
        ended = self.up(machine, SAMPLE.read_text(), tmp_path, "--knowledge", str(tmp_path / "none"))
        assert "There is no folder" in ended.stderr

    def test_a_state_folder_that_cannot_be_used(self, machine: Machine, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        broken = Machine(tmp_path / "file", machine.port, machine.docs)
        text = broken.up(code=1)
        assert "A file stands where a folder is needed" in text
        assert "Traceback" not in text
