"""Pods of StatefulSets and Jobs that may not be made, by real quotas and controllers, and pods that cannot begin.

Those of Deployments that may not be made are in test_bad_input.py and test_status.py.
"""

import datetime

import pytest
from chatbot_operator.pod_findings import waits_to_begin

from tests.operator.running import BOT, Run, World
from tests.operator.specs import EXTERNAL
from tests.support.apiserver import Object, playing_kubelet, wait_for

pytestmark = pytest.mark.timeout(120)

STORES = {"PostgresReady": "postgres", "CacheReady": "redis"}


def quota(world: World, **hard: str) -> None:
    """One that the API server already judges by."""
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}, "spec": {"hard": hard}}
    world.api.create(body, world.namespace)
    wait_for("the quota", lambda: world.existing("ResourceQuota", "tight")["status"].get("used"))


def message(run: Run, kind: str) -> str:
    return next(item.message for item in run.status().conditions if item.type == kind)


class TestStores:
    async def test_are_told_until_there_is_room(self, world: World) -> None:
        quota(world, pods="0")
        world.create_bot()
        run = Run(world)
        for kind, store in STORES.items():
            await run.until(kind, "False", "PodsRefused")
            assert message(run, kind).startswith(f"StatefulSet {BOT}-{store} cannot make pods: exceeded quota: tight")
        assert run.ready(run.status()) == ("False", "PodsRefused")
        world.api.delete("ResourceQuota", world.namespace, "tight")
        with playing_kubelet(world.api, world.namespace):
            await run.until("Ready", "True")

    async def test_are_looked_at_again_soon_and_written_once(self, world: World) -> None:
        quota(world, pods="0")
        world.create_bot()
        run = Run(world)
        for kind in STORES:
            await run.until(kind, "False", "PodsRefused")
        before = world.writes()
        again = await run.reconcile(world.key)
        assert again is not None
        assert again < 15
        assert world.writes() == before

    async def test_whose_disk_is_refused(self, world: World) -> None:
        quota(world, persistentvolumeclaims="0")
        world.create_bot()
        run = Run(world)
        await run.until("PostgresReady", "False", "PodsRefused")
        assert "exceeded quota: tight" in message(run, "PostgresReady")

    async def test_that_are_too_large_for_a_limit(self, world: World) -> None:
        limits = [{"type": "Container", "max": {"memory": "1Mi"}}]
        body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": {"limits": limits}}
        world.api.create(body, world.namespace)
        world.create_bot()
        run = Run(world)
        await run.until("PostgresReady", "False", "PodsRefused")
        assert "maximum memory usage per Container is 1Mi" in message(run, "PostgresReady")

    async def test_are_not_told_by_a_refusal_that_was_mended(self, world: World) -> None:
        quota(world, pods="0")
        world.create_bot()
        run = Run(world)
        await run.until("PostgresReady", "False", "PodsRefused")
        world.api.create(made_later(world.existing("StatefulSet", f"{BOT}-postgres")), world.namespace)
        await run.until("PostgresReady", "False", "Starting")


def made_later(owner: Object) -> Object:
    """The Event of a pod that was made after all."""
    name = owner["metadata"]["name"]
    return event(owner, "SuccessfulCreate", f"create Pod {name}-0 in StatefulSet {name} successful", hours=1)


def event(about: Object, reason: str, message: str, hours: int) -> Object:
    """As a controller or the kubelet tells it, so many hours from now."""
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
    metadata = {key: about["metadata"][key] for key in ("name", "namespace", "uid")}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{reason.lower()}.{hours}"},
        "involvedObject": {"apiVersion": about["apiVersion"], "kind": about["kind"]} | metadata,
        "type": "Normal" if reason in ("SuccessfulCreate", "Pulling") else "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


class TestMigrations:
    async def test_are_told_without_the_names_of_pods_that_never_were(self, world: World) -> None:
        for name in ("auth-db", "conversation-db", "cache"):
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"uri": "x"}}
            world.api.create(secret, world.namespace)
        quota(world, pods="0")
        world.create_bot({"profile": "Dev", "stores": EXTERNAL})
        run = Run(world)
        await run.until("MigrationsComplete", "False", "PodsRefused")
        said = message(run, "MigrationsComplete")
        assert said.startswith(f"Job {BOT}-")
        assert "cannot make pods: exceeded quota: tight" in said
        world.api.delete("ResourceQuota", world.namespace, "tight")
        with playing_kubelet(world.api, world.namespace):
            await run.until("MigrationsComplete", "True")


SANDBOX = 'Failed to create pod sandbox: failed to start sandbox "{}": init was OOM-killed (memory limit too low?)'
ATTEMPTS = [f"{number:x}" * 64 for number in (10, 11)]


class TestThatCannotBegin:
    """A pod that has its node, and of which the kubelet makes no container: its status says so, and not why."""

    async def test_are_told_by_the_last_event_until_they_go_on(self, world: World) -> None:
        world.create_bot()
        run, name = Run(world), f"{BOT}-postgres-0"
        await run.until("PostgresReady", "False", "Starting")
        wait_for("its pod", lambda: world.get("Pod", name))
        placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        world.api.patch_status("Pod", world.namespace, name, {"conditions": [placed]})
        pod = world.existing("Pod", name)
        world.api.create(event(pod, "FailedCreatePodSandBox", SANDBOX.format(ATTEMPTS[0]), 1), world.namespace)
        await run.until("PostgresReady", "False", "ContainerConfigError")
        said = f"Pod {name} cannot start: FailedCreatePodSandBox: {SANDBOX.format('…')}"
        assert message(run, "PostgresReady") == said

        before = world.writes()
        world.api.create(event(pod, "FailedCreatePodSandBox", SANDBOX.format(ATTEMPTS[1]), 2), world.namespace)
        again = await Run(world).reconcile(world.key)
        assert again is not None
        assert again < 15
        assert world.writes() == before, "the next attempt is no news"

        world.api.create(event(pod, "Pulling", 'Pulling image "postgres"', 3), world.namespace)
        await run.until("PostgresReady", "False", "Starting")


PLACED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-21T06:00:00Z"}
MAKING = {"state": {"waiting": {"reason": "ContainerCreating"}}}
PENDING = {"phase": "Pending", "conditions": [PLACED], "containerStatuses": [MAKING]}


class TestWaits:
    @pytest.mark.parametrize(
        ("status", "at", "waits"),
        [
            (PENDING, "2026-11-21T06:00:20Z", True),
            (PENDING, "2026-11-21T06:00:04Z", False),
            (PENDING | {"conditions": [PLACED | {"status": "False"}]}, "", False),
            (PENDING | {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}, "", False),
            (PENDING | {"initContainerStatuses": [{"state": {"running": {}}}]}, "", False),
            (PENDING | {"phase": "Running", "containerStatuses": []}, "", False),
        ],
        ids=["long", "just placed", "not placed", "says why", "has begun", "runs"],
    )
    def test_to_begin(self, status: Object, at: str, *, waits: bool) -> None:
        assert waits_to_begin({"metadata": {"name": "a"}, "status": status}, at) is waits
