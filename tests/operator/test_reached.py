"""A component whose Service is gone or leads elsewhere serves nobody, however many of its pods are ready."""

import pytest

from tests.operator.running import BOT, Run, World
from tests.support.apiserver import Object, playing_kubelet, wait_for

pytestmark = pytest.mark.timeout(120)

NAME = f"{BOT}-auth"


def quota(world: World, services: int) -> None:
    """One that the API server already judges by."""
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}}
    world.api.create(body | {"spec": {"hard": {"services": str(services)}}}, world.namespace)
    wait_for("the quota", lambda: world.existing("ResourceQuota", "tight")["status"].get("used"))


def message(run: Run) -> str:
    return next(item.message for item in run.status().conditions if item.type == "Available")


async def test_a_service_that_may_not_come_back_or_is_fought_over_makes_it_unavailable(world: World) -> None:
    world.create_bot({"profile": "Dev", "stores": {"vectors": {"type": "PGVector"}}})
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "True")
        quota(world, 0)
        world.api.delete("Service", world.namespace, NAME)
        await run.until("Available", "False", "ApplyRefused")
        assert message(run).startswith(f"Service {NAME}: ")
        assert "exceeded quota: tight" in message(run)
        assert Run.ready(run.status()) == ("False", "ApplyRefused")
        world.api.delete("ResourceQuota", world.namespace, "tight")
        await run.until("Ready", "True")
        assert world.get("Service", NAME)

        port: Object = {"spec": {"ports": [{"name": "http", "port": 81, "targetPort": "http"}]}}
        for _ in range(4):
            world.api.patch("Service", world.namespace, NAME, port, manager="hand")
            await run.reconcile(world.key)
        assert world.existing("Service", NAME)["spec"]["ports"][0]["port"] == 81
        await run.until("Available", "False", "FieldConflict")
        assert f"Service {NAME}" in message(run)
        assert "hand" in message(run)
        world.api.patch(
            "Service", world.namespace, NAME, {"spec": {"ports": [port["spec"]["ports"][0] | {"port": 80}]}}
        )
        await run.until("Available", "True")
