"""A change that does not come to run is given up, what ran before runs again, and any edit is another attempt."""

from typing import Any

import pytest
from chatbot_operator.process import RULES
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.referrers import Referrers

from tests.operator.running import BOT, SETTINGS, Run, World
from tests.operator.simulated import Cluster, make_bot
from tests.operator.specs import DEV
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


class TestTried:
    """What is given up has been tried before."""

    @pytest.fixture
    def cluster(self) -> Cluster:
        """One that has settled, and whose next generation does not come to run, which nobody takes back."""
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.edit(images={"chat": BROKEN}, rollout={"autoRollback": False})
        cluster.reconcile()
        overdue(cluster, "demo-chat")
        cluster.reconcile()
        assert cluster.condition("Ready").reason == "ProgressDeadlineExceeded"
        return cluster

    def test_what_mends_it_is_applied(self, cluster: Cluster) -> None:
        cluster.edit(images={}, rollout={})
        cluster.reconcile()
        assert cluster.chosen.rolled_back is None
        told = cluster.converge().report()
        assert (told.phase, told.version.rolled_back) == ("Ready", None)

    def test_what_asks_for_the_same_again_is_not(self, cluster: Cluster) -> None:
        cluster.edit(rollout={})
        cluster.reconcile()
        given_up = cluster.chosen.rolled_back
        assert given_up is not None
        assert given_up.generation == 3


def test_faqs_that_cannot_be_read_are_no_reason() -> None:
    """What ran before reads them too."""
    cluster = Cluster(make_bot(DEV)).converge()
    cluster.edit(components={"conversation": {"resources": {"limits": {"memory": "1Gi"}}}})
    cluster.reconcile()
    overdue(cluster, "demo-conversation-worker")
    cluster.bad_faqs = "line 1: not valid YAML"
    assert cluster.chosen.rolled_back is None
    told = cluster.report()
    assert cluster.condition("Ready").reason == "InvalidFaqs"
    assert told.components[-1].reason.startswith("InvalidFaqs: ConfigMap faqs, which spec.knowledge.faqRef names")
    cluster.bad_faqs = ""
    assert cluster.chosen.rolled_back is not None


class TestMessage:
    """It stays when the pods are gone that it tells of."""

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            (
                {"image": BROKEN, "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}},
                f"A pod of Deployment demo-chat cannot pull image {BROKEN} (not found).",
            ),
            (
                {
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"exitCode": 1, "message": "no: kubectl logs it"}},
                },
                "A pod of Deployment demo-chat ended with exit code 1, saying 'no: kubectl logs it'.",
            ),
            ({"state": {"running": {}}}, "Deployment demo-chat has made no progress in time."),
        ],
        ids=["image", "crash", "silence"],
    )
    def test_names_no_pod_and_is_a_sentence(self, status: dict[str, Any], said: str) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.edit(images={"chat": BROKEN})
        cluster.reconcile()
        overdue(cluster, "demo-chat")
        cluster.pod("chat", "demo-chat-5d9c7b8f6-x2x2x", {"containerStatuses": [status]})
        told = cluster.report()
        assert told.version.rolled_back is not None
        assert told.version.rolled_back.message == said
        whole = f"Generation 2 with version 0.1.0 was given up: {said} What ran before runs again (demo-"
        assert cluster.condition("Ready").message.startswith(whole)

    def test_is_cut_where_a_policy_says_more_than_a_status_has_room_for(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.edit(images={"chat": BROKEN})
        cluster.reconcile()
        overdue(cluster, "demo-chat")
        denied = {"type": "ReplicaFailure", "status": "True", "message": "denied: " + "x" * 5000}
        cluster.child("Deployment", "demo-chat")["status"]["conditions"].append(denied)
        told = cluster.report()
        assert told.version.rolled_back is not None
        said = told.version.rolled_back.message
        assert said.startswith("Deployment demo-chat cannot make pods: denied: xxx")
        assert said.endswith("x.")


def overdue(cluster: Cluster, name: str) -> None:
    """Its controller has given up waiting."""
    live = cluster.child("Deployment", name)
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    seen = {"observedGeneration": live["metadata"]["generation"], "conditions": [condition], "updatedReplicas": 0}
    cluster.children["Deployment", name] = live | {"status": live["status"] | seen}
