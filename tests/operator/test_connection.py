"""What Kopf is given to read."""

import pytest
from chatbot_operator.connection import KUBECONFIG, Watches, kopf_session
from chatbot_operator.kinds import path
from chatbot_operator.metrics import Metrics
from chatbot_resource.model import API_VERSION, KIND

from tests.support.apiserver import ApiServer


async def test_of_children_only_events_and_of_those_only_metadata(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KUBECONFIG, str(api_server.kubeconfig))
    namespace = api_server.namespace()
    for name in ("a", "b"):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"key": "sk-1"}}
        api_server.create(secret, namespace)
    api_server.create({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "harbour"}}, namespace)
    watches = Watches()
    session = (await kopf_session(Metrics("0.1.0"), watches)).aiohttp_session
    where = f"{api_server.layout.server}/api/v1/namespaces/{namespace}/secrets"
    async with session:
        async with session.get(f"{api_server.layout.server}{path(KIND, namespace)}?limit=500") as listed:
            bots = await listed.json()
        assert [item["metadata"]["name"] for item in bots["items"]] == ["harbour"]
        assert bots["items"][0].keys() == {"apiVersion", "kind", "metadata"}
        assert "managedFields" not in bots["items"][0]["metadata"]
        async with session.get(f"{where}?limit=500") as listed:
            found = await listed.json()
        assert found["items"] == []
        assert found["metadata"]["remainingItemCount"] == 1, "all but one"
        assert found["metadata"]["resourceVersion"]
        assert not found["metadata"].get("continue")
        async with session.get(f"{where}?limit=500&labelSelector=none") as listed:
            assert (await listed.json())["items"] == []
        async with session.get(f"{where}?watch=true") as watched:
            line = await watched.content.readline()
        assert b'"name":"a"' in line
        assert b'"data"' not in line
        watches.lost_track.clear()
        async with session.get(f"{where}?limit=500"):
            assert watches.lost_track.is_set(), "listed again, so the watch could not go on"
        # What is neither, such as what kinds there are, is given as it is.
        async with session.get(f"{api_server.layout.server}/apis") as groups:
            assert (await groups.json())["kind"] == "APIGroupList"
