"""`kubectl chatbot pause`, `resume`, `retry` and `rotate-keys`: what they write, and what they say."""

from typing import Any

import pytest

from tests.cli.cluster.conftest import Plugin
from tests.operator.running import World
from tests.operator.simulated import NOW


def mode(world: World) -> str | None:
    found: str | None = world.bot()["spec"].get("mode")
    return found


def told(world: World, serves: str, **version: Any) -> None:
    """What an operator has written."""
    condition = {"type": "Available", "status": serves, "reason": "ImagePullFailed", "message": "Pod p cannot pull it."}
    when = {"lastTransitionTime": NOW, "observedGeneration": 1}
    status = {"observedGeneration": 1, "phase": "Degraded", "conditions": [condition | when], "components": []}
    status |= {"componentsReady": "0/4", "url": "", "model": "", "version": version, "operatorVersion": "0.1.0"}
    world.api.patch_status("ChatbotDeployment", world.namespace, "harbour", status)


class TestPause:
    def test_and_resume(self, plugin: Plugin, world: World) -> None:
        world.create_bot()
        said = plugin("pause", "harbour")
        assert said.code == 0, said
        assert "harbour is paused: no operator has looked at it yet" in said.out
        assert f"kubectl chatbot resume harbour -n {world.namespace}" in said.out
        assert mode(world) == "Paused"
        said = plugin("resume", "harbour")
        assert "harbour is no longer paused" in said.out
        assert mode(world) == "Active"

    @pytest.mark.parametrize(
        ("serves", "said"),
        [
            ("True", "harbour is paused: it serves, and goes on as it is, and while it is, the operator reports"),
            ("False", "harbour is paused: it does not serve (ImagePullFailed: Pod p cannot pull it), and while"),
        ],
    )
    def test_says_whether_it_serves(self, plugin: Plugin, world: World, serves: str, said: str) -> None:
        world.create_bot()
        told(world, serves)
        assert said in " ".join(plugin("pause", "harbour").out.split())

    def test_twice_is_once(self, plugin: Plugin, world: World) -> None:
        world.create_bot()
        plugin("pause", "harbour")
        before = world.bot()["metadata"]["resourceVersion"]
        said = plugin("pause", "harbour")
        assert (said.code, said.out.split()[1:3]) == (0, ["As", "before"])
        assert world.bot()["metadata"]["resourceVersion"] == before

    def test_a_bot_that_hibernates_is_woken_and_not_paused(self, plugin: Plugin, world: World) -> None:
        world.create_bot({"profile": "Dev", "mode": "Hibernated"})
        assert plugin("pause", "harbour").code == 1
        assert plugin("restart", "harbour", "chat").code == 1
        said = plugin("resume", "harbour")
        assert "harbour wakes up" in said.out
        assert mode(world) == "Active"

    def test_it_is_told_by_explain(self, plugin: Plugin, world: World) -> None:
        world.create_bot({"profile": "Dev", "mode": "Paused"})
        assert "It is paused: the operator changes nothing." in plugin("explain", "harbour").out


class TestRetry:
    def test_asks_by_an_annotation_where_something_was_given_up(self, plugin: Plugin, world: World) -> None:
        world.create_bot()
        given_up = {"generation": 1, "version": "0.2.0", "revision": "harbour-1", "message": "no image."}
        told(world, "True", rolledBack=given_up)
        said = plugin("retry", "harbour")
        assert said.code == 0, said
        assert "harbour is tried again as its resource says, in generation 1" in " ".join(said.out.split())
        assert world.bot()["metadata"]["annotations"]["chatbot-operator.io/retry"].startswith("20")

    def test_says_so_where_nothing_was(self, plugin: Plugin, world: World) -> None:
        world.create_bot()
        said = plugin("retry", "harbour")
        assert (said.code, "Nothing of harbour has been given up." in said.err) == (1, True)
        assert "annotations" not in world.bot()["metadata"]


class TestRotateKeys:
    def test_asks_by_an_annotation_that_is_new_each_time(self, plugin: Plugin, world: World) -> None:
        world.create_bot()
        said = plugin("rotate-keys", "harbour")
        assert said.code == 0, said
        assert "nobody is signed out" in said.out
        annotations = world.bot()["metadata"]["annotations"]
        assert annotations["chatbot-operator.io/rotate-keys"].startswith("20")
        assert world.bot()["metadata"]["generation"] == 1

    def test_of_a_bot_that_is_not_there(self, plugin: Plugin) -> None:
        assert plugin("rotate-keys", "harbour").code == 1
