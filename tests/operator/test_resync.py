"""A resync finds what no event told of, and costs nothing where there is nothing to find."""

import base64

import pytest
from chatbot_operator import names
from chatbot_operator.known import Known
from chatbot_operator.queue import Key
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.referrers import Referrers
from chatbot_operator.resync import Resync
from chatbot_operator.world import Reference

from tests.operator.running import BOT, SETTINGS, SmallPlan, World

CONFIG = "harbour-chat-config"
SECRET = Reference("Secret", "openai", "key")


class Looks:
    """A resource that nobody watches."""

    def __init__(self, world: World, namespaces: tuple[str, ...] | None = None) -> None:
        self.world = world
        self.queued: list[Key] = []
        known, referrers = Known(), Referrers()
        rules = SmallPlan(references=frozenset({SECRET})).rules()
        self.reconcile = Reconciler(world.cluster, SETTINGS, world.metrics, referrers, rules, known)
        watched = (world.namespace,) if namespaces is None else namespaces
        self.resync = Resync(world.cluster, known, referrers, world.metrics, self.queued.append, watched)

    async def find(self) -> list[Key]:
        self.queued.clear()
        await self.resync.once()
        return self.queued


@pytest.fixture
async def looks(world: World) -> Looks:
    world.create_bot()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openai"}, "stringData": {"key": "sk-1"}}
    world.api.create(secret, world.namespace)
    found = Looks(world)
    # The Deployment's own controller still writes its status.
    while await found.find():
        await found.reconcile(world.key)
    return found


class TestOnce:
    async def test_an_unchanged_world_is_passed_over_and_not_written_to(self, looks: Looks, world: World) -> None:
        before = world.writes()
        assert await looks.find() == []
        assert world.writes() == before

    async def test_an_edited_child_is_found(self, looks: Looks, world: World) -> None:
        world.api.patch("ConfigMap", world.namespace, CONFIG, {"data": {"text": "mine"}})
        assert await looks.find() == [world.key]
        await looks.reconcile(world.key)
        assert world.existing("ConfigMap", CONFIG)["data"] == {"text": "one"}

    async def test_a_deleted_child_is_found(self, looks: Looks, world: World) -> None:
        world.api.delete("ConfigMap", world.namespace, CONFIG)
        assert await looks.find() == [world.key]

    async def test_so_is_one_whose_labels_are_gone(self, looks: Looks, world: World) -> None:
        world.api.patch("ConfigMap", world.namespace, CONFIG, {"metadata": {"labels": {names.REFERENCED: None}}})
        assert await looks.find() == [world.key]

    async def test_an_edited_reference_is_found(self, looks: Looks, world: World) -> None:
        data = {"data": {"key": base64.b64encode(b"sk-2").decode()}}
        world.api.patch("Secret", world.namespace, "openai", data)
        assert await looks.find() == [world.key]

    async def test_an_edited_resource_a_new_one_and_one_that_is_gone_are_found(
        self, looks: Looks, world: World
    ) -> None:
        world.create_bot(name="quay")
        assert await looks.find() == [(world.namespace, "quay")]
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"spec": {"profile": "Standard"}})
        assert set(await looks.find()) == {world.key, (world.namespace, "quay")}
        world.api.delete("ChatbotDeployment", world.namespace, BOT)
        assert world.key in await looks.find()

    async def test_what_was_not_settled_is_looked_at_again(self, world: World) -> None:
        world.create_bot()
        looks = Looks(world)
        await looks.reconcile(world.key)
        assert await looks.find() == [world.key]

    async def test_a_whole_cluster_is_looked_at_page_by_page(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chatbot_operator.cluster.PAGE", 2)
        for number in range(5):
            world.create_bot(name=f"bot-{number}")
        found = await Looks(world, ()).find()
        assert {(world.namespace, f"bot-{number}") for number in range(5)} <= set(found)
