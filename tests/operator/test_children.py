"""The whole plan on a real API server, whose own controllers and Pod Security admission judge it."""

import asyncio

import pytest
from chatbot_operator.faults import Conflict

from tests.operator.running import BOT, SECONDS, Run, World
from tests.support.apiserver import playing_kubelet
from tests.support.patience import within


@pytest.fixture
def run(world: World) -> Run:
    enforce = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    world.api.request(
        "PATCH", f"/api/v1/namespaces/{world.namespace}", enforce, {"Content-Type": "application/merge-patch+json"}
    )
    world.create_bot({"profile": "Dev"})
    return Run(world)


async def test_becomes_ready_under_the_restricted_standard_and_then_writes_nothing(run: Run, world: World) -> None:
    with playing_kubelet(world.api, world.namespace):
        told = await run.until("Ready", "True")
        assert told.components_ready == "4/4"
        assert [item.owner for item in told.migrations] == ["auth", "conversation"]
        before = world.writes()
        await run.reconcile(world.key)
        await Run(world).reconcile(world.key)
        assert world.writes() == before


async def test_policy_of_deletion_can_go_back_and_forth(run: Run, world: World) -> None:
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "True")
        kept, password = ("postgres", "redis", "weaviate", "admin"), run.secret("postgres")["data"]
        for policy, owned in (("Delete", True), ("Retain", False)):
            run.edit(stores={"deletionPolicy": policy})
            await run.until("Ready", "True")
            found = {name: bool(run.secret(name)["metadata"].get("ownerReferences")) for name in kept}
            assert found == dict.fromkeys(kept, owned)
            assert run.secret("chat-key")["metadata"]["ownerReferences"]
            retention = world.existing("StatefulSet", f"{BOT}-postgres")["spec"]["persistentVolumeClaimRetentionPolicy"]
            assert retention["whenDeleted"] == policy
        assert run.secret("postgres")["data"] == password


async def test_secret_deleted_in_between_is_not_made_empty(run: Run, world: World) -> None:
    """Applying labels to what is gone must fail, not create it without its data."""
    await run.reconcile(world.key)
    live = run.secret("redis")
    world.api.delete("Secret", world.namespace, f"{BOT}-redis")
    metadata = {key: live["metadata"][key] for key in ("name", "namespace", "uid", "labels")}
    with pytest.raises(Conflict):
        await world.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    assert world.get("Secret", f"{BOT}-redis") is None
    await run.reconcile(world.key)
    assert run.secret("redis")["data"].keys() == {"password", "uri"}


async def test_what_was_retained_is_adopted_by_the_next_of_that_name(run: Run, world: World) -> None:
    await run.reconcile(world.key)
    before = run.secret("postgres")
    first = world.bot()["metadata"]["uid"]
    world.api.delete("ChatbotDeployment", world.namespace, BOT)
    async with within(SECONDS):
        while any(
            owner["uid"] == first
            for kind in ("Secret", "StatefulSet", "Service")
            for item in world.api.list(kind, world.namespace)
            for owner in item["metadata"].get("ownerReferences") or []
        ):
            await asyncio.sleep(0.2)
    assert run.secret("postgres")["metadata"]["uid"] == before["metadata"]["uid"]
    world.create_bot({"profile": "Dev", "stores": {"deletionPolicy": "Delete"}})
    async with within(SECONDS):  # until the disk is to go, too
        while not (owners := run.secret("postgres")["metadata"].get("ownerReferences")):
            await run.reconcile(world.key)
            await asyncio.sleep(0.2)
    assert [owner["uid"] for owner in owners] == [world.bot()["metadata"]["uid"]]
    assert run.secret("postgres")["data"] == before["data"]
