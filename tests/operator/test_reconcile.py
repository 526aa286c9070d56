"""The sequence of a reconcile, on a real API server with a small plan. The whole plan is in test_process.py."""

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest
from chatbot_operator import names, pauses
from chatbot_operator.components.metadata import manifest
from chatbot_operator.faults import Conflict, Unavailable
from chatbot_operator.process import RULES
from chatbot_operator.world import Blocked, Manifest, Observed, Reference
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import PostgresStatus, Status, StoresStatus

from tests.operator.running import BOT, SmallPlan, World, config, deployment, step, webhook_down
from tests.support.apiserver import wait_for

DEPLOYMENT = "harbour-chat"
CONFIG = "harbour-chat-config"


class TestApply:
    async def test_makes_what_is_planned_owned_by_the_resource(self, world: World) -> None:
        bot = world.create_bot()
        again = await world.reconciler()(world.key)
        made = world.existing("Deployment", DEPLOYMENT)
        assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "chat:1"
        assert made["metadata"]["ownerReferences"][0]["uid"] == bot["metadata"]["uid"]
        assert made["metadata"]["managedFields"][0]["manager"] == names.FIELD_MANAGER
        assert again is not None
        assert 480 <= again <= 720
        again = await world.reconciler()(world.key)
        assert again is not None
        assert 24 * 480 <= again <= 24 * 720, "the resync finds what changes until then"

    async def test_an_unchanged_world_costs_no_write(self, world: World) -> None:
        world.create_bot()
        reconciler = world.reconciler()
        await reconciler(world.key)
        before = world.writes()
        for _ in range(3):
            await reconciler(world.key)
        assert world.writes() == before

    async def test_what_follows_from_what_was_written_is_written_with_it(self, world: World) -> None:
        world.create_bot()

        def build(bot: ChatbotDeployment, observed: Observed) -> list[Any]:
            second = [config(bot, name="harbour-second")] if observed.child("ConfigMap", "harbour-first") else []
            return [step("chat", config(bot, name="harbour-first"), *second)]

        await world.reconciler(SmallPlan(build))(world.key)
        assert world.get("ConfigMap", "harbour-second")

    async def test_nor_does_it_after_a_restart(self, world: World) -> None:
        world.create_bot()
        await world.reconciler()(world.key)
        before = world.writes()
        await world.reconciler()(world.key)
        assert world.writes() == before

    async def test_only_what_moved_is_written(self, world: World) -> None:
        world.create_bot()
        await world.reconciler()(world.key)
        before = world.writes()
        plan = SmallPlan(lambda bot, _: [step("chat", config(bot), deployment(bot, image="chat:2"))])
        await world.reconciler(plan)(world.key)
        assert world.writes() == before + 1
        containers = world.existing("Deployment", DEPLOYMENT)["spec"]["template"]["spec"]["containers"]
        assert containers[0]["image"] == "chat:2"

    async def test_a_blocked_step_is_not_applied_and_keeps_what_it_has(self, world: World) -> None:
        world.create_bot()
        await world.reconciler()(world.key)
        waits = Blocked("WaitingForStore", "StatefulSet harbour-postgres is not ready")
        plan = SmallPlan(lambda bot, _: [step("chat", deployment(bot, image="chat:2"), blocked=waits)])
        await world.reconciler(plan)(world.key)
        containers = world.existing("Deployment", DEPLOYMENT)["spec"]["template"]["spec"]["containers"]
        assert containers[0]["image"] == "chat:1"
        assert world.get("ConfigMap", CONFIG)

    async def test_nor_does_an_amount_that_the_server_writes_in_another_way(self, world: World) -> None:
        world.create_bot()

        def build(bot: ChatbotDeployment, _: Observed) -> list[Any]:
            wanted = deployment(bot)
            wanted["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "1000m"}}
            return [step("chat", wanted)]

        await world.reconciler(SmallPlan(build))(world.key)
        containers = world.existing("Deployment", DEPLOYMENT)["spec"]["template"]["spec"]["containers"]
        assert containers[0]["resources"]["limits"]["cpu"] == "1"
        before = world.writes()
        await world.reconciler(SmallPlan(build))(world.key)
        assert world.writes() == before

    async def test_a_value_the_server_keeps_otherwise_is_not_written_for_ever(self, world: World) -> None:
        world.create_bot()

        def build(bot: ChatbotDeployment, _: Observed) -> list[Any]:
            wanted = deployment(bot)
            wanted["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "250000u"}}
            return [step("chat", wanted)]

        reconciler = world.reconciler(SmallPlan(build))
        await reconciler(world.key)
        cpu = world.existing("Deployment", DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0]["resources"]
        assert cpu["requests"]["cpu"] == "250m"
        before = world.writes()
        world.api.patch_status("Deployment", world.namespace, DEPLOYMENT, {"observedGeneration": 1})
        await reconciler(world.key)
        assert world.writes() == before


class TestHeal:
    async def test_a_deleted_child_returns(self, world: World) -> None:
        world.create_bot()
        reconciler = world.reconciler()
        await reconciler(world.key)
        world.api.delete("ConfigMap", world.namespace, CONFIG)
        await reconciler(world.key)
        assert world.existing("ConfigMap", CONFIG)["data"] == {"text": "one"}

    async def test_a_field_somebody_set_is_taken_back_and_they_are_named_once(self, world: World) -> None:
        world.create_bot()
        reconciler = world.reconciler()
        await reconciler(world.key)
        for _ in range(2):
            world.api.kubectl("-n", world.namespace, "set", "image", f"deployment/{DEPLOYMENT}", "chat=evil:1")
            await reconciler(world.key)
        containers = world.existing("Deployment", DEPLOYMENT)["spec"]["template"]["spec"]["containers"]
        assert containers[0]["image"] == "chat:1"
        told = [message for reason, message in world.events() if reason == "FieldTakenBack"]
        assert len(told) == 1
        assert "kubectl-set" in told[0]
        assert "containers[name=chat].image" in told[0]

    async def test_they_are_named_also_when_somebody_is_faster_later_on(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.create_bot()
        reconciler = world.reconciler()
        await reconciler(world.key)
        world.api.patch("ConfigMap", world.namespace, CONFIG, {"data": {"text": "mine"}}, manager="hand")
        world.api.delete("Deployment", world.namespace, DEPLOYMENT)
        apply = world.cluster.apply

        async def faster(wanted: Manifest, manager: str = names.FIELD_MANAGER) -> Manifest:
            if wanted["kind"] == "Deployment":
                raise Conflict("somebody was faster")
            return await apply(wanted, manager)

        monkeypatch.setattr(world.cluster, "apply", faster)
        assert await reconciler(world.key) == pauses.CONFLICT_SECONDS
        [told] = [message for reason, message in world.events() if reason == "FieldTakenBack"]
        assert "written by hand" in told

    async def test_who_scales_what_is_fixed_is_named(self, world: World) -> None:
        world.create_bot()
        reconciler = world.reconciler()
        await reconciler(world.key)
        world.api.kubectl("-n", world.namespace, "scale", f"deployment/{DEPLOYMENT}", "--replicas=3")
        await reconciler(world.key)
        assert world.existing("Deployment", DEPLOYMENT)["spec"]["replicas"] == 1
        [told] = [message for reason, message in world.events() if reason == "FieldTakenBack"]
        assert "spec.replicas" in told
        assert "kubectl" in told

    async def test_a_selector_that_somebody_narrows_is_taken_back(self, world: World) -> None:
        """It would lead to no pod, while every pod is ready."""
        world.create_bot()
        service = {"selector": {"app": "chat"}, "ports": [{"port": 80}]}
        plan = SmallPlan(
            lambda bot, _: [step("chat", manifest(bot, "chat", "Service", "harbour-chat", {"spec": service}))]
        )
        reconciler = world.reconciler(plan)
        await reconciler(world.key)
        world.api.patch("Service", world.namespace, "harbour-chat", {"spec": {"selector": {"x": "y"}}}, manager="hand")
        await reconciler(world.key)
        assert world.existing("Service", "harbour-chat")["spec"]["selector"] == {"app": "chat"}
        [told] = [message for reason, message in world.events() if reason == "FieldTakenBack"]
        assert "spec.selector.x" in told
        assert "hand" in told

    async def test_after_three_fights_it_is_left_alone(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.create_bot()
        reconciler = world.reconciler()
        await reconciler(world.key)

        async def fight() -> str:
            world.api.patch("ConfigMap", world.namespace, CONFIG, {"data": {"text": "mine"}}, manager="another")
            await reconciler(world.key)
            return str(world.existing("ConfigMap", CONFIG)["data"]["text"])

        assert [await fight() for _ in range(5)] == ["one", "one", "one", "mine", "mine"]
        assert world.metrics.registry.get_sample_value("chatbot_operator_field_conflicts_total") == 3
        monkeypatch.setattr("chatbot_operator.applying.FIGHT_SECONDS", 0.0)
        await reconciler(world.key)
        assert world.existing("ConfigMap", CONFIG)["data"]["text"] == "one"

    async def test_what_others_add_stays(self, world: World) -> None:
        world.create_bot()
        reconciler = world.reconciler()
        await reconciler(world.key)
        world.api.patch("Deployment", world.namespace, DEPLOYMENT, {"metadata": {"annotations": {"mine": "yes"}}})
        before = world.writes()
        await reconciler(world.key)
        assert world.writes() == before


class TestRefusals:
    async def test_one_bad_child_is_named_and_the_others_are_applied(self, world: World) -> None:
        world.create_bot()
        plan = SmallPlan(
            lambda bot, _: [
                step("chat", deployment(bot, image=""), config(bot)),
                step("auth", deployment(bot, part="auth")),
            ]
        )
        again = await world.reconciler(plan)(world.key)
        ready = world.bot()["status"]["conditions"][0]
        assert ready["reason"] == "ApplyRefused"
        assert "Deployment harbour-chat" in ready["message"]
        assert "image" in ready["message"]
        assert world.get("ConfigMap", CONFIG)
        assert world.get("Deployment", "harbour-auth")
        assert again is not None
        assert again < 60

    async def test_a_webhook_that_is_down_holds_up_its_own_kind_alone(self, world: World) -> None:
        world.create_bot()
        plan = SmallPlan(
            lambda bot, _: [step("chat", config(bot)), step("auth", deployment(bot, part="auth"))],
            secrets=TestSecrets.plan(owned=True).secrets,
        )
        with webhook_down(world, "secrets"):
            again = await world.reconciler(plan)(world.key)
            assert world.get("Deployment", "harbour-auth")
        ready = world.bot()["status"]["conditions"][0]
        assert ready["reason"] == "ApplyRefused"
        assert ready["message"].startswith(f"ConfigMap {CONFIG}: ")
        assert 'failed calling webhook "down.example.com"' in ready["message"]
        assert again is not None
        assert again < 60
        await world.reconciler(plan)(world.key)
        assert world.get("ConfigMap", CONFIG)
        assert world.get("Secret", "harbour-redis")
        assert world.bot()["status"]["conditions"][0]["status"] == "True"

    async def test_another_ones_object_is_not_taken_over(self, world: World) -> None:
        world.create_bot()
        foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG}, "data": {"text": "theirs"}}
        world.api.create(foreign, world.namespace)
        await world.reconciler()(world.key)
        assert world.existing("ConfigMap", CONFIG)["data"] == {"text": "theirs"}
        assert world.bot()["status"]["conditions"][0]["reason"] == "NameConflict"
        assert world.get("Deployment", DEPLOYMENT)

    async def test_nor_is_what_somebody_else_owns(self, world: World) -> None:
        other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}}
        uid = world.api.create(other, world.namespace)["metadata"]["uid"]
        owners = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": uid, "controller": True}]
        marks = {names.MANAGED_BY: names.FIELD_MANAGER, names.INSTANCE: BOT, names.COMPONENT: "chat"}
        metadata = {"name": CONFIG, "labels": marks, "ownerReferences": owners}
        world.api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}, world.namespace)
        world.create_bot()
        await world.reconciler()(world.key)
        assert world.bot()["status"]["conditions"][0]["reason"] == "NameConflict"
        assert "data" not in world.existing("ConfigMap", CONFIG)

    async def test_an_immutable_child_is_never_applied_again(self, world: World) -> None:
        world.create_bot()

        def plan(text: str) -> SmallPlan:
            return SmallPlan(lambda bot, _: [step("chat", config(bot, text) | {"immutable": True})])

        await world.reconciler(plan("one"))(world.key)
        before = world.writes()
        await world.reconciler(plan("two"))(world.key)
        assert world.writes() == before
        assert world.bot()["status"]["conditions"][0]["status"] == "True"

    async def test_an_overloaded_server_is_the_queues_business(self, world: World) -> None:
        world.create_bot()

        def busy() -> None:
            raise Unavailable("too many requests", retry_after=3)

        world.cluster.check = busy
        with pytest.raises(Unavailable) as raised:
            await world.reconciler()(world.key)
        assert raised.value.retry_after == 3
        assert world.metrics.registry.get_sample_value(
            "chatbot_operator_errors_total", {"reason": "Unavailable"}
        ) == 1  # fmt: skip


class TestPrune:
    async def test_what_is_no_longer_wanted_goes(self, world: World) -> None:
        world.create_bot()
        await world.reconciler()(world.key)
        smaller = world.reconciler(SmallPlan(lambda bot, _: [step("chat", config(bot))]))
        while await smaller(world.key) == pauses.CONFLICT_SECONDS:
            pass  # the Deployment's own controller wrote between our look and our deletion
        assert world.get("Deployment", DEPLOYMENT) is None
        assert world.get("ConfigMap", CONFIG)

    async def test_what_has_another_owner_or_none_stays(self, world: World) -> None:
        world.create_bot()
        await world.reconciler()(world.key)
        marks = {names.MANAGED_BY: names.FIELD_MANAGER, names.INSTANCE: BOT, names.COMPONENT: "chat"}
        kept = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kept", "labels": marks}}
        world.api.create(kept, world.namespace)
        await world.reconciler()(world.key)
        assert world.get("Secret", "kept")

    async def test_an_autoscaler_goes_before_its_deployment_is_applied(self, world: World) -> None:
        world.create_bot()
        await world.reconciler(SmallPlan(lambda bot, _: [step("chat", deployment(bot, replicas=None), hpa(bot))]))(
            world.key
        )
        assert world.get("HorizontalPodAutoscaler", DEPLOYMENT)
        await world.reconciler(SmallPlan(lambda bot, _: [step("chat", deployment(bot, replicas=2))]))(world.key)
        assert world.get("HorizontalPodAutoscaler", DEPLOYMENT) is None
        assert world.existing("Deployment", DEPLOYMENT)["spec"]["replicas"] == 2


def hpa(bot: ChatbotDeployment) -> Manifest:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": DEPLOYMENT}
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
    }
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 5, "metrics": [metric]}
    return manifest(bot, "chat", "HorizontalPodAutoscaler", DEPLOYMENT, {"spec": spec})


class TestReplicas:
    async def test_an_autoscaler_takes_over_the_number_there_is(self, world: World) -> None:
        world.create_bot()
        await world.reconciler(SmallPlan(lambda bot, _: [step("chat", deployment(bot, replicas=4))]))(world.key)
        scaled = SmallPlan(lambda bot, _: [step("chat", deployment(bot, replicas=None))])
        await world.reconciler(scaled)(world.key)
        assert world.existing("Deployment", DEPLOYMENT)["spec"]["replicas"] == 4
        # As the autoscaler does it.
        world.api.request(
            "PATCH",
            f"/apis/apps/v1/namespaces/{world.namespace}/deployments/{DEPLOYMENT}/scale?fieldManager=hpa",
            {"spec": {"replicas": 7}},
            {"Content-Type": "application/merge-patch+json"},
        )
        before = world.writes()
        await world.reconciler(scaled)(world.key)
        assert world.writes() == before
        assert world.existing("Deployment", DEPLOYMENT)["spec"]["replicas"] == 7

    async def test_what_was_scaled_to_nothing_is_woken(self, world: World) -> None:
        """An autoscaler leaves 0 replicas alone, for ever."""
        world.create_bot()
        scaled = SmallPlan(lambda bot, _: [step("chat", deployment(bot, replicas=None))])
        reconciler = world.reconciler(scaled)
        await reconciler(world.key)
        world.api.kubectl("-n", world.namespace, "scale", f"deployment/{DEPLOYMENT}", "--replicas=0")
        await reconciler(world.key)
        assert world.existing("Deployment", DEPLOYMENT)["spec"]["replicas"] == 1

    @pytest.mark.parametrize(("before", "count"), [("3", 3), ("many", 1), ("-2", 1), ("0", 1)])
    async def test_with_as_many_as_before_a_hibernation(self, world: World, before: str, count: int) -> None:
        world.create_bot()
        scaled = SmallPlan(lambda bot, _: [step("chat", deployment(bot, replicas=None))])
        await world.reconciler(scaled)(world.key)
        noted = {"metadata": {"annotations": {names.REPLICAS_BEFORE: before}}, "spec": {"replicas": 0}}
        world.api.patch("Deployment", world.namespace, DEPLOYMENT, noted)
        await world.reconciler(scaled)(world.key)
        assert world.existing("Deployment", DEPLOYMENT)["spec"]["replicas"] == count

    async def test_and_gives_it_back(self, world: World) -> None:
        world.create_bot()
        for replicas in (4, None, 2, None):
            plan = SmallPlan(lambda bot, _, count=replicas: [step("chat", deployment(bot, replicas=count))])  # type: ignore[misc]
            await world.reconciler(plan)(world.key)
        assert world.existing("Deployment", DEPLOYMENT)["spec"]["replicas"] == 2


class TestSecrets:
    @staticmethod
    def plan(owned: bool) -> SmallPlan:
        def missing(bot: ChatbotDeployment, observed: Observed) -> list[Manifest]:
            data = {"type": "Opaque", "stringData": {"password": "made-once"}}
            # As the real builder makes what may outlive the resource: what a create sets, an apply cannot take away.
            wanted = manifest(bot, "secrets", "Secret", "harbour-redis", data, owned=False)
            return [] if observed.child("Secret", "harbour-redis") else [wanted]

        def build(bot: ChatbotDeployment, observed: Observed) -> list[Any]:
            assert observed.child("Secret", "harbour-redis"), "the plan sees what was just made"
            return [step("secrets", manifest(bot, "secrets", "Secret", "harbour-redis", {}, owned=owned))]

        return SmallPlan(build, secrets=missing)

    async def test_are_made_once_and_never_written_over(self, world: World) -> None:
        world.create_bot()
        await world.reconciler(self.plan(owned=True))(world.key)
        mine = base64.b64encode(b"mine").decode()
        world.api.patch("Secret", world.namespace, "harbour-redis", {"data": {"password": mine}})
        await world.reconciler(self.plan(owned=True))(world.key)
        assert world.existing("Secret", "harbour-redis")["data"] == {"password": mine}

    async def test_change_their_owner_with_the_deletion_policy(self, world: World) -> None:
        world.create_bot()
        await world.reconciler(self.plan(owned=True))(world.key)
        assert world.existing("Secret", "harbour-redis")["metadata"]["ownerReferences"]
        await world.reconciler(self.plan(owned=False))(world.key)
        secret = world.existing("Secret", "harbour-redis")
        assert "ownerReferences" not in secret["metadata"]
        assert secret["data"]
        await world.reconciler(self.plan(owned=True))(world.key)
        assert world.existing("Secret", "harbour-redis")["metadata"]["ownerReferences"]

    async def test_that_may_not_be_made_are_named(self, world: World) -> None:
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
        where = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
        world.api.request("POST", where, quota | {"spec": {"hard": {"count/secrets": "0"}}})
        wait_for("the quota", lambda: world.api.request("GET", f"{where}/none")["status"].get("used"))
        world.create_bot()
        plan = self.plan(owned=True)
        plan.build = lambda *_: [step("secrets")]
        again = await world.reconciler(plan)(world.key)
        ready = world.bot()["status"]["conditions"][0]
        assert ready["reason"] == "ApplyRefused"
        assert "Secret harbour-redis: " in ready["message"]
        assert "exceeded quota" in ready["message"]
        assert again is not None
        assert again < 60

    async def test_no_value_is_logged(self, world: World, logged: list[dict[str, object]]) -> None:
        world.create_bot()
        await world.reconciler(self.plan(owned=True))(world.key)
        assert logged
        assert "made-once" not in str(logged)


class TestReferences:
    ANY = Reference("Secret", "openai")
    KEY = Reference("Secret", "openai", "key")

    def seen(self, world: World) -> tuple[SmallPlan, list[Observed]]:
        looked: list[Observed] = []

        def build(_: ChatbotDeployment, observed: Observed) -> list[Any]:
            looked.append(observed)
            return []

        return SmallPlan(build, references=frozenset({self.ANY, self.KEY})), looked

    async def test_are_labelled_once_and_their_edits_change_the_digest(self, world: World) -> None:
        world.create_bot()
        plan, looked = self.seen(world)
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openai"}, "stringData": {"key": "sk-1"}}
        world.api.create(secret, world.namespace)
        reconciler = world.reconciler(plan)
        await reconciler(world.key)
        assert world.existing("Secret", "openai")["metadata"]["labels"] == {names.REFERENCED: "true"}
        before = world.writes()
        await reconciler(world.key)
        assert world.writes() == before
        world.api.apply(secret | {"stringData": {"key": "sk-2"}}, world.namespace)
        await reconciler(world.key)
        first, second, third = (observed.references for observed in looked)
        assert first == second
        assert first[self.KEY] != third[self.KEY]
        assert "sk-1" not in str(first)

    async def test_what_is_not_there_is_looked_for_soon(self, world: World) -> None:
        world.create_bot()
        plan, looked = self.seen(world)
        again = await world.reconciler(plan)(world.key)
        assert looked[0].references == {self.ANY: None, self.KEY: None}
        assert again is not None
        assert again <= pauses.MISSING_SECONDS * 1.2

    async def test_a_missing_key_is_told_from_a_missing_object(self, world: World) -> None:
        world.create_bot()
        plan, looked = self.seen(world)
        world.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openai"}}, world.namespace)
        await world.reconciler(plan)(world.key)
        assert looked[0].references[self.ANY]
        assert looked[0].references[self.KEY] is None


class TestStatus:
    async def test_is_written_when_it_says_something_new(self, world: World) -> None:
        world.create_bot()
        await world.reconciler()(world.key)
        status = world.bot()["status"]
        assert status["phase"] == "Ready"
        assert status["observedGeneration"] == 1
        before = world.writes()
        await world.reconciler()(world.key)
        assert world.writes() == before

    async def test_that_the_next_plan_begins_with_leads_to_one_soon(self, world: World) -> None:
        """An own write is no news: nobody else would tell that the data is elsewhere now."""
        world.create_bot()
        data = PostgresStatus(mode="Dev")
        rules = SmallPlan().rules()

        def status_of(*told: Any) -> Status:
            return rules.status_of(*told).model_copy(update={"stores": StoresStatus(postgres=data)})

        reconciler = world.reconciler(rules=replace(rules, status_of=status_of))
        first, second = [await reconciler(world.key) for _ in range(2)]
        data = PostgresStatus(mode="External", formerly=["Dev"])
        moved = await reconciler(world.key)
        assert first is not None
        assert second is not None
        assert moved is not None
        assert max(first, moved) < 5
        assert second > 60

    async def test_becoming_ready_and_getting_stuck_are_one_event_each(self, world: World) -> None:
        world.create_bot()
        reconciler = world.reconciler()
        await reconciler(world.key)
        stuck = SmallPlan(ready="False", reason="ImagePullFailed")
        for _ in range(2):
            await world.reconciler(stuck)(world.key)
        assert sorted(reason for reason, _ in world.events()) == ["ImagePullFailed", "Ready"]

    async def test_phases_are_counted(self, world: World) -> None:
        world.create_bot()
        reconciler = world.reconciler()
        await reconciler(world.key)
        assert world.metrics.registry.get_sample_value("chatbot_operator_resources", {"phase": "Ready"}) == 1
        world.api.delete("ChatbotDeployment", world.namespace, BOT)
        assert await reconciler(world.key) is None
        assert world.metrics.registry.get_sample_value("chatbot_operator_resources", {"phase": "Ready"}) == 0


class TestInvalid:
    """The definition refuses most of it; an older definition, or a rule it cannot express, lets some through."""

    @pytest.fixture
    def fails(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """The model now refuses bots whose profile is Dev."""
        validate = ChatbotDeployment.model_validate

        def stricter(raw: Any, **options: Any) -> ChatbotDeployment:
            if raw["spec"].get("profile") == "Dev":
                raw = raw | {"spec": raw["spec"] | {"profile": "Nonsense"}}
            return validate(raw, **options)

        monkeypatch.setattr(ChatbotDeployment, "model_validate", stricter)

    async def test_is_told_once_without_retries_and_mended_by_an_edit(self, world: World, fails: None) -> None:
        world.create_bot({"profile": "Dev"})
        reconciler = world.reconciler()
        agains = [await reconciler(world.key) for _ in range(3)]
        assert all(again and again > 60 for again in agains)
        ready = next(item for item in world.bot()["status"]["conditions"] if item["type"] == "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
        assert "spec.profile" in ready["message"]
        assert [reason for reason, _ in world.events()] == ["InvalidSpec"]
        before = world.writes()
        await world.reconciler()(world.key)
        assert world.writes() == before
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"spec": {"profile": "Standard"}})
        await reconciler(world.key)
        assert world.bot()["status"]["conditions"][0]["status"] == "True"
        assert world.get("Deployment", DEPLOYMENT)


def phases(world: World) -> set[str]:
    """Phases that a resource of this namespace is counted in."""
    [family] = world.metrics.resource_phase.collect()
    return {one.labels["phase"] for one in family.samples if one.labels["bot_namespace"] == world.namespace}


class TestDeletion:
    async def test_what_was_never_there_is_forgotten(self, world: World) -> None:
        assert await world.reconciler()(world.key) is None
        assert world.writes() == 0

    async def test_a_resource_that_is_going_is_left_alone(self, world: World) -> None:
        world.create_bot()
        hold = {"metadata": {"finalizers": ["example.com/hold"]}}
        world.api.patch("ChatbotDeployment", world.namespace, BOT, hold)
        reconciler = world.reconciler()
        await reconciler(world.key)
        assert phases(world)
        before = world.writes()
        world.api.delete("ChatbotDeployment", world.namespace, BOT)
        await reconciler(world.key)
        assert world.writes() == before + 1, "it says so"
        await reconciler(world.key)
        assert world.writes() == before + 1, "once"
        told = world.bot()["status"]
        ready = next(item for item in told["conditions"] if item["type"] == "Ready")
        assert (told["phase"], ready["reason"]) == ("Terminating", "BeingDeleted")
        assert "example.com/hold" in ready["message"]
        assert phases(world) == set(), "it counts for nothing"
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"metadata": {"finalizers": []}})

    async def test_deleted_while_it_is_made_nothing_stays(self, world: World) -> None:
        world.create_bot()

        def build(bot: ChatbotDeployment, _: Observed) -> list[Any]:
            if world.get("ChatbotDeployment", BOT):
                world.api.delete("ChatbotDeployment", world.namespace, BOT)
            return [step("chat", config(bot), deployment(bot))]

        reconciler = world.reconciler(SmallPlan(build))
        await reconciler(world.key)
        assert await reconciler(world.key) is None
        await asyncio.to_thread(
            wait_for,
            "the garbage collector",
            lambda: not world.get("ConfigMap", CONFIG) and not world.get("Deployment", DEPLOYMENT),
        )

    async def test_a_namespace_that_is_going_is_no_error(self, world: World) -> None:
        world.create_bot()
        hold = {"metadata": {"finalizers": ["example.com/hold"]}}
        world.api.patch("ChatbotDeployment", world.namespace, BOT, hold)
        world.api.delete("Namespace", world.namespace, world.namespace)

        bot = world.bot()
        raw = bot | {"metadata": {key: value for key, value in bot["metadata"].items() if key != "deletionTimestamp"}}

        async def not_yet(*_: Any) -> Any:
            return raw

        get = world.cluster.get
        world.cluster.get = not_yet  # type: ignore[assignment,method-assign]
        reconciler = world.reconciler(rules=RULES)
        try:
            await reconciler(world.key)
            raw, before = raw | {"status": world.bot()["status"]}, world.writes()
            again = await reconciler(world.key)
        finally:
            world.cluster.get = get  # type: ignore[method-assign]
        told = world.bot()["status"]
        ready = next(item for item in told["conditions"] if item["type"] == "Ready")
        assert (told["phase"], ready["status"], ready["reason"]) == ("Terminating", "False", "BeingDeleted")
        assert f"Namespace {world.namespace} is being deleted" in ready["message"]
        assert world.writes() == before + 1, "it asks again, is refused, and says nothing new"
        world.api.patch("ChatbotDeployment", world.namespace, BOT, {"metadata": {"finalizers": []}})
        assert again is not None
        assert again >= 5

    async def test_no_finalizer_and_no_annotation_is_put_on_the_resource(self, world: World) -> None:
        world.create_bot()
        await world.reconciler()(world.key)
        metadata = world.bot()["metadata"]
        assert "finalizers" not in metadata
        assert "annotations" not in metadata
