"""A change that does not come to run is given up, what ran before runs again, and any edit is another attempt."""

import asyncio
import json
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from chatbot_operator.components.revisions import due
from chatbot_operator.moments import passed
from chatbot_operator.process import RULES
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.referrers import Referrers

from tests.operator.running import BOT, SETTINGS, Run, World
from tests.operator.simulated import LATER, NOW, Cluster, make_bot
from tests.operator.specs import DEV, PRODUCTION
from tests.support.apiserver import Object, playing_kubelet, wait_for

DEADLINE = {"rollout": {"deadline": "3s"}}
BROKEN = "chat:broken"


def runs(pod: Object) -> bool:
    return not any(container["image"] == BROKEN for container in pod["spec"]["containers"])


def image(world: World) -> str:
    return str(world.existing("Deployment", f"{BOT}-chat")["spec"]["template"]["spec"]["containers"][0]["image"])


def tried(world: World) -> Object | None:
    pod = world.get("Pod", f"{BOT}-redis-0")
    return pod if pod and not runs(pod) and not pod["metadata"].get("deletionTimestamp") else None


def retry(world: World, text: str) -> None:
    annotations = {"chatbot-operator.io/retry": text}
    world.api.patch("ChatbotDeployment", world.namespace, BOT, {"metadata": {"annotations": annotations}})


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


async def test_what_was_mended_outside_is_tried_again_when_somebody_asks(run: Run, world: World) -> None:
    """The same image under the same tag: the resource has nothing new to say."""
    mended = threading.Event()
    with playing_kubelet(world.api, world.namespace, lambda pod: mended.is_set() or runs(pod)):
        await run.until("Ready", "True")
        run.edit(images={"chat": BROKEN})
        await run.until("Ready", "False", "RolledBack")
        told = await run.until("Available", "True")
        said = next(item.message for item in told.conditions if item.type == "Ready")
        assert f"kubectl chatbot retry {BOT} -n {world.namespace}" in said
        mended.set()
        await run.rests()
        assert image(world) != BROKEN
        retry(world, "one")
        told = await run.until("Ready", "True")
        assert (image(world), told.version.rolled_back) == (BROKEN, None)


async def test_what_is_tried_again_in_vain_is_given_up_again(run: Run, world: World) -> None:
    with playing_kubelet(world.api, world.namespace, runs):
        await run.until("Ready", "True")
        run.edit(images={"chat": BROKEN})
        await run.until("Ready", "False", "RolledBack")
        await run.until("Available", "True")
        retry(world, "one")
        await run.reconcile(world.key)
        assert image(world) == BROKEN
        told = await run.until("Ready", "False", "RolledBack")
        assert told.version.rolled_back is not None
        assert told.version.rolled_back.retry == "one"
        assert image(world) != BROKEN


async def test_image_of_a_store_is_given_time_and_then_taken_back(run: Run, world: World) -> None:
    with playing_kubelet(world.api, world.namespace, runs):
        await run.until("Ready", "True")
        run.edit(images={"redis": BROKEN})
        await run.until("CacheReady", "False", "Starting")
        pod = await asyncio.to_thread(wait_for, "the pod", lambda: tried(world))
        waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
        told = {"name": "redis", "image": BROKEN, "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
        world.api.patch_status("Pod", world.namespace, f"{BOT}-redis-0", {"containerStatuses": [told]})
        await run.until("Ready", "False", "RolledBack")
        assert passed(pod["metadata"]["creationTimestamp"], datetime.now(UTC).isoformat()) >= 3
        await run.until("CacheReady", "True")


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

    def test_what_asks_in_other_words_at_the_end_of_a_long_text_is_another_attempt(self, cluster: Cluster) -> None:
        cluster.edit(rollout={})
        long, found = "as agreed with the people who run the registry, on call this week: ", set()
        for text in (f"{long}one", f"{long}one", f"{long}two", "three"):
            annotated = cluster.bot.metadata.model_copy(update={"annotations": {"chatbot-operator.io/retry": text}})
            cluster.bot = cluster.bot.model_copy(update={"metadata": annotated})
            assert cluster.chosen.rolled_back
            found.add(cluster.chosen.rolled_back.retry)
        assert len(found) == 3
        assert "three" in found

    def test_what_asks_for_the_same_again_is_not(self, cluster: Cluster) -> None:
        cluster.edit(rollout={})
        cluster.reconcile()
        given_up = cluster.chosen.rolled_back
        assert given_up is not None
        assert given_up.generation == 3


class TestKept:
    """What no pod has to prove is as the resource says now: who has set it relies on it."""

    @staticmethod
    def given_up(cluster: Cluster, **edit: Any) -> None:
        cluster.edit(images={"chat": BROKEN}, **edit)
        while not cluster.chosen.rolled_back:
            cluster.reconcile()
            cluster.settle()
            overdue(cluster, "demo-chat")
        for _ in range(3):
            cluster.reconcile()
            cluster.settle()
        assert cluster.condition("Ready").reason == "RolledBack"
        assert images(cluster)["demo-chat"] != BROKEN

    def test_data_that_is_to_outlive_the_resource_does(self) -> None:
        cluster = Cluster(make_bot(DEV | {"stores": {"deletionPolicy": "Delete"}})).converge()
        self.given_up(cluster, stores={"deletionPolicy": "Retain"})
        spec = cluster.child("StatefulSet", "demo-postgres")["spec"]
        assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
        assert "ownerReferences" not in cluster.child("Secret", "demo-postgres")["metadata"]
        assert "stores.deletionPolicy" in cluster.condition("Ready").message

    def test_who_may_sign_up_and_who_is_let_in_is_as_it_says(self) -> None:
        peer = {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}
        cluster, between = Cluster(make_bot(DEV)).converge(), {"metricsFrom": [peer]}
        before = {name: config(cluster, name) for name in SERVICES}
        self.given_up(cluster, auth={"signup": "Closed"}, network=between, limits={"perMinute": 7})
        assert peer in cluster.child("NetworkPolicy", "demo-chat")["spec"]["ingress"][-1]["from"]
        assert "network.metricsFrom" in cluster.condition("Ready").message
        assert before["auth"]["signup"] == "Open"
        assert config(cluster, "auth") == before["auth"] | {"signup": "Closed"}
        assert config(cluster, "gateway") == before["gateway"]

    def test_what_ran_before_reaches_what_it_reached(self) -> None:
        """Here a Redis at a port of its own, to which the edit closes the way."""
        way = {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 7000}]}
        redis = {"redis": PRODUCTION["stores"]["redis"]}
        cluster = Cluster(make_bot(DEV | {"stores": redis, "network": {"egress": [way]}})).converge()
        self.given_up(cluster, network={"policy": "Enforce"})
        for part in ("gateway", "chat"):
            assert "7000" in str(cluster.child("NetworkPolicy", f"demo-{part}")["spec"]["egress"])

    def test_nothing_rolls_that_nothing_was_asked_of(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        before = {name: cluster.child("Deployment", f"demo-{name}")["spec"] for name in SERVICES}
        self.given_up(cluster)
        assert {name: cluster.child("Deployment", f"demo-{name}")["spec"] for name in SERVICES} == before

    def test_what_the_former_profile_refuses_is_as_it_was(self) -> None:
        """A rollback that cannot be made would be worse."""
        stores = PRODUCTION["stores"] | {"deletionPolicy": "Retain"}
        cluster = Cluster(make_bot(PRODUCTION | {"stores": stores | {"deletionPolicy": "Delete"}})).converge()
        self.given_up(cluster, profile="Standard", network={"policy": "Off"}, stores=stores)
        assert ("NetworkPolicy", "demo-chat") in cluster.children
        assert cluster.chosen.bot.spec.stores.deletion_policy == "Retain"


def test_what_was_written_to_another_database_is_not_left_behind() -> None:
    """Its services serve on it already; what ran before would not see that."""

    def at(name: str) -> dict[str, Any]:
        external = {"authSecretRef": {"name": f"{name}-a"}, "conversationSecretRef": {"name": f"{name}-c"}}
        return PRODUCTION["stores"] | {"postgres": {"mode": "External", "external": external}}

    cluster = Cluster(make_bot(PRODUCTION | {"stores": at("old")})).converge()
    cluster.edit(images={"gateway": BROKEN}, stores=at("new"))
    for _ in range(5):
        cluster.reconcile()
        cluster.settle()
        overdue(cluster, "demo-gateway")
    assert images(cluster)["demo-gateway"] == BROKEN
    assert cluster.chosen.rolled_back is None
    cluster.edit(images={"chat": BROKEN}, stores=at("old"))
    for _ in range(5):
        cluster.reconcile()
        cluster.settle()
        overdue(cluster, "demo-chat")
    assert cluster.chosen.rolled_back is not None, "the data is where it was"


def config(cluster: Cluster, service: str) -> dict[str, Any]:
    """What its pods are told."""
    volumes = cluster.child("Deployment", f"demo-{service}")["spec"]["template"]["spec"]["volumes"]
    [name] = [item["configMap"]["name"] for item in volumes if item["name"] == "config"]
    told: dict[str, Any] = json.loads(next(iter(cluster.child("ConfigMap", name)["data"].values())))
    return told


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


STORES = ("postgres", "redis", "weaviate")
SERVICES = ("gateway", "auth", "chat", "conversation")
EVERYWHERE = dict.fromkeys((*STORES, *SERVICES), "nope:9")


class TestStores:
    """Their only pods are the last that try a new version, and go back like the others."""

    @pytest.fixture
    def cluster(self) -> Cluster:
        cluster = Cluster(make_bot(DEV | {"rollout": {"deadline": "60s"}}), at="2026-11-21T06:00:50Z")
        return cluster.converge()

    def test_wrong_version_does_not_reach_them_and_is_given_up(self, cluster: Cluster) -> None:
        before, known = images(cluster), set(cluster.children)
        cluster.edit(images=EVERYWHERE)
        cluster.reconcile()
        [job] = [name for kind, name in set(cluster.children) - known if kind == "Job" and "auth" in name]
        unpulled(cluster, "auth-db", f"{job}-x2x2x", job_name=job)
        cluster.reconcile()
        assert images(cluster) == before
        assert cluster.condition("Available").status == "True"
        assert cluster.condition("Ready").reason == "ImagePullFailed"
        assert (cluster.chosen.rolled_back, due(cluster.bot, cluster.observed)) == (None, 10)
        assert given_up(cluster) == f"A pod of Job {job} cannot pull image nope:9 (not found)."
        assert (cluster.condition("Available").status, images(cluster)) == ("True", before)
        assert ("Job", job) not in cluster.children

    def test_right_version_reaches_them_when_all_services_run_it(self, cluster: Cluster) -> None:
        before = images(cluster, "StatefulSet")
        cluster.edit(images=EVERYWHERE)
        for part in ("auth-db conversation-db", "auth conversation conversation-worker", "chat", "gateway"):
            cluster.reconcile()
            assert images(cluster, "StatefulSet") == before
            assert cluster.condition("Ready").status == "False"
            cluster.settle(*part.split())
        cluster.reconcile()
        assert set(images(cluster).values()) == {"nope:9"}
        assert revision(cluster) == 1, "kept once stores run it too"
        assert revision(cluster.converge()) == 2

    @pytest.mark.parametrize("store", STORES)
    def test_image_of_one_alone_is_given_up_too(self, cluster: Cluster, store: str) -> None:
        before = images(cluster)
        cluster.edit(images={store: "nope:9"})
        cluster.reconcile()
        assert images(cluster)[f"demo-{store}"] == "nope:9"
        cluster.settle()
        cluster.child("StatefulSet", f"demo-{store}")["status"]["readyReplicas"] = 0
        unpulled(cluster, store, f"demo-{store}-0")
        cluster.reconcile()
        assert (cluster.condition("Available").status == "False") is (store == "postgres"), "before services notice"
        assert cluster.chosen.rolled_back is None
        assert given_up(cluster) == f"A pod of StatefulSet demo-{store} cannot pull image nope:9 (not found)."
        assert (cluster.condition("Available").status, images(cluster)) == ("True", before)

    def test_a_webhook_that_rewrites_images_is_no_new_version(self, cluster: Cluster) -> None:
        for store in STORES:
            [container] = cluster.child("StatefulSet", f"demo-{store}")["spec"]["template"]["spec"]["containers"]
            container["image"] = f"mirror/{container['image']}"
        before = images(cluster, "StatefulSet")
        cluster.edit(images=EVERYWHERE)
        cluster.reconcile()
        assert images(cluster, "StatefulSet") == before, "the last that try it"
        unpulled(cluster, "redis", "demo-redis-0")
        cluster.at = LATER
        assert cluster.chosen.rolled_back is None, "what it ran before fails by something else"

    def test_what_else_is_asked_of_them_does_not_wait(self, cluster: Cluster) -> None:
        before = images(cluster)
        cluster.edit(images=EVERYWHERE, stores={"postgres": {"resources": {"limits": {"memory": "3Gi"}}}})
        cluster.reconcile()
        [container] = cluster.child("StatefulSet", "demo-postgres")["spec"]["template"]["spec"]["containers"]
        assert (container["resources"]["limits"]["memory"], images(cluster)) == ("3Gi", before)

    def test_one_that_cannot_run_as_it_is_does_not_wait(self, cluster: Cluster) -> None:
        """A registry has moved: migrations wait for this one."""
        unpulled(cluster, "postgres", "demo-postgres-0")
        cluster.edit(images=EVERYWHERE)
        cluster.reconcile()
        found = images(cluster)
        assert (found["demo-postgres"], found["demo-redis"]) == ("nope:9", "chatbot-valkey:0.1.0")


def given_up(cluster: Cluster) -> str:
    """Why, when the time is over; what ran before runs then."""
    cluster.at = LATER
    cluster.reconcile()
    cluster.pods.clear()
    cluster.settle()
    cluster.reconcile()
    told = cluster.report()
    assert (cluster.condition("Ready").reason, cluster.condition("Progressing").status) == ("RolledBack", "False")
    return told.version.rolled_back.message if told.version.rolled_back else ""


def images(cluster: Cluster, *kinds: str) -> dict[str, str]:
    return {
        name: str(item["spec"]["template"]["spec"]["containers"][0]["image"])
        for (kind, name), item in cluster.children.items()
        if kind in (kinds or ("Deployment", "StatefulSet"))
    }


def revision(cluster: Cluster) -> int:
    return max(int(item["revision"]) for (kind, _), item in cluster.children.items() if kind == "ControllerRevision")


def unpulled(cluster: Cluster, part: str, name: str, **labels: str) -> None:
    waiting = {"reason": "ErrImagePull", "message": "not found"}
    cluster.pod(part, name, {"containerStatuses": [{"image": "nope:9", "state": {"waiting": waiting}}]}, **labels)
    cluster.pods[-1]["metadata"]["creationTimestamp"] = NOW


def overdue(cluster: Cluster, name: str) -> None:
    """Its controller has given up waiting."""
    live = cluster.child("Deployment", name)
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    seen = {"observedGeneration": live["metadata"]["generation"], "conditions": [condition], "updatedReplicas": 0}
    cluster.children["Deployment", name] = live | {"status": live["status"] | seen}
