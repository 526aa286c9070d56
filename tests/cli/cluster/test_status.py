"""What `kubectl chatbot status` shows of one bot and of many."""

import re
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from chatbot_cli.cluster import status
from chatbot_cli.cluster.resources import Bot
from chatbot_operator.reconcile import Reconciler
from rich.console import Console

from tests.cli.cluster.conftest import Plugin, converge
from tests.operator.running import World


class TestTable:
    @pytest.mark.usefixtures("kubelet")
    async def test_of_a_namespace(self, plugin: Plugin, world: World, reconciler: Reconciler) -> None:
        world.create_bot()
        await converge(world, reconciler)
        world.create_bot(name="quay")
        rows = [line.split() for line in plugin("status").out.splitlines()]
        assert rows[0] == ["name", "serves", "ready", "phase", "version", "components", "age", "reason"]
        assert rows[1][:6] == ["harbour", "yes", "yes", "Ready", "0.1.0", "4/4"]
        assert rows[1][-1] == "Settled"
        assert rows[2][0:3] == ["quay", "?", "?"]
        assert " ".join(rows[2]).endswith("no operator has looked at it yet")

    def test_of_all_namespaces(self, anywhere: Plugin, world: World) -> None:
        world.create_bot()
        rows = [line.split() for line in anywhere("status", "-A").out.splitlines()]
        assert [world.namespace, "harbour"] in [row[:2] for row in rows]

    def test_of_nothing_says_how_to_make_one(self, plugin: Plugin) -> None:
        assert "kubectl apply -f k8s/samples/minimal.yaml" in plugin("status").out


class TestOne:
    @pytest.mark.usefixtures("kubelet")
    async def test_all_of_it(self, plugin: Plugin, world: World, reconciler: Reconciler) -> None:
        world.create_bot({"profile": "Dev", "images": {"chat": "broken:1"}})
        await converge(world, reconciler, "MigrationsComplete")
        await converge(world, reconciler, "Available", "False")
        said = plugin("status", "harbour").out
        lines = {line.split()[0]: line for line in reversed(said.splitlines()) if line.split()}
        assert re.search(r"^admin +harbour-admin +\d+ s ago +in the chatbot itself +$", said, re.MULTILINE)
        assert re.search(r"^redis +harbour-redis +\d+ s ago +when its Secret is deleted$", said, re.MULTILINE)
        assert lines["harbour"].startswith(f"harbour  in {world.namespace}, ")
        assert f"http://harbour-gateway.{world.namespace}.svc" in lines["url"]
        assert lines["gateway"].split()[1:4] == ["0", "0", "0"]
        assert "WaitingForComponent: Waits for" in lines["gateway"]
        assert "harbour-auth-db-" in said
        assert lines["PostgresReady"].split()[1] == "True"
        where = f"{world.namespace}.svc"
        assert lines["redis"].split() == ["redis", "Dev", "StoreReady", f"harbour-redis.{where}:6379"]
        assert lines["vectors"].split()[:4] == ["vectors", "Weaviate,", "Managed", "StoreReady"]

    @pytest.mark.usefixtures("kubelet")
    async def test_an_edit_that_nobody_has_seen(self, plugin: Plugin, world: World, reconciler: Reconciler) -> None:
        world.create_bot()
        await converge(world, reconciler)
        world.api.patch("ChatbotDeployment", world.namespace, "harbour", {"spec": {"limits": {"perMinute": 7}}})
        assert "the operator has not seen generation 2 yet" in plugin("status", "harbour").out

    @pytest.mark.parametrize(
        ("stage", "words"), [("", ""), ("Asked", "asked for now"), ("Publishing", "is under way"), ("Newer", "")]
    )
    def test_says_what_a_rotation_of_keys_is_at(self, stage: str, words: str) -> None:
        keys = {"purpose": "signing-keys", "rotatedAt": "2026-11-01T00:00:00Z", "nextRotation": "2026-12-01T00:00:00Z"}
        told = {"secrets": [keys | {"rotation": stage}]}
        bot = Bot({"metadata": {"name": "demo", "namespace": "team"}, "status": told})
        console = Console(width=200)
        with console.capture() as captured:
            console.print(status.one(bot, datetime.now(UTC)))
        [row] = [line.rstrip() for line in captured.get().splitlines() if "signing-keys" in line]
        assert words in row
        assert row.endswith("2026-12-01T00:00:00Z") is not bool(words)

    def test_nothing_is_cut_on_a_narrow_terminal(self) -> None:
        long = "Pod harbour-chat-7f9c-abcde cannot pull image registry.example.com/team/chat:9 (not found)"
        condition = {"type": "Ready", "status": "False", "reason": "ImagePullFailed", "message": long}
        raw = {
            "metadata": {"name": "harbour", "namespace": "team", "creationTimestamp": "2026-11-21T06:00:00Z"},
            "status": {"conditions": [condition | {"lastTransitionTime": "2026-11-21T06:00:00Z"}]},
        }
        console = Console(width=80)
        with console.capture() as captured:
            console.print(status.one(Bot(raw), datetime(2026, 11, 21, 6, 1, tzinfo=UTC)))
        assert "…" not in captured.get()
        assert all(word in captured.get() for word in long.split()[:3])


class TestWatch:
    def test_in_a_pipe_tells_each_change_until_it_is_interrupted(self, plugin: Plugin, world: World) -> None:
        world.create_bot()
        command = [sys.executable, "-m", "chatbot_cli.cluster", "status", "--watch", "-n", world.namespace]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
            assert process.stdout is not None
            heads = (line for line in process.stdout if line.startswith(("name", "harbour", "quay")))
            assert [next(heads).split()[0] for _ in range(2)] == ["name", "harbour"]
            world.create_bot(name="quay")
            seen = [next(heads).split()[0] for _ in range(3)]
            while "quay" not in seen:
                seen.append(next(heads).split()[0])
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
