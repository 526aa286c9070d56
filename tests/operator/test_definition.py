"""The definition of our kind is taken away while the operator runs, and comes back."""

from pathlib import Path

import pytest

from tests.operator.processes import operator
from tests.operator.running import BOT
from tests.support.apiserver import ApiServer, Object, install_crds, wait_for

pytestmark = pytest.mark.timeout(240)
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/chatbotdeployments.chatbot-operator.io"
BODY = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment", "spec": {"profile": "Dev"}}


def test_it_is_said_in_a_line_and_the_operator_goes_on_when_it_is_back(
    own_api_server: ApiServer, tmp_path: Path
) -> None:
    api, namespace = own_api_server, own_api_server.namespace()

    def create() -> Object:
        return api.create(BODY | {"metadata": {"name": BOT}}, namespace)

    def stores() -> set[str]:
        return {item["metadata"]["uid"] for item in api.list("StatefulSet", namespace)}

    with operator(api, tmp_path, namespace) as process:
        process.wait_ready()
        create()
        before = wait_for("children", stores)
        api.request("DELETE", CRD)
        assert process.process.wait(30) == 0, "the kubelet starts it anew"
        assert [line["level"] for line in process.lines() if line["level"] != "info"] == ["warning"]
        assert "a definition is gone" in process.said()
        assert "exception" not in process.said()
        assert "Traceback" not in process.said()
    with operator(api, tmp_path, namespace, "operator-1") as process:
        wait_for("it to wait", lambda: "is the CustomResourceDefinition installed?" in process.said())
        install_crds(api)
        create()
        # What the first one had stays until the garbage collector knows the kind of its owner again.
        wait_for("children again", lambda: stores() - before, 90)
        assert [line["level"] for line in process.lines() if line["level"] != "info"] == ["warning"]
        assert process.stop() == 0
