"""A resync finds what no event told of, and costs nothing where there is nothing to find."""

import asyncio
import base64
from typing import Any

import pytest
from chatbot_operator import names
from chatbot_operator.faults import Unavailable
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
        while world.key in await looks.find():
            await looks.reconcile(world.key)
        world.api.delete("ChatbotDeployment", world.namespace, BOT)
        assert world.key in await looks.find()

    async def test_what_outlives_its_resource_is_passed_over(self, looks: Looks, world: World) -> None:
        marks = {names.MANAGED_BY: names.FIELD_MANAGER, names.INSTANCE: BOT, names.BOT: BOT, names.REFERENCED: "true"}
        kept = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kept", "labels": marks}}
        world.api.create(kept, world.namespace)
        while await looks.find():
            await looks.reconcile(world.key)
        world.api.delete("ChatbotDeployment", world.namespace, BOT)
        assert await looks.find() == [world.key]
        await looks.reconcile(world.key)
        assert await looks.find() == []

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


class TestEdited:
    """The resource alone was edited since there was nothing to do: what else there is need not be read."""

    async def test_costs_few_requests_and_says_the_same(self, looks: Looks, world: World) -> None:
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"spec": {"limits": {"perMinute": 7}}})
        before, writes = requests(world), world.writes()
        await looks.reconcile(world.key)
        # The resource, its Secrets, the one it refers to, and the status for the new generation.
        assert requests(world) - before == 4
        assert world.writes() - writes == 1
        assert world.bot()["status"]["observedGeneration"] == 2

    async def test_after_its_own_write_everything_is_read_again(self, looks: Looks, world: World) -> None:
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"spec": {"limits": {"perMinute": 7}}})
        await looks.reconcile(world.key)
        world.api.delete("ConfigMap", world.namespace, CONFIG)
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"spec": {"limits": {"perMinute": 8}}})
        await looks.reconcile(world.key)
        assert world.existing("ConfigMap", CONFIG)

    async def test_what_was_missed_is_healed_by_the_resync(self, looks: Looks, world: World) -> None:
        world.api.delete("ConfigMap", world.namespace, CONFIG)
        assert await looks.find() == [world.key]
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"spec": {"limits": {"perMinute": 7}}})
        await looks.reconcile(world.key)
        assert world.existing("ConfigMap", CONFIG)


class TestRun:
    async def test_soon_after_a_watch_has_lost_track(self, looks: Looks, world: World) -> None:
        lost_track = asyncio.Event()
        running = asyncio.create_task(looks.resync.run(600, lost_track))
        world.api.delete("ConfigMap", world.namespace, CONFIG)
        lost_track.set()
        async with asyncio.timeout(20):
            while world.key not in looks.queued:
                await asyncio.sleep(0.05)
        assert not lost_track.is_set()
        running.cancel()

    async def test_goes_on_after_one_that_failed(self, looks: Looks, world: World) -> None:
        def busy(*_: Any, **__: Any) -> None:
            world.cluster._request = request  # type: ignore[method-assign]
            raise Unavailable("too many requests")

        request, world.cluster._request = world.cluster._request, busy  # type: ignore[method-assign,assignment]
        counted = resyncs(world)
        running = asyncio.create_task(looks.resync.run(0.2, asyncio.Event()))
        async with asyncio.timeout(20):
            while resyncs(world) == counted:
                await asyncio.sleep(0.05)
        running.cancel()


def requests(world: World) -> float:
    samples = [sample for family in world.metrics.api_requests.collect() for sample in family.samples]
    return sum(item.value for item in samples if item.name.endswith("_total"))


def resyncs(world: World) -> float:
    return world.metrics.registry.get_sample_value("chatbot_operator_resyncs_total") or 0.0
