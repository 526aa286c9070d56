"""A new password: who reads it is rolled, once, and nobody else. The guides tell what that costs."""

import pytest

from tests.operator.running import BOT, Run, World
from tests.operator.specs import EXTERNAL
from tests.support.apiserver import playing_kubelet

pytestmark = pytest.mark.timeout(120)

POSTGRES = {"auth-db": {"auth"}, "conversation-db": {"conversation", "conversation-worker"}}
READERS = POSTGRES | {"cache": {"gateway", "chat"}}
"""Of each Secret that a user brings."""
GENERATED = {
    "postgres": {"postgres", "auth", "conversation", "conversation-worker"},
    "redis": {"redis", "gateway", "chat"},
    "weaviate": {"weaviate", "conversation", "conversation-worker"},
}
"""Of each Secret that the operator makes: the store too, which knows one password at a time."""


def generations(world: World) -> dict[str, int]:
    """Of each part: one more for each change, and each change of ours is a rollout."""
    found = [item for kind in ("Deployment", "StatefulSet") for item in world.api.list(kind, world.namespace)]
    return {item["metadata"]["name"].removeprefix(f"{BOT}-"): item["metadata"]["generation"] for item in found}


async def settled(world: World, run: Run) -> dict[str, int]:
    """Generations once it is Ready and a reconcile has nothing left to write."""
    before = -1
    while before != world.writes():
        before = world.writes()
        await run.until("Ready", "True")
    return generations(world)


def rolled(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Parts and how often."""
    assert before.keys() == after.keys()
    return {part: after[part] - count for part, count in before.items() if after[part] != count}


async def test_of_a_users_store_rolls_its_readers_once(world: World) -> None:
    for name in READERS:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"uri": "old"}}
        world.api.create(secret, world.namespace)
    world.create_bot({"profile": "Dev", "stores": EXTERNAL})
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        before = await settled(world, run)
        for name, readers in READERS.items():
            world.api.patch("Secret", world.namespace, name, {"stringData": {"uri": "new"}})
            after = await settled(world, run)
            assert rolled(before, after) == dict.fromkeys(readers, 1)
            before = after


async def test_of_a_store_of_ours_is_made_by_deleting_it_and_rolls_the_store_too(world: World) -> None:
    world.create_bot({"profile": "Dev", "stores": {"vectors": {"type": "Weaviate"}}})
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        before = await settled(world, run)
        for name, readers in GENERATED.items():
            password = run.secret(name)["data"]
            world.api.delete("Secret", world.namespace, f"{BOT}-{name}")
            after = await settled(world, run)
            assert rolled(before, after) == dict.fromkeys(readers, 1)
            assert not password.items() & run.secret(name)["data"].items()
            before = after
