"""`kubectl chatbot pause`, `resume` and `rotate-keys`: what they write, and what they say."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.cluster.conftest import Plugin
from tests.operator.running import World
from tests.support.apiserver import wait_for

DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/chatbotdeployments.chatbot-operator.io"
SPEC = "/spec/versions/0/schema/openAPIV3Schema/properties/spec"
MODE, RULES = f"{SPEC}/properties/mode", f"{SPEC}/x-kubernetes-validations"


def mode(world: World) -> str | None:
    found: str | None = world.bot()["spec"].get("mode")
    return found


@pytest.fixture
def without_modes(world: World) -> Iterator[None]:
    """The definition as it was before there was `spec.mode`; afterwards it is as it was."""
    schema = world.api.request("GET", DEFINITION)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = schema["properties"]["spec"]
    rules = [rule for rule in spec["x-kubernetes-validations"] if "self.mode" not in rule["rule"]]
    _patch(world, {"op": "replace", "path": RULES, "value": rules}, {"op": "remove", "path": MODE})
    wait_for("the definition to be served", lambda: not _served(world))
    yield
    before = {"op": "replace", "path": RULES, "value": spec["x-kubernetes-validations"]}
    _patch(world, {"op": "add", "path": MODE, "value": spec["properties"]["mode"]}, before)
    wait_for("the definition to be served", lambda: _served(world))


def _patch(world: World, *steps: dict[str, Any]) -> None:
    world.api.request("PATCH", DEFINITION, steps, {"Content-Type": "application/json-patch+json"})


def _served(world: World) -> bool:
    """Whether a mode that is written is kept."""
    name = "probe"
    body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment", "metadata": {"name": name}}
    made = world.api.create(body | {"spec": {"mode": "Paused"}}, world.namespace)
    world.api.delete("ChatbotDeployment", world.namespace, name)
    return "mode" in made["spec"]


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


@pytest.mark.usefixtures("without_modes")
def test_a_definition_without_modes_is_told(plugin: Plugin, world: World) -> None:
    world.create_bot()
    said = plugin("pause", "harbour")
    assert said.code == 1
    assert "it has no spec.mode" in said.err
    assert "helm upgrade --install" in said.err


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
