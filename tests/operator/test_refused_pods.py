"""Pods of StatefulSets and Jobs that may not be made: real quotas, real controllers, and the reason that names both.

Those of Deployments are in test_bad_input.py and test_status.py.
"""

import datetime

import pytest

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
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    metadata = {key: owner["metadata"][key] for key in ("name", "namespace", "uid")}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.made"},
        "involvedObject": {"apiVersion": "apps/v1", "kind": "StatefulSet"} | metadata,
        "type": "Normal",
        "reason": "SuccessfulCreate",
        "message": f"create Pod {metadata['name']}-0 in StatefulSet {metadata['name']} successful",
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
