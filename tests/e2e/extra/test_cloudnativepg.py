"""What a real CloudNativePG makes of a bot's Postgres: it takes the Cluster as we write it, makes what our pods read,
and says how it goes. Postgres itself is played: there is no image of it here, nor anything to run one.
"""

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from chatbot_operator.components.metadata import CLOUD_NATIVE_PG

from tests.e2e.extra.beside import Beside
from tests.e2e.extra.cloudnativepg import is_instance, playing_instances, running_cloud_native_pg
from tests.operator.conftest import world
from tests.operator.running import BOT, World
from tests.operator.test_cloudnativepg import stores
from tests.support.apiserver import ApiServer, Object, playing_kubelet

__all__ = ["world"]
pytestmark = [pytest.mark.extra, pytest.mark.timeout(600)]

CLUSTER = f"{BOT}-postgres"
FIXED = {"scaling": {"mode": "Fixed", "replicas": 1}}
DEV = {"profile": "Dev", "components": {"chat": FIXED}} | stores()
"""Without an autoscaler, which would say when it likes that nobody measures cpu here."""
ROLES = {f"{CLUSTER}-auth", f"{CLUSTER}-conversation"}
HEALTHY = "Cluster in healthy state"


class Stored(Beside):
    def __init__(self, world: World) -> None:
        super().__init__(world, frozenset(CLOUD_NATIVE_PG))

    def exists(self) -> bool:
        return self.world.get("Cluster", CLUSTER) is not None

    def cluster(self) -> Object:
        return self.world.existing("Cluster", CLUSTER)

    def made(self, kind: str) -> dict[str, Object]:
        """What CloudNativePG has made for the Cluster, by name."""
        uid = self.cluster()["metadata"]["uid"]
        found = self.world.api.list(kind, self.world.namespace)
        owned = [item for item in found if any(owner["uid"] == uid for owner in _owners(item))]
        return {item["metadata"]["name"]: item for item in owned}

    def uids(self, kind: str) -> set[str]:
        return {item["metadata"]["uid"] for item in self.made(kind).values()}

    def told(self) -> object:
        return (self.world.get("Cluster", CLUSTER) or {}).get("status"), super().told()


def _owners(item: Object) -> list[Object]:
    return item["metadata"].get("ownerReferences") or []


@pytest.fixture(scope="module")
def cloud_native_pg(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running_cloud_native_pg(api_server, tmp_path_factory.mktemp("cloudnativepg")):
        yield


@pytest.fixture
def stored(cloud_native_pg: None, world: World) -> Stored:
    return Stored(world)


async def test_starts_hibernates_and_wakes(stored: Stored, tmp_path: Path) -> None:
    world, run = stored.world, stored.run
    world.create_bot(DEV)
    await stored.until("the Job of the first start", lambda: stored.exists() and bool(stored.made("Job")))
    await run.until("PostgresReady", "False", "Starting")
    assert "Setting up primary (Creating primary instance harbour-postgres-1)" in stored.said("PostgresReady")
    await stored.settles()

    # What it reads of ours, and ours of what it makes.
    spec = stored.cluster()["spec"]
    assert spec["imageName"].startswith("ghcr.io/cloudnative-pg/postgresql:"), "its webhook was asked"
    assert set(stored.made("Secret")) == {f"{CLUSTER}-{name}" for name in ("ca", "replication", "server")}
    assert "BEGIN CERTIFICATE" in b64decode(stored.made("Secret")[f"{CLUSTER}-ca"]["data"]["ca.crt"]).decode()
    assert [port["port"] for port in stored.made("Service")[f"{CLUSTER}-rw"]["spec"]["ports"]] == [5432]
    rules = stored.made("Role")[CLUSTER]["rules"]
    assert {name for rule in rules if "secrets" in rule["resources"] for name in rule["resourceNames"]} >= ROLES
    assert set(stored.made("PersistentVolumeClaim")) == {f"{CLUSTER}-1"}

    with (
        playing_kubelet(world.api, world.namespace, lambda pod: not is_instance(pod)),
        playing_instances(world.api, world.namespace, CLUSTER, tmp_path),
    ):
        await stored.until("a healthy Cluster", lambda: stored.cluster()["status"].get("phase") == HEALTHY)
        await run.until("PostgresReady", "True")
        await run.until("Ready", "True")
        await stored.settles()
        chosen = world.existing("NetworkPolicy", f"{CLUSTER}-cluster")["spec"]["podSelector"]["matchLabels"]
        (before,) = stored.made("Pod").values()
        assert chosen.items() <= before["metadata"]["labels"].items()

        # An edit: it replaces the pod, and what its webhook has filled in stays.
        run.edit(stores={"postgres": {"resources": {"requests": {"memory": "512Mi"}}}})
        await stored.until("another pod", lambda: before["metadata"]["uid"] not in stored.uids("Pod"))
        await run.until("Ready", "True")
        assert stored.cluster()["spec"]["imageName"] == spec["imageName"]
        await stored.settles()

        run.edit(mode="Hibernated")
        await run.until("PostgresReady", "False", "Hibernated")
        assert stored.made("Pod") == {}
        await stored.settles()
        run.edit(mode="Active")
        await run.until("Ready", "True")
        assert set(stored.made("Pod")) == {f"{CLUSTER}-1"}
    assert world.metrics.conflicts._value.get() == 0, "nothing had to be taken back"


async def test_takes_three_copies_too(stored: Stored) -> None:
    stored.world.create_bot(stores())
    await stored.until("the Job of the first start", lambda: stored.exists() and bool(stored.made("Job")))
    assert stored.cluster()["spec"]["instances"] == 3
    assert set(stored.made("PodDisruptionBudget")) == {CLUSTER, f"{CLUSTER}-primary"}
    await stored.settles()


async def test_what_its_webhook_refuses_is_told(stored: Stored) -> None:
    stored.world.create_bot(DEV | {"images": {"postgres": "example.com/postgresql:latest"}})
    await stored.run.until("PostgresReady", "False", "ApplyRefused")
    assert f"Cluster {CLUSTER}" in stored.said("PostgresReady")
    assert "imageName" in stored.said("PostgresReady")
    assert stored.world.get("Cluster", CLUSTER) is None
    stored.run.edit(images={"postgres": "example.com/postgresql:18"})
    await stored.run.until("PostgresReady", "False", "Starting")
