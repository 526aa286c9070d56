"""Children that cannot be changed as a whole: what can be of them comes back, and what must be is made anew."""

from collections.abc import Callable

import pytest
from chatbot_operator import names
from chatbot_operator.components.metadata import applied_hash, manifest
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.world import Manifest
from chatbot_resource.model import ChatbotDeployment

from tests.operator.running import BOT, Run, SmallPlan, World, scaler, step
from tests.support.apiserver import Object, playing_kubelet

NAME = "harbour-chat"
CONFIG = "harbour-chat-config"
Build = Callable[[ChatbotDeployment], Manifest]


def sealed_config(bot: ChatbotDeployment) -> Manifest:
    return manifest(bot, "chat", "ConfigMap", NAME, {"data": {"text": "one"}, "immutable": True})


def open_config(bot: ChatbotDeployment) -> Manifest:
    return manifest(bot, "chat", "ConfigMap", NAME, {"data": {"text": "one"}})


def job(bot: ChatbotDeployment) -> Manifest:
    pod = {"restartPolicy": "Never", "containers": [{"name": "migrate", "image": "auth:1"}]}
    body = {"spec": {"backoffLimit": 7, "template": {"spec": pod}}}
    return manifest(bot, "chat", "Job", NAME, body, annotations={"example.com/note": "one"})


def revision(bot: ChatbotDeployment) -> Manifest:
    return manifest(bot, "chat", "ControllerRevision", NAME, {"data": {"spec": {}}, "revision": 1})


BUILDERS: dict[str, Build] = {
    "ConfigMap": sealed_config,
    "ConfigMap that can be changed": open_config,
    "Job": job,
    "ControllerRevision": revision,
}
EDITS: dict[str, Object] = {
    "labels": {"labels": {names.MANAGED_BY: None, names.INSTANCE: None}},
    "all labels": {"labels": None},
    "another label": {"labels": {names.COMPONENT: "x"}},
    "owner": {"ownerReferences": None},
    "hash": {"annotations": {names.APPLIED_HASH: None}},
    "all": {"labels": None, "ownerReferences": None},
}
COUNTED = ("managedFields", "resourceVersion", "generation")
OF_PODS = ("controller-uid", "job-name")


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
async def test_what_somebody_took_off_comes_back(world: World, build: Build, edit: Object) -> None:
    reconciler, kind, before = await made(world, build)
    world.api.patch(kind, world.namespace, NAME, {"metadata": edit}, manager="hand")
    assert said(world, kind) != before
    await reconciler(world.key)
    assert said(world, kind) == before
    assert world.bot()["status"]["conditions"][0]["status"] == "True"
    writes = world.writes()
    await reconciler(world.key)
    await world.reconciler(plan(build))(world.key)
    assert world.writes() == writes


async def made(world: World, build: Build) -> tuple[Reconciler, str, Object]:
    """What reconciles, the kind, and all that it says."""
    world.create_bot()
    reconciler = world.reconciler(plan(build))
    await reconciler(world.key)
    kind = next(kind for kind in ("ConfigMap", "Job", "ControllerRevision") if world.get(kind, NAME))
    return reconciler, kind, said(world, kind)


def plan(build: Build) -> SmallPlan:
    return SmallPlan(lambda bot, _: [step("chat", build(bot))])


def said(world: World, kind: str) -> Object:
    """All but what the API server counts, and what controllers observe; the uid is here."""
    live = world.existing(kind, NAME)
    metadata = {name: value for name, value in live["metadata"].items() if name not in COUNTED}
    # A Job without any gets those of its pods.
    own = {name: text for name, text in (metadata.get("labels") or {}).items() if not name.endswith(OF_PODS)}
    return {name: value for name, value in live.items() if name != "status"} | {"metadata": metadata | {"labels": own}}


class TestMetadata:
    async def test_who_changed_it_is_named_and_after_three_times_left_alone(self, world: World) -> None:
        reconciler, kind, _ = await made(world, job)
        edit = {"metadata": {"labels": {names.COMPONENT: "x"}}}
        for _ in range(4):
            world.api.patch(kind, world.namespace, NAME, edit, manager="hand")
            await reconciler(world.key)
        [told] = [message for reason, message in world.events() if reason == "FieldTakenBack"]
        assert told.startswith(f"metadata.labels.{names.COMPONENT} of Job {NAME}, written by hand,")
        assert world.existing(kind, NAME)["metadata"]["labels"][names.COMPONENT] == "x"
        assert world.bot()["status"]["conditions"][0]["reason"] == "FieldConflict"

    async def test_what_others_wrote_beside_it_stays(self, world: World) -> None:
        reconciler, kind, _ = await made(world, job)
        other = world.api.create(scaler("nobody"), world.namespace)
        owner = {name: other[name] for name in ("apiVersion", "kind")}
        owner |= {name: other["metadata"][name] for name in ("name", "uid")}
        metadata = {"ownerReferences": [owner], "labels": {"mine": "yes"}, "annotations": {"example.com/note": None}}
        world.api.patch(kind, world.namespace, NAME, {"metadata": metadata})
        await reconciler(world.key)
        live = world.existing(kind, NAME)["metadata"]
        assert live["labels"]["mine"] == "yes"
        assert live["annotations"]["example.com/note"] == "one"
        assert [one["name"] for one in live["ownerReferences"]] == ["busy", BOT]

    async def test_a_job_that_says_something_else_by_now_keeps_what_it_says_and_its_hash(self, world: World) -> None:
        _, kind, before = await made(world, job)

        def newer(bot: ChatbotDeployment) -> Manifest:
            wanted = job(bot)
            return manifest(
                bot, "chat", "Job", NAME, {"spec": wanted["spec"] | {"backoffLimit": 8}}, more={"new": "yes"}
            )

        for _ in range(2):
            await world.reconciler(plan(newer))(world.key)
        live = world.existing(kind, NAME)
        assert live["metadata"]["labels"]["new"] == "yes"
        assert live["spec"] == before["spec"]
        assert applied_hash(live) == applied_hash(before)


class TestSealed:
    """A ConfigMap that somebody made immutable, and its content is another since, or is not ours."""

    async def test_is_made_anew_with_what_it_is_to_say(self, world: World) -> None:
        _, _, before = await made(world, open_config)
        world.api.patch("ConfigMap", world.namespace, NAME, {"immutable": True})
        newer = world.reconciler(plan(lambda bot: manifest(bot, "chat", "ConfigMap", NAME, {"data": {"text": "two"}})))
        await newer(world.key)
        live = world.existing("ConfigMap", NAME)
        assert live["data"] == {"text": "two"}
        assert "immutable" not in live
        assert live["metadata"]["uid"] != before["metadata"]["uid"]
        assert world.bot()["status"]["conditions"][0]["status"] == "True"

    async def test_who_did_it_is_named(self, world: World) -> None:
        reconciler, *_ = await made(world, open_config)
        world.api.patch("ConfigMap", world.namespace, NAME, {"immutable": True, "data": {"text": "x"}}, manager="hand")
        await reconciler(world.key)
        assert world.existing("ConfigMap", NAME)["data"] == {"text": "one"}
        [told] = [message for reason, message in world.events() if reason == "FieldTakenBack"]
        assert told.startswith(f"data.text of ConfigMap {NAME}, written by hand,")

    async def test_is_left_as_long_as_it_says_the_same(self, world: World) -> None:
        reconciler, _, before = await made(world, open_config)
        world.api.patch("ConfigMap", world.namespace, NAME, {"immutable": True})
        await reconciler(world.key)
        assert said(world, "ConfigMap") == before | {"immutable": True}

    async def test_comes_back_once_a_finalizer_lets_it_go(self, world: World) -> None:
        reconciler, *_ = await made(world, open_config)
        held = {"immutable": True, "data": {"text": "x"}, "metadata": {"finalizers": ["example.com/hold"]}}
        world.api.patch("ConfigMap", world.namespace, NAME, held)
        for _ in range(2):
            await reconciler(world.key)
        assert world.existing("ConfigMap", NAME)["metadata"]["deletionTimestamp"]
        world.api.patch("ConfigMap", world.namespace, NAME, {"metadata": {"finalizers": None}})
        await reconciler(world.key)
        assert world.existing("ConfigMap", NAME)["data"] == {"text": "one"}


async def test_a_bot_gets_all_of_them_back_and_is_ready(world: World) -> None:
    """With the whole plan, which waits for what it does not see."""
    world.create_bot({"profile": "Dev", "stores": {"vectors": {"type": "PGVector"}}})
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "True")
        before = {(item["kind"], item["metadata"]["name"]): item["metadata"]["uid"] for item in ours(world)}
        assert {kind for kind, _ in before} == {"ConfigMap", "Job", "ControllerRevision"}
        off = {"metadata": {"labels": {names.MANAGED_BY: None, names.BOT: None}, "ownerReferences": None}}
        for kind, name in before:
            world.api.patch(kind, world.namespace, name, off)
        await run.reconcile(world.key)
        told = run.status()
        assert Run.ready(told) == ("True", "Settled")
        assert {(item["kind"], item["metadata"]["name"]): item["metadata"]["uid"] for item in ours(world)} == before
        await run.rests()


def ours(world: World) -> list[Object]:
    """Children of these kinds that carry our labels and our owner."""
    selector = f"{names.BOT}={BOT},{names.MANAGED_BY}={names.FIELD_MANAGER}"
    kinds = ("ConfigMap", "Job", "ControllerRevision")
    found = [{"kind": kind} | item for kind in kinds for item in world.api.list(kind, world.namespace, selector)]
    return [item for item in found if item["metadata"].get("ownerReferences")]


class TestSecret:
    async def test_that_somebody_made_immutable_gets_its_labels_back_and_is_kept(self, world: World) -> None:
        world.create_bot({"profile": "Dev"})
        run = Run(world)
        with playing_kubelet(world.api, world.namespace):
            await run.until("Ready", "True")
            before = run.secret("signing-keys")
            edit = {"immutable": True, "metadata": {"labels": {names.COMPONENT: "x"}, "ownerReferences": None}}
            world.api.patch("Secret", world.namespace, f"{BOT}-signing-keys", edit)
            await run.until("Ready", "True")
            after = run.secret("signing-keys")
            assert (after["data"], after["metadata"]["uid"]) == (before["data"], before["metadata"]["uid"])
            for name in ("labels", "ownerReferences"):
                assert after["metadata"][name] == before["metadata"][name]

    async def test_and_holds_keys_that_are_to_rotate_says_what_to_do_and_that_does_it(self, world: World) -> None:
        world.create_bot({"profile": "Dev"})
        run = Run(world)
        name = f"{BOT}-signing-keys"
        with playing_kubelet(world.api, world.namespace):
            await run.until("Ready", "True")
            before = run.secret("signing-keys")
            world.api.patch("Secret", world.namespace, name, {"immutable": True})
            asked = {"metadata": {"annotations": {names.ROTATE_KEYS: "now"}}}
            world.api.patch("ChatbotDeployment", world.namespace, BOT, asked)
            told = await run.until("SecretsReady", "False", "ApplyRefused")
            [message] = {item.message for item in told.conditions if item.reason == "ApplyRefused"}
            assert message.startswith(f"Secret {name} is immutable, so its keys cannot be rotated.")
            assert next(item.status for item in told.conditions if item.type == "Available") == "True"
            assert run.secret("signing-keys")["data"] == before["data"]
            writes = world.writes()
            await run.reconcile(world.key)
            assert world.writes() == writes
            # What it names, step by step: the keys are in a file before they are nowhere else.
            here = f"-n {world.namespace}"
            read = f"kubectl get secret {name} {here} -o yaml | sed '/^immutable: true$/d' > keys.yaml"
            assert f"{read} && kubectl replace --force -f keys.yaml" in message
            assert f"kubectl chatbot resume {BOT} {here}" in message
            there = ("-n", world.namespace)
            run.edit(mode="Paused")
            read = world.api.kubectl(*there, "get", "secret", name, "-o", "yaml")
            kept = "".join(line for line in read.splitlines(keepends=True) if line != "immutable: true\n")
            world.api.kubectl(*there, "replace", "--force", "-f", "-", stdin=kept)
            assert run.secret("signing-keys")["data"] == before["data"]
            run.edit(mode="Active")
            await run.until("Ready", "True")
            assert run.secret("signing-keys")["data"] != before["data"], "the rotation has begun"
