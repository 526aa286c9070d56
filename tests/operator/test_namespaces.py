"""An operator of several namespaces goes on when one of them is deleted, and its rights in it are gone."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from chatbot_operator.connection import KUBECONFIG, Watches, kopf_session
from chatbot_operator.metrics import Metrics

from tests.operator.processes import operator
from tests.operator.relay import relay
from tests.support.apiserver import ApiServer, Object, wait_for

pytestmark = pytest.mark.timeout(240)
RIGHTS = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]


def test_the_others_are_watched_on(api_server: ApiServer, tmp_path: Path) -> None:
    system, gone, kept = (api_server.namespace() for _ in range(3))
    for namespace in (system, gone, kept):
        allow(api_server, system, namespace)
    with relay(api_server.layout.api_port) as way:
        kubeconfig = as_operator(api_server, system, way.port, tmp_path)
        told: dict[str, Any] = {
            "lease": {"namespace": system},
            "watch_namespaces": [gone, kept],
            "resync_seconds": 10,
        }
        with operator(api_server, tmp_path, system, "operator-0", kubeconfig=kubeconfig, **told) as process:
            process.wait_ready()
            create(api_server, gone)
            wait_for("children where both are there", lambda: has_children(api_server, gone), 60)
            delete(api_server, gone)
            # Rights are asked for when a watch begins.
            way.cut()
            create(api_server, kept)
            wait_for("children where there are rights", lambda: has_children(api_server, kept), 60)
            resyncs = process.metric("chatbot_operator_resyncs_total")
            wait_for("a resync", lambda: process.metric("chatbot_operator_resyncs_total") > resyncs, 30)
            assert process.stop() == 0
        with operator(api_server, tmp_path, system, "operator-1", kubeconfig=kubeconfig, **told) as process:
            process.wait_ready()
            api_server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": gone}})
            allow(api_server, system, gone)
            create(api_server, gone)
            wait_for("what came back to be watched", lambda: has_children(api_server, gone), 90)
            assert process.stop() == 0


async def test_that_kopf_is_told_of_a_lost_connection(
    api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It survives that for ever, and a refusal only for some time."""
    system = api_server.namespace()
    kubeconfig = as_operator(api_server, system, api_server.layout.api_port, tmp_path)
    monkeypatch.setenv(KUBECONFIG, str(kubeconfig))
    monkeypatch.setattr("chatbot_operator.connection.FORBIDDEN_SECONDS", 0.01)
    watches = Watches()
    session = (await kopf_session(Metrics("0.1.0"), watches)).aiohttp_session
    pods = f"/api/v1/namespaces/{system}/pods"
    watches.began(pods)
    async with session:
        for query in ("limit=1", "watch=true"):
            with pytest.raises(aiohttp.ClientConnectionError, match="may not watch"):
                await session.get(f"{api_server.layout.server}{pods}?{query}")
        assert len(watches) == 0, "nobody waits for it to begin again"
        # An operator of the whole cluster that may not watch is told so, and ends.
        async with session.get(f"{api_server.layout.server}/api/v1/pods?limit=1") as everywhere:
            assert everywhere.status == 403


def allow(server: ApiServer, system: str, namespace: str) -> None:
    where = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    metadata = {"metadata": {"name": "operator"}}
    server.request("POST", f"{where}/roles", metadata | {"rules": RIGHTS})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": system}
    server.request("POST", f"{where}/rolebindings", metadata | {"roleRef": role, "subjects": [subject]})


def as_operator(server: ApiServer, system: str, port: int, folder: Path) -> Path:
    """A kubeconfig of the ServiceAccount, by way of another port."""
    wait_for("the account", lambda: server.get("ServiceAccount", system, "default"))
    token = server.kubectl("-n", system, "create", "token", "default").strip()
    told = yaml.safe_load(server.kubeconfig.read_text().replace(f":{server.layout.api_port}", f":{port}"))
    told["users"][0]["user"] = {"token": token}
    file = folder / "operator.kubeconfig"
    file.write_text(yaml.safe_dump(told))
    return file


def create(server: ApiServer, namespace: str) -> Object:
    body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment", "metadata": {"name": "harbour"}}
    return server.create(body | {"spec": {"profile": "Dev"}}, namespace)


def delete(server: ApiServer, namespace: str) -> None:
    server.request("DELETE", f"/api/v1/namespaces/{namespace}")
    wait_for("the namespace to be gone", lambda: server.get("Namespace", namespace, namespace) is None, 60)


def has_children(server: ApiServer, namespace: str) -> bool:
    return len(server.list("Service", namespace, "app.kubernetes.io/managed-by=chatbot-operator")) > 0
