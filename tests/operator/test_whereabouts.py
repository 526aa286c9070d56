"""Where a bot and its stores are, as the status says it; nothing secret, and nothing that a Secret alone knows."""

from typing import Any

import pytest
from chatbot_resource.status import Endpoints, Status

from tests.operator.simulated import Cluster, make_bot
from tests.operator.specs import DEV, EXTERNAL


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(make_bot(DEV)).converge()


class TestEndpoints:
    def test_lead_to_the_gateway_in_the_cluster(self, cluster: Cluster) -> None:
        told = cluster.report().endpoints
        gateway = "http://demo-gateway.team.svc"
        assert told == Endpoints(gateway=gateway, public=[], openai=f"{gateway}/v1")

    def test_lead_in_from_outside_by_each_host_name(self) -> None:
        hosts = ["*.example.com", "chat.example.com", "chat.example.org"]
        exposure = {"type": "Ingress", "hostnames": hosts, "tlsSecretRef": {"name": "chat-tls"}}
        told = Cluster(make_bot(DEV | {"exposure": exposure})).converge().report().endpoints
        assert told is not None
        assert told.gateway == "http://demo-gateway.team.svc"
        assert told.public == ["https://chat.example.com", "https://chat.example.org"]
        assert told.openai == "https://chat.example.com/v1"


class TestStores:
    def told(self, cluster: Cluster) -> dict[str, Any]:
        found = cluster.report().stores
        assert found is not None
        return found.model_dump(by_alias=True, exclude_defaults=True)

    def test_of_ours_say_where_they_are_and_what_runs(self, cluster: Cluster) -> None:
        ready = {"ready": True}
        assert self.told(cluster) == {
            "postgres": ready
            | {"mode": "Dev", "address": "demo-postgres.team.svc:5432", "image": "chatbot-postgres:0.1.0"},
            "redis": ready | {"mode": "Dev", "address": "demo-redis.team.svc:6379", "image": "chatbot-valkey:0.1.0"},
            "vectors": ready
            | {
                "type": "Weaviate",
                "mode": "Managed",
                "address": "demo-weaviate.team.svc:8080",
                "image": "semitechnologies/weaviate:1.39.0",
            },
        }
        cluster.child("StatefulSet", "demo-redis")["status"]["readyReplicas"] = 0
        assert "ready" not in self.told(cluster)["redis"]

    def test_are_written_without_what_there_is_nothing_to_say_of(self, cluster: Cluster) -> None:
        cluster.child("StatefulSet", "demo-redis")["status"]["readyReplicas"] = 0
        told = cluster.report()
        written = told.model_dump(mode="json", by_alias=True)
        assert written["stores"]["redis"]["ready"] is False
        assert all(value or value is False for store in written["stores"].values() for value in store.values())
        assert Status.model_validate(written, extra="forbid") == told

    def test_of_yours_say_which_secret_leads_there(self) -> None:
        external = {"url": "https://user:word@vectors.example.com:8443/deep"}
        vectors = {"type": "Weaviate", "mode": "External", "external": external}
        told = self.told(Cluster(make_bot({"profile": "Dev", "stores": EXTERNAL | {"vectors": vectors}})).converge())
        assert told == {
            "postgres": {
                "mode": "External", "authSecret": "auth-db", "conversationSecret": "conversation-db", "ready": True
            },
            "redis": {"mode": "External", "secret": "cache", "ready": True},
            "vectors": {
                "type": "Weaviate", "mode": "External", "address": "vectors.example.com:8443", "ready": True
            },
        }  # fmt: skip

    def test_in_postgres_are_as_ready_as_that(self) -> None:
        cluster = Cluster(make_bot({"profile": "Dev", "stores": {"vectors": {"type": "PGVector"}}})).converge()
        assert self.told(cluster)["vectors"] == {"type": "PGVector", "ready": True}
        cluster.child("StatefulSet", "demo-postgres")["status"]["readyReplicas"] = 0
        assert self.told(cluster)["vectors"] == {"type": "PGVector"}
