"""A resync finds what no event told of, and costs nothing where there is nothing to find."""

import asyncio
import base64
from typing import Any

import pytest
from chatbot_operator import names
from chatbot_operator.components.metadata import manifest
from chatbot_operator.faults import Unavailable
from chatbot_operator.known import Known
from chatbot_operator.queue import Key
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.referrers import Referrers
from chatbot_operator.resync import Resync
from chatbot_operator.world import Manifest, Observed, Reference, Step
from chatbot_resource.model import ChatbotDeployment

from tests.operator.running import BOT, SETTINGS, SmallPlan, World, config, deployment, measured, scaler, step
from tests.support.patience import within

CONFIG = "harbour-chat-config"
SECRET = Reference("Secret", "openai", "key")


class Looks:
    """A resource that nobody watches."""

    def __init__(self, world: World, namespaces: tuple[str, ...] | None = None, plan: SmallPlan | None = None) -> None:
        self.world = world
        self.queued: list[Key] = []
        self.known, referrers = Known(3600), Referrers()
        rules = (plan or SmallPlan(references=frozenset({SECRET}))).rules()
        self.reconcile = Reconciler(world.cluster, SETTINGS, world.metrics, referrers, rules, self.known)
        watched = (world.namespace,) if namespaces is None else namespaces
        self.resync = Resync(world.cluster, self.known, referrers, world.metrics, self.queued.append, watched)

    def hear(self, kind: str, name: str) -> None:
        """Of an edit, as handlers.py does."""
        metadata = self.world.existing(kind, name)["metadata"]
        assert self.known.news(self.world.key, kind, metadata["uid"], metadata["resourceVersion"])

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

    async def test_what_was_never_looked_at_is_found(self, world: World) -> None:
        world.create_bot()
        assert await Looks(world).find() == [world.key]

    async def test_what_an_autoscaler_measures_is_no_difference_and_what_it_cannot_is(
        self, looks: Looks, world: World
    ) -> None:
        world.api.create(scaler(BOT), world.namespace)
        world.api.patch_status("HorizontalPodAutoscaler", world.namespace, "busy", measured(0))
        while await looks.find():
            await looks.reconcile(world.key)
        for replicas in range(1, 4):
            world.api.patch_status("HorizontalPodAutoscaler", world.namespace, "busy", measured(replicas))
            assert await looks.find() == []
        world.api.patch_status("HorizontalPodAutoscaler", world.namespace, "busy", measured(3, "False"))
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
    """Whoever hears of each event reads what is news, and takes the rest for what it was."""

    async def test_costs_few_requests_and_says_the_same(self, looks: Looks, world: World) -> None:
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"spec": {"limits": {"perMinute": 7}}})
        looks.hear("ChatbotDeployment", BOT)
        before, writes = requests(world), world.writes()
        await looks.reconcile(world.key)
        # The resource, its Secrets, the one it refers to, and the status for the new generation.
        assert requests(world) - before == 4
        assert world.writes() - writes == 1
        assert world.bot()["status"]["observedGeneration"] == 2

    async def test_and_none_while_nothing_is_news(self, looks: Looks, world: World) -> None:
        before = requests(world)
        again = await looks.reconcile(world.key)
        assert requests(world) == before
        assert again is not None
        assert again > 3600

    async def test_child_is_read_with_its_kind_and_what_we_write_not_again(self, looks: Looks, world: World) -> None:
        world.api.patch("ConfigMap", world.namespace, CONFIG, {"data": {"text": "mine"}})
        looks.hear("ConfigMap", CONFIG)
        before = requests(world)
        await looks.reconcile(world.key)
        # The resource, its Secrets, the one it refers to, its ConfigMaps; the apply and its Event.
        assert requests(world) - before == 6
        assert world.existing("ConfigMap", CONFIG)["data"] == {"text": "one"}
        metadata = world.existing("ConfigMap", CONFIG)["metadata"]
        assert not looks.known.news(world.key, "ConfigMap", metadata["uid"], metadata["resourceVersion"])
        assert await looks.find() == []

    async def test_after_a_conflict_everything_is_read_anew(self, world: World) -> None:
        """As of something that is to go, and that somebody has changed since it was read."""
        wanted = [True]

        def build(bot: ChatbotDeployment, _: Observed) -> list[Step]:
            return [step("chat", config(bot), *([config(bot, name="harbour-second")] if wanted else []))]

        world.create_bot()
        looks = Looks(world, plan=SmallPlan(build))
        while await looks.find():
            await looks.reconcile(world.key)
        world.api.patch("ConfigMap", world.namespace, "harbour-second", {"metadata": {"annotations": {"mine": "yes"}}})
        wanted.clear()
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"spec": {"limits": {"perMinute": 7}}})
        looks.hear("ChatbotDeployment", BOT)
        for _ in range(2):
            await looks.reconcile(world.key)
        assert world.get("ConfigMap", "harbour-second") is None

    @pytest.mark.parametrize("heard", [True, False])
    async def test_of_autoscalers_is_not_needed_to_take_replicas_from_one(self, world: World, heard: bool) -> None:
        """What it measures is no news, and of one that was only just made nothing may have been heard."""
        parts: list[str | int] = ["scaler"] if heard else []

        def build(bot: ChatbotDeployment, _: Observed) -> list[Step]:
            count = next((part for part in parts if isinstance(part, int)), None)
            scaled = [made(bot)] if "scaler" in parts else []
            return [step("chat", deployment(bot, replicas=count), *scaled)]

        def made(bot: ChatbotDeployment) -> Manifest:
            target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "harbour-chat"}
            told = {"spec": scaler(BOT)["spec"] | {"scaleTargetRef": target}}
            return manifest(bot, "chat", "HorizontalPodAutoscaler", "harbour-chat", told)

        world.create_bot()
        looks = Looks(world, plan=SmallPlan(build))
        while await looks.find():
            await looks.reconcile(world.key)
        parts[:] = ["scaler"]
        await world.reconciler(SmallPlan(build))(world.key)  # the leader before, say
        world.api.patch_status("HorizontalPodAutoscaler", world.namespace, "harbour-chat", measured(1))
        parts[:] = [2]
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"spec": {"limits": {"perMinute": 7}}})
        looks.hear("ChatbotDeployment", BOT)
        await looks.reconcile(world.key)
        assert world.get("HorizontalPodAutoscaler", "harbour-chat") is None
        assert world.existing("Deployment", "harbour-chat")["spec"]["replicas"] == 2
        assert conflicts(world) == 0

    @pytest.mark.parametrize(("mode", "seen"), [("Active", 0), ("Hibernated", 1)])
    async def test_of_pods_is_not_needed_where_none_is_to_run(self, world: World, mode: str, seen: int) -> None:
        """Data is copied, and stores sleep, once there is none: a deaf watch must not say so."""
        pods: list[int] = []

        def build(bot: ChatbotDeployment, observed: Observed) -> list[Step]:
            pods.append(len(observed.pods))
            return [step("chat", config(bot))]

        world.create_bot({"profile": "Dev", "mode": mode})
        looks = Looks(world, plan=SmallPlan(build))
        while await looks.find():
            await looks.reconcile(world.key)
        metadata = {"name": "harbour-chat-1", "labels": {names.BOT: BOT, names.COMPONENT: "chat"}}
        spec = {"containers": [{"name": "chat", "image": "chat:1"}]}
        world.api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, world.namespace)
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"spec": {"limits": {"perMinute": 7}}})
        looks.hear("ChatbotDeployment", BOT)
        await looks.reconcile(world.key)
        assert pods[-1] == seen

    async def test_what_was_missed_is_healed_by_the_resync(self, looks: Looks, world: World) -> None:
        world.api.delete("ConfigMap", world.namespace, CONFIG)
        assert await looks.find() == [world.key]
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"spec": {"limits": {"perMinute": 7}}})
        looks.hear("ChatbotDeployment", BOT)
        await looks.reconcile(world.key)
        assert world.existing("ConfigMap", CONFIG)


class TestRun:
    async def test_soon_after_a_watch_has_lost_track(self, looks: Looks, world: World) -> None:
        lost_track = asyncio.Event()
        running = asyncio.create_task(looks.resync.run(600, lost_track))
        world.api.delete("ConfigMap", world.namespace, CONFIG)
        lost_track.set()
        async with within(20):
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
        async with within(20):
            while resyncs(world) == counted:
                await asyncio.sleep(0.05)
        running.cancel()


def requests(world: World) -> float:
    samples = [sample for family in world.metrics.api_requests.collect() for sample in family.samples]
    return sum(item.value for item in samples if item.name.endswith("_total"))


def conflicts(world: World) -> float:
    samples = [sample for family in world.metrics.api_requests.collect() for sample in family.samples]
    return sum(item.value for item in samples if item.labels.get("code") == "409")


def resyncs(world: World) -> float:
    return world.metrics.registry.get_sample_value("chatbot_operator_resyncs_total") or 0.0
