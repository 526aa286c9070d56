"""Disks of stores: as large as the resource says, growing without a restart, and never touched otherwise."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, ClassVar

import httpx2
import pytest
from chatbot_operator.disks import held
from chatbot_operator.pauses import after
from chatbot_operator.progress import Progress
from chatbot_operator.world import Manifest, Observed

from tests.operator.running import BOT, SECONDS, Run, World
from tests.operator.simulated import Cluster, make_bot
from tests.operator.specs import DEV
from tests.support.apiserver import MERGE, Object, path, playing_kubelet, wait_for
from tests.support.patience import within
from tests.support.refusing import refusing

DISK = f"data-{BOT}-postgres-0"


def storage(size: str, name: str) -> dict[str, Any]:
    return {"postgres": {"storage": {"size": size, "className": name}}, "vectors": {"type": "PGVector"}}


def requested(item: Object) -> str:
    return str(item["spec"]["resources"]["requests"]["storage"])


class TestSizes:
    def test_are_written_or_depend_on_the_profile(self) -> None:
        spec = DEV | {"stores": {"vectors": {"storage": {"size": "30Gi", "className": "fast"}}}}
        cluster = Cluster(make_bot(spec)).converge()
        claims = {
            name: cluster.child("StatefulSet", f"demo-{name}")["spec"]["volumeClaimTemplates"][0]["spec"]
            for name in ("postgres", "weaviate")
        }
        assert {name: claim["resources"]["requests"]["storage"] for name, claim in claims.items()} == {
            "postgres": "1Gi",
            "weaviate": "30Gi",
        }
        assert [claims[name].get("storageClassName") for name in ("postgres", "weaviate")] == [None, "fast"]

    def test_memory_of_weaviate_is_its_own_budget(self) -> None:
        resources = {"limits": {"memory": "2Gi"}}
        cluster = Cluster(make_bot(DEV | {"stores": {"vectors": {"resources": resources}}})).converge()
        container = cluster.child("StatefulSet", "demo-weaviate")["spec"]["template"]["spec"]["containers"][0]
        assert container["resources"]["limits"] == {"memory": "2Gi"}
        assert {"name": "GOMEMLIMIT", "value": "1843MiB"} in container["env"]


def test_a_disk_that_was_made_anew_gets_its_tables_again() -> None:
    cluster = Cluster(make_bot(DEV))
    name = ("PersistentVolumeClaim", "data-demo-postgres-0")
    spec = {"resources": {"requests": {"storage": "1Gi"}}}

    def made(uid: str) -> None:
        cluster.children[name] = {"kind": name[0], "metadata": {"name": name[1], "uid": uid}, "spec": spec}

    def jobs() -> set[str]:
        return {name for kind, name in cluster.children if kind == "Job"}

    def migrated() -> str:
        cluster.report()
        return cluster.condition("MigrationsComplete").status

    made("1")
    cluster.converge()
    before = jobs()
    assert migrated() == "True"
    made("2")
    cluster.reconcile()
    assert migrated() == "False"
    cluster.converge()
    assert (migrated(), len(jobs()), jobs() & before) == ("True", 2, set())


@pytest.fixture(scope="module")
def classes(api_server: Any) -> None:
    for name, grows in (("grows", True), ("stays", False)):
        body = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "example.com/disks",
            "allowVolumeExpansion": grows,
        }
        api_server.request("POST", "/apis/storage.k8s.io/v1/storageclasses", body)


async def bound(run: Run, world: World, size: str, name: str) -> None:
    """A bot whose disk is there and in use."""
    world.create_bot({"profile": "Dev", "stores": storage(size, name)})
    await run.until("PostgresReady", "True")
    world.api.patch_status("PersistentVolumeClaim", world.namespace, DISK, {"phase": "Bound"})


async def test_grows_and_keeps_its_pod(world: World, classes: None) -> None:
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        await bound(run, world, "1Gi", "grows")
        pod = world.existing("Pod", f"{BOT}-postgres-0")["metadata"]["uid"]
        run.edit(stores=storage("3Gi", "grows"))
        async with within(SECONDS):
            while True:
                await run.reconcile(world.key)
                live = world.get("StatefulSet", f"{BOT}-postgres")
                if live and requested(live["spec"]["volumeClaimTemplates"][0]) == "3Gi":
                    break
                await asyncio.sleep(0.2)
        await run.until("Ready", "True")
        assert requested(world.existing("PersistentVolumeClaim", DISK)) == "3Gi"
        assert world.existing("Pod", f"{BOT}-postgres-0")["metadata"]["uid"] == pod
        writes = world.writes()
        await Run(world).reconcile(world.key)
        assert world.writes() == writes


async def test_says_when_it_cannot_grow(world: World, classes: None) -> None:
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        await bound(run, world, "1Gi", "stays")
        run.edit(stores=storage("3Gi", "stays"))
        told = await run.until("PostgresReady", "False", "StorageExpansionUnsupported")
        assert DISK in next(item.message for item in told.conditions if item.type == "PostgresReady")
        await run.until("Available", "True")
        live = world.existing("StatefulSet", f"{BOT}-postgres")
        assert requested(live["spec"]["volumeClaimTemplates"][0]) == "1Gi"


async def test_one_that_was_deleted_is_told_while_its_pod_lives(world: World, classes: None) -> None:
    run = Run(world)

    def told() -> list[str]:
        return [message for reason, message in world.events() if reason == "DiskBeingDeleted"]

    with playing_kubelet(world.api, world.namespace):
        await bound(run, world, "1Gi", "grows")
        assert not told()
        # As a node's use holds it: no pod is on one here.
        hold = {"metadata": {"finalizers": ["example.com/used"]}}
        world.api.patch("PersistentVolumeClaim", world.namespace, DISK, hold)
        world.api.delete("PersistentVolumeClaim", world.namespace, DISK)
        for _ in range(2):
            await run.reconcile(world.key)
        world.api.patch("PersistentVolumeClaim", world.namespace, DISK, {"metadata": {"finalizers": None}})
        [message] = told()
        assert message.startswith(f"PersistentVolumeClaim {DISK} was deleted: it goes, with all that is on it, when")


DELETE, RETAIN = ({"stores": storage("1Gi", "grows") | {"deletionPolicy": policy}} for policy in ("Delete", "Retain"))


class TestHeld:
    """Which disk is taken from its store."""

    KEPT: ClassVar[Object] = {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}, "replicas": 0}
    GOES: ClassVar[Object] = KEPT | {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}

    def held(self, spec: Object, *, wanted: Object = KEPT, seen: int = 2, pods: int = 0, owner: str = "a") -> bool:
        metadata = {"name": "demo-postgres", "uid": "a", "generation": 2}
        status = {"observedGeneration": seen, "replicas": pods}
        store = {"kind": "StatefulSet", "metadata": metadata, "spec": spec, "status": status}
        owners = [{"kind": "StatefulSet", "uid": owner}]
        named = {"name": "data-demo-postgres-0", "uid": "b", "resourceVersion": "1", "ownerReferences": owners}
        disk = {"kind": "PersistentVolumeClaim", "metadata": named}
        return held({**store, "spec": wanted}, Observed((store, disk))) is not None

    def test_is_that_of_a_store_that_sleeps_and_keeps_it(self) -> None:
        assert self.held(self.KEPT)

    @pytest.mark.parametrize(
        "how",
        [
            {"wanted": GOES},
            {"spec": GOES},
            {"seen": 1},
            {"pods": 1},
            {"spec": KEPT | {"replicas": 1}},
            {"owner": "c"},
        ],
        ids=["is to go", "not told yet", "not seen yet", "a pod ends", "a pod is made", "of another store"],
    )
    def test_is_no_other(self, how: dict[str, Any]) -> None:
        assert not self.held(**({"spec": self.KEPT} | how))


@asynccontextmanager
async def asleep(world: World, told: dict[str, Any] = DELETE) -> AsyncIterator[Run]:
    """A bot that hibernates, and whose disk goes with its store, or not."""
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        world.create_bot({"profile": "Dev"} | told)
        await run.until("PostgresReady", "True")
        wait_for("its owner", lambda: _owners(world) == (["StatefulSet"] if told is DELETE else []))
        run.edit(mode="Hibernated")
        await run.until("Ready", "False", "Hibernated")
        yield run


async def test_of_a_store_that_sleeps_stays_once_it_is_said(world: World, classes: None) -> None:
    """Kubernetes notes a changed policy only while a pod has the disk."""
    store = f"{BOT}-postgres"
    async with asleep(world) as run:
        before = world.existing("StatefulSet", store)["metadata"]["uid"]
        run.edit(**RETAIN)
        told = await run.until("Ready", "False", "Hibernated")
        assert told.observed_generation == world.existing("ChatbotDeployment", BOT)["metadata"]["generation"]
        assert _owners(world) == []
        assert world.existing("StatefulSet", store)["metadata"]["uid"] == before
        await run.rests()
        world.api.delete("StatefulSet", world.namespace, store)
        wait_for("the store to go", lambda: world.get("StatefulSet", store) is None)
        run.edit(mode="Active", **DELETE)
        await run.until("PostgresReady", "True")
        wait_for("the disk to belong to its store again", lambda: _owners(world) == ["StatefulSet"])


async def test_that_others_own_too_stays_theirs(world: World, classes: None) -> None:
    async with asleep(world) as run:
        disk = world.existing("PersistentVolumeClaim", DISK)["metadata"]
        other = world.api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}, world.namespace)
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": other["metadata"]["uid"]}
        both = {"metadata": {"ownerReferences": [*disk["ownerReferences"], owner]}}
        world.api.patch("PersistentVolumeClaim", world.namespace, DISK, both)
        run.edit(**RETAIN)
        await run.until("Ready", "False", "Hibernated")
        assert _owners(world) == ["ConfigMap"]


async def test_that_somebody_guards_is_told(world: World, classes: None) -> None:
    """It is not yet safe to delete the resource, and nobody may think so."""
    async with asleep(world) as run:
        with disks_guarded(world):
            run.edit(**RETAIN)
            told = await run.until("Ready", "False", "ApplyRefused")
            assert DISK in next(item.message for item in told.conditions if item.type == "PostgresReady")
        await run.until("Ready", "False", "Hibernated")
        assert _owners(world) == []


async def test_goes_only_with_what_opens_it(world: World, classes: None) -> None:
    """A disk that stays until its store has run again, without its passwords, would be there for nobody."""

    def owned() -> set[bool]:
        secrets = (world.existing("Secret", f"{BOT}-{name}") for name in ("postgres", "redis", "admin"))
        return {"ownerReferences" in secret["metadata"] for secret in secrets}

    async with asleep(world, RETAIN) as run:
        run.edit(**DELETE)
        await run.until("Ready", "False", "Hibernated")
        assert (_owners(world), owned()) == ([], {False})
        await run.rests()
        run.edit(mode="Active")
        await run.until("PostgresReady", "True")
        wait_for("the disk to belong to its store", lambda: _owners(world) == ["StatefulSet"])
        assert owned() == {True}
        run.edit(mode="Hibernated")
        await run.until("Ready", "False", "Hibernated")
        assert owned() == {True}


async def test_without_the_password_of_its_administrator_is_told(world: World, classes: None) -> None:
    async with asleep(world, RETAIN) as run:
        world.api.delete("ChatbotDeployment", world.namespace, BOT)
        wait_for("the store to go", lambda: world.get("StatefulSet", f"{BOT}-postgres") is None)
        world.api.delete("Secret", world.namespace, f"{BOT}-admin")
        world.create_bot({"profile": "Dev"} | RETAIN)
        await run.until("PostgresReady", "True")
        [told] = [message for reason, message in world.events() if reason == "AdminPasswordLost"]
        assert told.startswith(f"Secret {BOT}-admin is gone, and the database is not.")


def disks_guarded(world: World) -> AbstractContextManager[None]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["persistentvolumeclaims"], "operations": ["UPDATE"]}
    where = f"{path('PersistentVolumeClaim', world.namespace, DISK)}?dryRun=All"

    def attempt() -> httpx2.Response:
        return world.api.client.patch(where, json={"metadata": {"annotations": {"a": "b"}}}, headers=MERGE)

    return refusing(world.api, world.namespace, rule, "disks are guarded", attempt)


def _owners(world: World) -> list[str]:
    disk = world.existing("PersistentVolumeClaim", DISK)["metadata"]
    assert "deletionTimestamp" not in disk
    return [owner["kind"] for owner in disk.get("ownerReferences") or []]


def test_one_that_was_deleted_is_told_again_before_its_event_is_forgotten() -> None:
    gone = {"deletionTimestamp": "2026-11-21T06:00:00Z"}
    store = {"kind": "StatefulSet", "metadata": {"name": "harbour-postgres"}, "spec": {"replicas": 0}, "status": {}}
    disk: Manifest = {"kind": "PersistentVolumeClaim", "metadata": {"name": DISK}}
    pod = {"kind": "Pod", "metadata": {"name": "harbour-postgres-0"}, "spec": {}, "status": {"phase": "Succeeded"}}
    done = Progress(("team", "harbour"))
    assert after(done, Observed((store, disk), (pod,)), 600) > 3600
    assert after(done, Observed((store, disk | {"metadata": disk["metadata"] | gone}), (pod,)), 600) == 600
