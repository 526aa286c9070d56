"""`kubectl chatbot pause`, `resume` and `rotate-keys`: what they write, and what they say."""

from tests.cli.cluster.conftest import Plugin
from tests.operator.running import World


def mode(world: World) -> str | None:
    found: str | None = world.bot()["spec"].get("mode")
    return found


class TestPause:
    def test_and_resume(self, plugin: Plugin, world: World) -> None:
        world.create_bot()
        said = plugin("pause", "harbour")
        assert said.code == 0, said
        assert "harbour is paused: it serves as before" in said.out
        assert f"kubectl chatbot resume harbour -n {world.namespace}" in said.out
        assert mode(world) == "Paused"
        said = plugin("resume", "harbour")
        assert "harbour is looked after" in said.out
        assert mode(world) == "Active"

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
