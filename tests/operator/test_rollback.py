"""A change that does not come to run is given up, what ran before runs again, and any edit is another attempt."""

import pytest
from chatbot_operator.process import RULES
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.referrers import Referrers

from tests.operator.running import BOT, SETTINGS, Run, World
from tests.support.apiserver import Object, playing_kubelet

DEADLINE = {"rollout": {"deadline": "3s"}}
BROKEN = "chat:broken"


def runs(pod: Object) -> bool:
    return not any(container["image"] == BROKEN for container in pod["spec"]["containers"])


def image(world: World) -> str:
    return str(world.existing("Deployment", f"{BOT}-chat")["spec"]["template"]["spec"]["containers"][0]["image"])


@pytest.fixture
def run(world: World) -> Run:
    world.create_bot({"profile": "Dev", **DEADLINE})
    return Run(world)


async def test_goes_back_and_stays_until_the_next_edit(run: Run, world: World) -> None:
    with playing_kubelet(world.api, world.namespace, runs):
        await run.until("Ready", "True")
        good = image(world)
        run.edit(images={"chat": BROKEN}, limits={"perMinute": 7})
        told = await run.until("Ready", "False", "RolledBack")
        assert "demo" not in (told.version.rolled_back.message if told.version.rolled_back else "demo")
        told = await run.until("Available", "True")
        assert (told.phase, image(world)) == ("Degraded", good)
        assert told.observed_generation == world.bot()["metadata"]["generation"]
        for _ in range(3):
            await run.reconcile(world.key)
        writes = world.writes()
        await Run(world).reconcile(world.key)
        assert (image(world), world.writes()) == (good, writes)

        run.edit(images={"chat": None})
        told = await run.until("Ready", "True")
        assert told.version.rolled_back is None
        assert [item.generation for item in told.version.history] == [3, 1]
        assert len(world.api.list("ControllerRevision", world.namespace, f"chatbot-operator.io/bot={BOT}")) >= 1


async def test_version_of_the_resource_is_the_target(run: Run, world: World) -> None:
    with playing_kubelet(world.api, world.namespace, runs):
        run.edit(version="0.0.9")
        told = await run.until("Ready", "True")
        assert (told.version.current, told.version.target) == ("0.0.9", "0.0.9")


async def test_can_be_switched_off(run: Run, world: World) -> None:
    with playing_kubelet(world.api, world.namespace, runs):
        await run.until("Ready", "True")
        run.edit(images={"chat": BROKEN}, rollout={"autoRollback": False})
        told = await run.until("Ready", "False", "ProgressDeadlineExceeded")
        assert (told.phase, image(world)) == ("Degraded", BROKEN)


async def test_first_version_has_nothing_to_go_back_to(world: World) -> None:
    world.create_bot({"profile": "Dev", "images": {"auth": BROKEN}, **DEADLINE})
    run = Run(world)
    with playing_kubelet(world.api, world.namespace, lambda pod: runs(pod) or "job-name" in pod["metadata"]["labels"]):
        told = await run.until("Ready", "False", "ProgressDeadlineExceeded")
        assert told.phase == "Failed"


async def test_version_of_the_operator_is_given_up_too(run: Run, world: World) -> None:
    """An operator that brings images which do not run must not take down what ran."""
    with playing_kubelet(world.api, world.namespace, runs):
        await run.until("Ready", "True")
        good = image(world)
        images = SETTINGS.images.model_copy(update={"chat": BROKEN})
        newer = SETTINGS.model_copy(update={"images": images, "version": "0.2.0"})
        run.reconcile = Reconciler(world.cluster, newer, world.metrics, Referrers(), RULES)
        told = await run.until("Ready", "False", "RolledBack")
        assert (told.version.target, image(world)) == ("0.2.0", good)
        assert told.version.rolled_back is not None
        assert told.version.rolled_back.version == "0.2.0"
