"""A definition that is older than the commands or not there: on a server of its own, as others need theirs whole."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.cli.cluster.conftest import Plugin
from tests.operator.running import World
from tests.support.apiserver import ApiServer, wait_for

DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/chatbotdeployments.chatbot-operator.io"
SPEC = "/spec/versions/0/schema/openAPIV3Schema/properties/spec"
MODE, RULES = f"{SPEC}/properties/mode", f"{SPEC}/x-kubernetes-validations"


@pytest.fixture(scope="module")
def api_server(own_api_server: ApiServer) -> ApiServer:
    return own_api_server


@pytest.fixture
def without_modes(world: World) -> Iterator[None]:
    """The definition as it was before there was `spec.mode`; afterwards it is as it was."""
    schema = world.api.request("GET", DEFINITION)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = schema["properties"]["spec"]
    rules = [rule for rule in spec["x-kubernetes-validations"] if "self.mode" not in rule["rule"]]
    _patch(world, {"op": "replace", "path": RULES, "value": rules}, {"op": "remove", "path": MODE})
    wait_for("the definition to be served", lambda: _served(world) is False)
    yield
    before = {"op": "replace", "path": RULES, "value": spec["x-kubernetes-validations"]}
    _patch(world, {"op": "add", "path": MODE, "value": spec["properties"]["mode"]}, before)
    wait_for("the definition to be served", lambda: _served(world) is True)


def _patch(world: World, *steps: dict[str, Any]) -> None:
    world.api.request("PATCH", DEFINITION, steps, {"Content-Type": "application/json-patch+json"})


def _served(world: World) -> bool | None:
    """Whether a mode that is written is kept; None while the server changes from one definition to the other."""
    name = "probe"
    body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment", "metadata": {"name": name}}
    try:
        made = world.api.create(body | {"spec": {"mode": "Paused"}}, world.namespace)
        world.api.delete("ChatbotDeployment", world.namespace, name)
    except httpx2.HTTPStatusError as error:
        if "shutting down" in str(error):
            return None
        raise
    return "mode" in made["spec"]


@pytest.mark.usefixtures("without_modes")
def test_without_modes_is_told(plugin: Plugin, world: World) -> None:
    world.create_bot()
    said = plugin("pause", "harbour")
    assert said.code == 1
    assert "it has no spec.mode" in said.err
    assert "helm upgrade --install" in said.err


def test_that_is_not_served_is_told(plugin: Plugin, world: World) -> None:
    served = {"op": "replace", "path": "/spec/versions/0/served"}
    _patch(world, served | {"value": False})
    try:
        said = _until_unknown(plugin)
    finally:
        _patch(world, served | {"value": True})
        world.api.kubectl("wait", "--for=condition=Established", "crd/chatbotdeployments.chatbot-operator.io")
    assert "This cluster does not know ChatbotDeployments." in said
    assert "helm upgrade --install chatbot-operator" in said


def _until_unknown(plugin: Plugin) -> str:
    """kubectl and the API server remember for a moment what was served."""
    for _ in range(100):
        if "does not know" in (said := plugin("status").err):
            return said
    return said
