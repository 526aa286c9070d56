"""Postgres as CloudNativePG runs it: what is asked of it, and what is said of what it answers.

Its definitions are the real ones. Its operator is played: the tests say what it would say, in the shapes of its own
source. tests/e2e/extra has the real one.
"""

import asyncio
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from chatbot_common.database_url import dsn_of
from chatbot_operator import names
from chatbot_operator.components import secrets
from chatbot_operator.components.metadata import CLOUD_NATIVE_PG
from chatbot_operator.world import Manifest, Observed

from tests.operator.running import BOT, LOOK_SECONDS, SECONDS, Run, World
from tests.operator.simulated import Cluster, cluster_status, make_bot
from tests.operator.specs import DEFAULTS, DEV, EXTERNAL
from tests.operator.test_rollback import overdue
from tests.support import optional_apis
from tests.support.apiserver import ApiServer, path, playing_kubelet
from tests.support.patience import within
from tests.support.refusing import refusing

CLUSTER = "demo-postgres"
POSTGRES: dict[str, Any] = {"mode": "CloudNativePG"}
APIS = frozenset(CLOUD_NATIVE_PG)
PHASE = "Setting up primary"


def stores(**more: Any) -> dict[str, Any]:
    return {"stores": {"postgres": POSTGRES, "vectors": {"type": "PGVector"}} | more}


def small(**more: Any) -> Cluster:
    return Cluster(make_bot(DEV | stores() | more), apis=APIS)


def cluster_of(spec: dict[str, Any]) -> Manifest:
    found: Manifest = Cluster(make_bot(spec), apis=APIS).converge().child("Cluster", CLUSTER)["spec"]
    return found


class TestCluster:
    def test_has_standbys_unless_it_is_for_development(self) -> None:
        assert cluster_of(DEV | stores())["instances"] == 1
        assert "synchronous" not in cluster_of(DEV | stores())["postgresql"]
        standard = cluster_of(stores())
        assert (standard["instances"], standard["postgresql"]["synchronous"]["number"]) == (3, 1)

    def test_is_for_production(self) -> None:
        spec = {"profile": "Production", "stores": stores()["stores"] | {"redis": EXTERNAL["redis"]}}
        assert cluster_of(spec)["instances"] == 3

    def test_needs_pgvector_only_where_vectors_are_in_it(self) -> None:
        database = small().converge().child("Database", f"{CLUSTER}-conversation")
        assert [item["name"] for item in database["spec"]["extensions"]] == ["vector"]
        cluster = Cluster(make_bot(DEV | {"stores": {"postgres": POSTGRES}}), apis=APIS).converge()
        assert "extensions" not in cluster.child("Database", f"{CLUSTER}-conversation")["spec"]

    def test_runs_the_image_of_the_resource_and_never_that_of_mode_dev(self) -> None:
        assert "imageName" not in cluster_of(DEV | stores())
        spec = DEV | stores() | {"images": {"postgres": "example.com/postgresql:18"}}
        assert cluster_of(spec)["imageName"] == "example.com/postgresql:18"

    def test_gets_another_image_last(self) -> None:
        """Services prove first that what is asked for with it comes to run."""
        before, after = "example.com/postgresql:17", "example.com/postgresql:18"
        cluster = small(images={"postgres": before}).converge()
        cluster.edit(images={"postgres": after, "chat": "chat:new"})
        for part in ("auth-db conversation-db", "auth conversation conversation-worker", "chat"):
            cluster.reconcile()
            assert cluster.child("Cluster", CLUSTER)["spec"]["imageName"] == before
            cluster.settle(*part.split())
        assert cluster.converge().child("Cluster", CLUSTER)["spec"]["imageName"] == after

    def test_its_first_image_of_ours_comes_last_too(self) -> None:
        cluster = small().converge()
        cluster.child("Cluster", CLUSTER)["spec"]["imageName"] = "ghcr.io/cloudnative-pg/postgresql:17.6"
        cluster.edit(images={"postgres": "example.com/postgresql:18", "chat": "chat:new"})
        cluster.reconcile()
        assert cluster.child("Cluster", CLUSTER)["spec"].get("imageName", "").startswith("ghcr.io")
        assert cluster.converge().child("Cluster", CLUSTER)["spec"]["imageName"] == "example.com/postgresql:18"

    def test_one_that_cannot_run_as_it_is_gets_it_at_once(self) -> None:
        cluster = small(images={"postgres": "nope:17"}).converge()
        waiting = {"reason": "ErrImagePull", "message": "not found"}
        status = {"containerStatuses": [{"image": "nope:17", "state": {"waiting": waiting}}]}
        cluster.pods.append(
            {
                "kind": "Pod",
                "metadata": {"name": "p", "labels": {"cnpg.io/cluster": CLUSTER}},
                "spec": {},
                "status": status,
            }
        )
        cluster.edit(images={"postgres": "example.com/postgresql:17", "chat": "chat:new"})
        cluster.reconcile()
        assert cluster.child("Cluster", CLUSTER)["spec"]["imageName"] == "example.com/postgresql:17"

    def test_an_image_is_never_taken_back(self) -> None:
        """Data may have been upgraded by it: what else is given up goes back alone."""
        cluster = small(images={"postgres": "example.com/postgresql:17"}).converge()
        cluster.edit(images={"postgres": "example.com/postgresql:18", "conversation": "conversation:new"})
        for _ in range(4):
            cluster.reconcile()
            cluster.settle("auth-db", "conversation-db", "conversation", "auth", "chat", "gateway")
        assert cluster.child("Cluster", CLUSTER)["spec"]["imageName"] == "example.com/postgresql:18"
        overdue(cluster, "demo-conversation-worker")
        cluster.reconcile()
        assert cluster.chosen.rolled_back is not None
        for _ in range(2):
            cluster.reconcile()
            cluster.settle()
        cluster.report()
        assert cluster.condition("Ready").reason == "RolledBack"
        assert cluster.child("Cluster", CLUSTER)["spec"]["imageName"] == "example.com/postgresql:18"

    def test_keeps_a_disk_that_a_smaller_profile_would_shrink(self) -> None:
        cluster = Cluster(make_bot(stores()), apis=APIS).converge()
        cluster.edit(profile="Dev")
        assert cluster.converge().child("Cluster", CLUSTER)["spec"]["storage"] == {"size": "10Gi"}
        cluster.edit(stores=stores(postgres=POSTGRES | {"storage": {"size": "20Gi"}})["stores"])
        assert cluster.converge().child("Cluster", CLUSTER)["spec"]["storage"] == {"size": "20Gi"}

    def test_gets_roles_that_its_readers_use(self, tmp_path: Path) -> None:
        """A URL the services take: TLS, and the certificate checked against the authority that is mounted."""
        (tmp_path / "postgres.crt").touch()
        found = secrets.missing(small().bot, Observed())
        roles = {item["metadata"]["name"]: item for item in found if item["type"] == "kubernetes.io/basic-auth"}
        assert set(roles) == {names.role("demo", "auth"), names.role("demo", "conversation")}
        for owner, secret in zip(names.OWNERS, roles.values(), strict=True):
            assert secret["metadata"]["labels"]["cnpg.io/reload"] == "true"
            values = {key: b64decode(value).decode() for key, value in secret["data"].items()}
            assert values["username"] == owner
            dsn = dsn_of(values["uri"].replace(names.AUTHORITIES_FOLDER, str(tmp_path)))
            assert dsn.startswith(f"postgresql://{owner}:{values['password']}@demo-postgres-rw:5432/{owner}?")
            assert "sslmode=verify-full" in dsn

    def test_authority_is_mounted_where_the_url_says(self) -> None:
        cluster = small().converge()
        for kind, name in (item for item in cluster.children if item[0] in ("Deployment", "Job")):
            pod = cluster.child(kind, name)["spec"]["template"]["spec"]
            mounted = {item["mountPath"] for item in pod["containers"][0]["volumeMounts"]}
            reads = "auth" in name or "conversation" in name
            assert (names.AUTHORITIES_FOLDER in mounted) == reads, name
            for volume in pod["volumes"]:
                if volume["name"] == "authorities":
                    (source,) = volume["projected"]["sources"]
                    assert source["secret"]["items"] == [{"key": "ca.crt", "path": "postgres.crt"}]  # not the key


Break = Callable[[Cluster], None]


def _says(**status: Any) -> Break:
    """CloudNativePG changes what it says of its Cluster."""

    def change(cluster: Cluster) -> None:
        live = cluster.child("Cluster", CLUSTER)
        live["status"] = cluster_status(live) | status

    return change


def _database(**status: Any) -> Break:
    def change(cluster: Cluster) -> None:
        live = cluster.child("Database", f"{CLUSTER}-conversation")
        live["status"] = {"observedGeneration": live["metadata"]["generation"]} | status

    return change


def _unready(phase: str, reason: str = "") -> dict[str, Any]:
    return {"phase": phase, "phaseReason": reason, "conditions": [{"type": "Ready", "status": "False"}]}


class TestWhatIsSaid:
    def report(self, cluster: Cluster) -> tuple[str, str]:
        cluster.report()
        found = cluster.condition("PostgresReady")
        return found.reason, found.message

    def test_nothing_without_cloudnativepg_but_that(self) -> None:
        cluster = Cluster(make_bot(DEV | stores()))
        cluster.reconcile()
        reason, message = self.report(cluster)
        assert reason == "ApiNotInstalled"
        assert "install CloudNativePG" in message
        assert not [kind for kind, _ in cluster.children if kind in CLOUD_NATIVE_PG]
        assert ("StatefulSet", "demo-redis") in cluster.children
        cluster.apis = APIS
        assert self.report(cluster.converge()) == ("StoreReady", f"Cluster {CLUSTER} is ready.")
        assert cluster.condition("Ready").status == "True"

    @pytest.mark.parametrize(
        ("change", "reason", "says"),
        [
            (_says(phase="", conditions=[]), "Starting", "is its operator running?"),
            (_says(**_unready(PHASE, "Creating primary instance demo-postgres-1")), "Starting", "demo-postgres-1"),
            (_says(readyInstances=0), "Starting", "0 of 1 instances are ready"),
            (_says(**_unready("Cluster is unrecoverable and needs manual intervention")), "StoreFailed", "manual"),
            (_says(**_unready("Unable to create required cluster objects", "quota")), "StoreFailed", "(quota)"),
            (_says(**_unready("Not enough disk space", "in one or more pods")), "StoreFailed", "in one or more pods"),
            (
                _says(managedRolesStatus={"cannotReconcile": {"conversation": ["could not perform UPDATE"]}}),
                "StoreFailed",
                "role conversation cannot be made: could not perform UPDATE",
            ),
            (_database(), "Starting", "has not been made in its Cluster yet"),
            (_database(applied=False, message="role does not exist"), "StoreFailed", "role does not exist"),
            (
                _database(applied=False, extensions=[{"name": "vector", "applied": False, "message": "no file"}]),
                "StoreFailed",
                "extension vector: no file",
            ),
        ],
    )
    def test_what_is_wrong_in_its_own_words(self, change: Break, reason: str, says: str) -> None:
        cluster = small().converge()
        change(cluster)
        found, message = self.report(cluster)
        assert (found, says in message) == (reason, True), message
        assert "demo-postgres" in message

    def test_a_pod_that_cannot_run_is_named(self) -> None:
        cluster = small().converge()
        _says(**_unready(PHASE))(cluster)
        waiting = {"reason": "ImagePullBackOff", "message": "not found"}
        status = {"phase": "Pending", "containerStatuses": [{"image": "postgresql:99", "state": {"waiting": waiting}}]}
        cluster.pod("database", "demo-postgres-1", status)
        cluster.pods[-1]["metadata"]["labels"]["cnpg.io/cluster"] = CLUSTER
        assert self.report(cluster)[0] == "ImagePullFailed"

    def test_migrations_wait_for_it(self) -> None:
        cluster = small()
        cluster.reconcile()
        cluster.settle("redis", "weaviate")
        waiting = [step.blocked for step in cluster.reconcile() if step.name == "migrations"]
        assert [item.message for item in waiting if item] == [f"Waits for Cluster {CLUSTER}."] * 2
        assert not [name for kind, name in cluster.children if kind == "Job"]

    def test_hibernates_and_wakes_with_it(self) -> None:
        cluster = small().converge()
        cluster.edit(mode="Hibernated")
        cluster.reconcile()
        reason, message = self.report(cluster)
        assert (reason, "healthy state" in message) == ("Stopping", True)
        cluster.settle()
        assert self.report(cluster)[0] == "Hibernated"
        cluster.edit(mode="Active")
        cluster.reconcile()
        assert self.report(cluster)[0] == "Starting"  # what it said while it hibernated counts no more
        cluster.converge()
        assert cluster.condition("Ready").status == "True"


@pytest.fixture(scope="module")
def api_server(own_api_server: ApiServer) -> ApiServer:
    return own_api_server


@pytest.fixture(scope="module")
def cloud_native_pg(api_server: ApiServer) -> Iterator[None]:
    optional_apis.install(api_server, optional_apis.CLOUD_NATIVE_PG)
    yield
    optional_apis.remove(api_server, optional_apis.CLOUD_NATIVE_PG)


def answer(world: World) -> None:
    """CloudNativePG does what is asked of it."""
    for kind in CLOUD_NATIVE_PG:
        for item in world.api.list(kind, world.namespace):
            status = cluster_status(item) if kind == "Cluster" else {"applied": True}
            if kind == "Database":
                status["observedGeneration"] = item["metadata"]["generation"]
            for condition in status.get("conditions", []):
                condition |= {"message": "", "lastTransitionTime": "2026-11-21T06:00:00Z"}
            world.api.patch_status(kind, world.namespace, item["metadata"]["name"], status)


async def ready(run: Run, world: World) -> None:
    async with within(SECONDS):
        while True:
            await run.reconcile(world.key)
            answer(world)
            await run.reconcile(world.key)
            if run.ready(run.status())[0] == "True":
                return
            await asyncio.sleep(LOOK_SECONDS)


@pytest.mark.usefixtures("cloud_native_pg")
class TestOnAServer:
    """Where the real definitions judge what is written."""

    async def test_becomes_ready_and_then_writes_nothing(self, world: World) -> None:
        world.create_bot({"profile": "Dev", "defaults": DEFAULTS} | stores())
        run = Run(world, lambda: APIS)
        with playing_kubelet(world.api, world.namespace):
            await ready(run, world)
            writes = world.writes()
            await run.reconcile(world.key)
            await Run(world, lambda: APIS).reconcile(world.key)
            assert world.writes() == writes
            # What somebody switches off by hand is switched on again.
            world.api.patch(
                "Cluster",
                world.namespace,
                f"{BOT}-postgres",
                {"metadata": {"annotations": {"cnpg.io/hibernation": "on"}}},
            )
            await run.reconcile(world.key)
            live = world.existing("Cluster", f"{BOT}-postgres")
            assert live["metadata"]["annotations"]["cnpg.io/hibernation"] == "off"
            assert live["spec"]["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"

    async def test_grows_and_keeps_its_class(self, world: World) -> None:
        disk = {"size": "2Gi", "className": "fast"}
        world.create_bot({"profile": "Dev"} | stores(postgres=POSTGRES | {"storage": disk}))
        run = Run(world, lambda: APIS)
        await run.reconcile(world.key)
        run.edit(stores={"postgres": {"storage": {"size": "3Gi"}}})
        await run.reconcile(world.key)
        live = world.existing("Cluster", f"{BOT}-postgres")
        assert live["spec"]["storage"]["size"] == "3Gi"
        assert live["spec"]["storage"]["storageClass"] == "fast"

    async def test_outlives_the_resource_and_is_taken_over(self, world: World) -> None:
        world.create_bot({"profile": "Dev"} | stores())
        run = Run(world, lambda: APIS)
        await run.reconcile(world.key)
        for policy, owned in (("Delete", True), ("Retain", False)):
            run.edit(stores={"deletionPolicy": policy})
            await run.reconcile(world.key)
            found = [
                world.existing("Cluster", f"{BOT}-postgres"),
                world.existing("Database", f"{BOT}-postgres-conversation"),
                world.existing("NetworkPolicy", f"{BOT}-postgres-cluster"),
            ]
            assert [bool(item["metadata"].get("ownerReferences")) for item in found] == [owned] * 3
        before = world.existing("Cluster", f"{BOT}-postgres")
        guard = world.existing("NetworkPolicy", f"{BOT}-postgres-cluster")
        password = run.secret("postgres-auth")["data"]
        world.api.delete("ChatbotDeployment", world.namespace, BOT, "Foreground")
        async with within(SECONDS):
            while world.get("ChatbotDeployment", BOT) or world.get("StatefulSet", f"{BOT}-redis"):
                await asyncio.sleep(0.1)
        world.create_bot({"profile": "Dev"} | stores())
        again = Run(world, lambda: APIS)
        with playing_kubelet(world.api, world.namespace):
            await ready(again, world)
        after = world.existing("Cluster", f"{BOT}-postgres")
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        kept = world.existing("NetworkPolicy", f"{BOT}-postgres-cluster")
        assert kept["metadata"]["uid"] == guard["metadata"]["uid"]
        # And it goes when nobody wants it, although it has no owner.
        again.edit(network={"policy": "Off"})
        async with within(SECONDS):
            while world.get("NetworkPolicy", f"{BOT}-postgres-cluster"):
                await again.reconcile(world.key)
        assert again.secret("postgres-auth")["data"] == password

    async def test_one_that_is_not_ours_is_left_alone(self, world: World) -> None:
        foreign = {
            "apiVersion": "postgresql.cnpg.io/v1",
            "kind": "Cluster",
            "metadata": {"name": f"{BOT}-postgres"},
            "spec": {"instances": 2, "storage": {"size": "5Gi"}},
        }
        world.api.create(foreign, world.namespace)
        world.create_bot({"profile": "Dev"} | stores())
        run = Run(world, lambda: APIS)
        told = await run.until("PostgresReady", "False", "NameConflict")
        assert f"{BOT}-postgres" in next(item.message for item in told.conditions if item.type == "PostgresReady")
        assert world.existing("Cluster", f"{BOT}-postgres")["spec"]["instances"] == 2

    async def test_what_it_refuses_is_told(self, world: World) -> None:
        """Such as an image that its admission does not take."""
        with clusters_refused(world.api, world.namespace):
            world.create_bot({"profile": "Dev"} | stores())
            run = Run(world, lambda: APIS)
            told = await run.until("PostgresReady", "False", "ApplyRefused")
        message = next(item.message for item in told.conditions if item.type == "PostgresReady")
        assert f"Cluster {BOT}-postgres" in message
        assert "not with this image" in message


def clusters_refused(api: ApiServer, namespace: str) -> AbstractContextManager[None]:
    rule = {"apiGroups": ["postgresql.cnpg.io"], "apiVersions": ["v1"], "resources": ["clusters"]}
    probe = {
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Cluster",
        "metadata": {"name": "a"},
        "spec": {"instances": 1},
    }

    def attempt() -> httpx2.Response:
        return api.client.post(f"{path('Cluster', namespace)}?dryRun=All", json=probe)

    return refusing(api, namespace, rule | {"operations": ["CREATE"]}, "not with this image", attempt)
