"""Who owns the number of pods, and what happens when nobody is to: on a real API server with its own controllers."""

import asyncio

import pytest
from chatbot_operator import names

from tests.operator.running import BOT, SECONDS, Run, World
from tests.operator.specs import KEYED
from tests.support.apiserver import playing_kubelet
from tests.support.patience import within

COMPONENTS = ("gateway", "auth", "chat", "conversation", "conversation-worker")
STORES = ("postgres", "redis", "weaviate")


def replicas(world: World, part: str = "chat") -> int:
    return int(world.existing("Deployment", f"{BOT}-{part}")["spec"]["replicas"])


def scale(world: World, count: int) -> None:
    """As `kubectl scale` does it, or somebody's autoscaler."""
    world.api.patch("Deployment", world.namespace, f"{BOT}-chat", {"spec": {"replicas": count}}, "somebody")


@pytest.fixture
def run(world: World) -> Run:
    world.create_bot({"profile": "Dev"})
    return Run(world)


async def test_hibernation_takes_all_pods_and_gives_back_as_many(run: Run, world: World) -> None:
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "True")
        scale(world, 3)
        await run.until("Ready", "True")
        password = run.secret("postgres")["data"]

        run.edit(mode="Hibernated")
        told = await run.until("Ready", "False", "Hibernated")
        assert told.phase == "Hibernated"
        assert [replicas(world, part) for part in COMPONENTS] == [0] * 5
        assert [world.existing("StatefulSet", f"{BOT}-{name}")["spec"]["replicas"] for name in STORES] == [0] * 3
        async with within(SECONDS):
            while [pod for pod in world.api.list("Pod", world.namespace) if pod["status"]["phase"] != "Succeeded"]:
                await asyncio.sleep(0.1)
        assert world.api.list("HorizontalPodAutoscaler", world.namespace) == []
        await run.rests()

        run.edit(mode="Active")
        assert (await run.until("Ready", "True")).phase == "Ready"
        assert [replicas(world, part) for part in COMPONENTS] == [1, 1, 3, 1, 1]
        assert world.get("HorizontalPodAutoscaler", f"{BOT}-chat") is not None
        assert run.secret("postgres")["data"] == password
        await run.rests()


async def test_hibernates_also_what_lacks_something(run: Run, world: World) -> None:
    """Else a Secret that is gone would keep pods running that were to go."""
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "True")
        run.edit(knowledge={"faqRef": {"name": "nowhere", "key": "faqs.yaml"}}, mode="Hibernated")
        async with within(SECONDS):
            while replicas(world, "conversation"):
                await run.reconcile(world.key)


async def test_made_hibernated_there_is_everything_but_pods(world: World) -> None:
    world.create_bot({"profile": "Dev", "mode": "Hibernated"})
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "False", "Hibernated")
        assert world.api.list("Pod", world.namespace) == world.api.list("Job", world.namespace) == []
        run.edit(mode="Active")
        await run.until("Ready", "True")


async def test_external_owner_of_replicas_is_left_alone(run: Run, world: World) -> None:
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "True")
        scale(world, 2)
        run.edit(components={"chat": {"scaling": {"mode": "External"}}})
        await run.until("Ready", "True")
        assert (replicas(world), world.get("HorizontalPodAutoscaler", f"{BOT}-chat")) == (2, None)
        for count in (4, 0):
            scale(world, count)
            await run.reconcile(world.key)
            assert replicas(world) == count
        await run.until("Available", "False")
        run.edit(components={"chat": {"scaling": {"mode": "Fixed", "replicas": 1}}})
        await run.until("Ready", "True")
        assert replicas(world) == 1
        run.edit(components={"chat": {"scaling": {"mode": "External", "replicas": None}}})
        await run.until("Ready", "True")
        assert replicas(world) == 1
        await run.rests()


async def test_paused_reports_and_changes_nothing(run: Run, world: World) -> None:
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "True")
        run.edit(mode="Paused")
        told = await run.until("Paused", "True")
        assert (told.phase, run.ready(told)) == ("Paused", ("True", "Settled"))
        scale(world, 3)
        run.edit(limits={"perMinute": 7}, components={"chat": {"scaling": {"mode": "Fixed", "replicas": 2}}})
        theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openai"}, "stringData": {"api-key": "sk"}}
        before = world.api.create(theirs, world.namespace)
        models = [{"name": "main", "deployments": [{"provider": "openai", "model": "gpt"}]}]
        run.edit(llm={"providers": [KEYED], "models": models, "default": "main"})
        world.api.delete("Service", world.namespace, f"{BOT}-auth")
        told = await run.until("Ready", "False", "Paused")
        assert (told.phase, replicas(world)) == ("Paused", 3)
        assert world.get("Service", f"{BOT}-auth") is None
        assert world.existing("Secret", "openai")["metadata"] == before["metadata"]
        run.edit(mode="Active")
        await run.until("Ready", "True")
        assert (replicas(world), world.get("Service", f"{BOT}-auth") is None) == (2, False)
        assert names.REFERENCED in world.existing("Secret", "openai")["metadata"]["labels"]
