"""What `kubectl chatbot explain` says of a bot in each state a user meets."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from chatbot_cli.cluster.explain import Explanation, explain
from chatbot_cli.cluster.happenings import Happening
from chatbot_cli.cluster.operators import Operator
from chatbot_cli.cluster.resources import Bot
from chatbot_operator.reasons import Reason
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.world import Blocked

from tests.cli.cluster.conftest import Installed, Plugin, converge
from tests.operator.running import World
from tests.operator.simulated import NOW, Cluster, body, make_bot
from tests.operator.test_rollback import overdue

RUNNING = Operator(True, "")
EXPOSED = {"exposure": {"type": "HTTPRoute", "hostnames": ["bot.example.com"], "parentRefs": [{"name": "door"}]}}
LOOKED = datetime(2026, 11, 21, 6, 2, 5, tzinfo=UTC)


def explained(cluster: Cluster, operator: Operator = RUNNING, told: list[Happening] | None = None) -> Explanation:
    return explain(bot(cluster), operator, told or [], LOOKED, lambda arguments: f"kubectl {arguments}")


def bot(cluster: Cluster, **metadata: str) -> Bot:
    raw = body(generation=getattr(cluster.bot.metadata, "generation", 1))
    raw["metadata"] |= {"creationTimestamp": NOW, **metadata}
    raw["spec"] |= {"mode": cluster.bot.spec.mode}
    if cluster.status:
        raw["status"] = cluster.status.model_dump(mode="json", by_alias=True)
    return Bot(raw)


class TestHeadline:
    def test_ready(self) -> None:
        found = explained(Cluster().converge())
        assert found.ready
        assert found.headline == (
            "demo is ready: it serves, and everything runs as its resource says, "
            "for 2 min 5 s, since 2026-11-21 06:00 UTC."
        )
        assert (found.cause, found.others, found.doubts, found.todo) == (None, (), (), ())

    def test_nobody_has_looked(self) -> None:
        found = explained(Cluster())
        assert not found.ready
        assert "no operator has looked at it since it was made, 2 min 5 s ago" in found.headline
        [todo] = found.todo
        assert "has not looked at it" in todo
        assert "helm upgrade" in todo

    def test_it_does_not_serve_yet(self) -> None:
        cluster = Cluster()
        cluster.reconcile()
        found = explained(cluster)
        assert found.headline.startswith("demo does not serve yet, for")
        assert "gateway (no pods)" in found.components
        assert found.todo == ("Nothing: waiting is enough. See how it goes on: kubectl chatbot status demo --watch",)

    def test_it_serves_while_it_is_changed(self) -> None:
        cluster = Cluster().converge()
        cluster.edit(images={"chat": "chat:2"})
        cluster.reconcile()
        found = explained(cluster)
        assert found.headline.startswith("demo serves, and is being changed")
        assert found.serving

    def test_it_serves_and_waits_for_the_end_of_its_pause(self) -> None:
        cluster = Cluster().converge()
        cluster.edit(mode="Paused", images={"chat": "chat:2"})
        cluster.reconcile()
        found = explained(cluster)
        assert found.headline.startswith("demo serves, but is not as its resource says while it is paused, for")
        assert found.serving

    def test_it_serves_but_something_is_wrong(self) -> None:
        found = explained(broken())
        assert found.headline.startswith("demo serves, but something is wrong with it")

    def test_a_condition_that_is_well_when_it_is_false_is_no_problem(self) -> None:
        raw = bot(Cluster().converge()).raw
        for kind in ("Degraded", "Paused"):
            same = {"type": kind, "status": "False", "reason": "Settled", "message": "", "lastTransitionTime": NOW}
            raw["status"]["conditions"].append(same)
        assert explain(Bot(raw), RUNNING, [], LOOKED, str).others == ()

    def test_it_hibernates(self) -> None:
        raw = bot(Cluster().converge()).raw
        raw["spec"]["mode"] = "Hibernated"
        for item in raw["status"]["conditions"]:
            item |= {"status": "False", "reason": "Hibernated"} if item["type"] in ("Ready", "Available") else {}
        found = explain(Bot(raw), RUNNING, [], LOOKED, lambda arguments: f"kubectl {arguments}")
        assert found.headline == "demo hibernates: no pod runs, and all data is kept."
        assert (found.cause, found.others, found.components) == (None, (), "")
        assert found.todo == ("Wake it: kubectl chatbot resume demo",)
        bot_conditions = {item["type"]: item for item in raw["status"]["conditions"]}
        bot_conditions["Ready"] |= {"reason": "Stopping", "message": "Deployment demo-chat still has 1 pods."}
        assert (
            explain(Bot(raw), RUNNING, [], LOOKED, str).headline == "demo is about to hibernate, and all data is kept."
        )

    def test_nobody_asks_it_anything(self) -> None:
        scaling = {"mode": "KEDA", "minReplicas": 0, "targets": {"inFlightStreams": 9}}
        spec = {"components": {"chat": {"scaling": scaling}}, "telemetry": {"prometheusURL": "http://prometheus"}}
        cluster = Cluster(make_bot({"profile": "Dev"} | spec), apis=frozenset({"ScaledObject"})).converge()
        live = cluster.child("Deployment", "demo-chat")
        live["spec"]["replicas"] = 0
        live["status"] = {"observedGeneration": live["metadata"]["generation"]}
        scaled = cluster.child("ScaledObject", "demo-chat")
        scaled["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
        cluster.report()
        found = explained(cluster)
        assert found.headline.startswith("demo does not serve, for")
        assert found.cause is not None
        assert found.cause.reason == "ScaledToZero"
        assert found.todo == (
            "Ask it something where KEDA scales it; else: kubectl scale deployment NAME --replicas=1",
        )
        # What goes on besides brings no pod back.
        cluster.child("Deployment", "demo-conversation")["status"]["readyReplicas"] = 0
        cluster.report()
        found = explained(cluster)
        assert cluster.condition("Ready").reason == "RollingOut"
        assert found.cause is not None
        assert found.cause.reason == "ScaledToZero"
        assert not [item for item in found.todo if "waiting" in item]

    def test_what_the_cluster_lacks_is_told_once(self) -> None:
        cluster = Cluster(
            make_bot({"profile": "Dev", "components": {"chat": {"scaling": {"mode": "KEDA"}}}})
        ).converge()
        found = explained(cluster)
        assert found.ready
        assert found.headline.startswith(
            "demo is ready: it serves, but not all that its resource asks for is there, for"
        )
        assert found.cause is not None
        assert found.cause.where == ("AutoscalingReady", "DependenciesDetected")
        assert found.others == ()
        cluster.edit(**EXPOSED)
        found = explained(cluster.converge())
        assert {item.where for item in (found.cause, *found.others) if item} == {("AutoscalingReady",), ("RouteReady",)}

    def test_it_was_rolled_back(self) -> None:
        cluster = Cluster().converge()
        cluster.edit(images={"chat": "nowhere/chat:2"})
        cluster.reconcile()
        overdue(cluster, "demo-chat")
        cluster.reconcile()
        [advice] = explained(cluster).todo
        assert "`kubectl chatbot retry demo` does" in advice

    def test_it_is_being_deleted(self) -> None:
        deleted = bot(Cluster().converge(), deletionTimestamp=NOW)
        found = explain(deleted, RUNNING, [], LOOKED, str)
        assert found.headline == "demo is being deleted, for 2 min 5 s, since 2026-11-21 06:00 UTC."
        assert (found.ready, found.todo) == (False, ())

    def test_its_namespace_is_being_deleted(self) -> None:
        cluster = Cluster().converge()
        cluster.children.clear()
        gone = Blocked(Reason.BEING_DELETED, "Namespace team is being deleted.")
        cluster.report([replace(step, blocked=gone) for step in cluster.plan()])
        found = explained(cluster)
        assert found.headline.startswith("demo goes with its namespace, which is being deleted, for")
        assert found.cause is not None
        assert (found.cause.message, found.others, found.todo) == (gone.message, (), ())


def broken() -> Cluster:
    """An image of chat that cannot be pulled, and the gateway that waits for it."""
    cluster = Cluster().converge()
    cluster.edit(images={"chat": "nowhere/chat:2"}, limits={"perMinute": 7})
    waiting = {"reason": "ErrImagePull", "message": "not found"}
    status = {"phase": "Pending", "containerStatuses": [{"image": "nowhere/chat:2", "state": {"waiting": waiting}}]}
    cluster.reconcile()
    cluster.pod("chat", "demo-chat-1", status)
    cluster.report()
    return cluster


class TestCause:
    def test_what_is_stuck_comes_before_what_waits_for_it(self) -> None:
        found = explained(broken())
        assert found.cause is not None
        assert found.cause.reason == "ImagePullFailed"
        assert "demo-chat-1 cannot pull image nowhere/chat:2" in found.cause.message
        assert found.cause.where == ("chat",)
        assert all(not problem.stuck for problem in found.others)
        [todo] = found.todo
        assert "`spec.version`, where neither is set the chart's `images.tag`" in todo

    def test_the_components_that_are_behind_are_counted(self) -> None:
        text = explained(broken()).components
        assert text.startswith("2 of 4 components are settled; not yet: ")
        assert "chat (" in text

    def test_the_worker_is_no_component_of_its_own(self) -> None:
        cluster = broken()
        cluster.edit(images={"conversation": "nowhere/conversation:2"})
        cluster.reconcile()
        assert "conversation's worker (" in explained(cluster).components

    def test_a_reason_of_a_newer_operator_is_told_as_it_is(self) -> None:
        cluster = broken()
        raw = bot(cluster).raw
        for item in raw["status"]["conditions"]:
            item |= {"reason": "Eclipse", "message": "The moon is in the way."} if item["status"] == "False" else {}
        raw["status"]["components"] = []
        found = explain(Bot(raw), RUNNING, [], LOOKED, str)
        assert found.cause is not None
        assert (found.cause.reason, found.cause.message) == ("Eclipse", "The moon is in the way.")

    def test_an_event_that_says_the_same_again_is_left_out(self) -> None:
        cluster = broken()
        cause = explained(cluster).cause
        assert cause is not None
        same = Happening("ChatbotDeployment demo", cause.reason, cause.message, NOW, 1)
        other = Happening("Pod demo-chat-1", "Failed", "Error: ErrImagePull", NOW, 3)
        assert explained(cluster, told=[same, other]).happenings == (other,)


class TestDoubts:
    def test_an_edit_that_was_not_looked_at(self) -> None:
        cluster = Cluster().converge()
        cluster.edit(limits={"perMinute": 7})
        found = explained(cluster)
        assert not found.ready
        assert found.headline == "demo served when the operator last looked at it."
        assert "(generation 2; it has seen 1)" in found.doubts[0]

    def test_no_operator_runs(self) -> None:
        """Which comes first: what is known of the bot may long have changed."""
        gone = Operator(False, "No operator runs.", "2026-11-21T06:01:00Z")
        cluster = Cluster().converge()
        found = explained(cluster, gone)
        assert found.headline == "No operator runs."
        assert found.last_known.startswith("Last known, 1 min 5 s ago (2026-11-21 06:01 UTC): demo is ready: it serves")
        assert found.last_known.endswith("for 1 min 0 s, since 2026-11-21 06:00 UTC."), "as of then"
        assert not found.ready
        assert not found.serving
        assert found.todo[0].startswith("Get the operator to run first")
        cluster.child("Deployment", "demo-chat")["status"]["availableReplicas"] = 0
        cluster.report()
        assert ": demo does not serve, for" in explained(cluster, gone).last_known
        assert "(2026-11-21 06:00 UTC)" in explained(cluster, Operator(False, "None watches it.")).last_known
        assert explained(cluster, gone).doubts == ()

    @pytest.mark.parametrize("edited", [True, False])
    def test_an_operator_that_cannot_be_seen_matters_only_when_nothing_moves(self, edited: bool) -> None:
        cluster = Cluster().converge()
        if edited:
            cluster.edit(limits={"perMinute": 7})
        found = explained(cluster, Operator(None, "You may not list Leases."))
        assert ("You may not list Leases." in found.doubts) is edited


class TestCommand:
    @pytest.mark.usefixtures("kubelet")
    async def test_ready_ends_with_0(
        self, plugin: Plugin, world: World, reconciler: Reconciler, operator: Installed
    ) -> None:
        world.create_bot()
        await converge(world, reconciler)
        operator.renew()
        said = plugin("explain", "harbour")
        assert said.code == 0, said
        assert said.out.startswith("harbour is ready: it serves")
        assert "!" not in said.out

    async def test_a_missing_secret(
        self, plugin: Plugin, world: World, reconciler: Reconciler, operator: Installed
    ) -> None:
        external = {"mode": "External", "external": {"secretRef": {"name": "my-cache"}}}
        world.create_bot({"profile": "Dev", "stores": {"redis": external}})
        await reconciler(world.key)
        operator.renew()
        said = plugin("explain", "harbour")
        assert said.code == 1
        assert said.out.startswith("harbour does not serve, ")
        assert "Secret my-cache, which spec.stores.redis" in said.out
        assert f"is not in namespace {world.namespace}" in said.out
        assert "SecretNotFound: A Secret is missing." in said.out
        assert "→ Create the Secret named" in said.out

    def test_no_operator_has_ever_looked(self, plugin: Plugin, world: World, operator: Installed) -> None:
        world.create_bot()
        operator.renew(ago=3600)
        said = plugin("explain", "harbour")
        assert said.code == 1
        assert said.out.startswith("No operator runs: operator-0 renewed its Lease")
        assert "harbour does not serve: no operator has looked at it" in " ".join(said.out.split())
        assert (
            "No operator runs: operator-0 renewed its Lease 1 h 0 min ago, and none of its pods is available."
            in said.out
        )
        assert "→ Get the operator to run first" in said.out

    def test_an_operator_that_was_taken_away_with_its_rights(
        self, plugin: Plugin, world: World, operator: Installed
    ) -> None:
        """As by helm uninstall: it could not give its Lease back, which says for a minute that it may be there."""
        world.create_bot()
        operator.renew(ago=20)
        said = plugin("explain", "harbour").out
        assert re.search("No operator runs: operator-0 renewed its Lease 2[0-9] s ago, and none of its pods", said)
        assert "→ Get the operator to run first" in said
        said = plugin("pause", "harbour").out
        assert "harbour is paused" in said
        assert re.search("! Later +No operator runs: .* Nothing is reported until one does.", " ".join(said.split()))
        operator.renew()
        assert "No operator" not in plugin("resume", "harbour").out
        elsewhere = {"settings.json": '{"watch_namespaces": ["elsewhere"]}'}
        world.api.patch("ConfigMap", world.namespace, "chatbot-operator", {"data": elsewhere})
        said = " ".join(plugin("explain", "harbour").out.split())
        assert f"No operator watches namespace {world.namespace}; there is: " in said
        assert f"→ Add {world.namespace} to the chart's watchNamespaces first" in said

    def test_an_operator_that_ended(self, plugin: Plugin, world: World, operator: Installed) -> None:
        world.create_bot()
        operator.renew(holder="", ago=60)
        assert "No operator runs: the last one ended 1 min" in plugin("explain", "harbour").out

    def test_an_operator_that_has_just_ended(self, plugin: Plugin, world: World, operator: Installed) -> None:
        world.create_bot()
        operator.renew(holder="", ago=-60)  # this machine's clock is late
        said = plugin("explain", "harbour").out
        assert said.startswith("harbour does not serve: no operator has looked at it")
        assert "another one may be about to take over" in said

    async def test_warnings_of_its_pods(
        self, plugin: Plugin, world: World, reconciler: Reconciler, operator: Installed
    ) -> None:
        world.create_bot()
        await reconciler(world.key)
        job = world.existing("ConfigMap", "chatbot-operator")
        stranger = {"apiVersion": "v1", "kind": "ConfigMap", "name": "chatbot-operator", "uid": job["metadata"]["uid"]}
        live = world.existing("StatefulSet", "harbour-redis")
        ours = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "harbour-redis", "uid": live["metadata"]["uid"]}
        for number, about in enumerate((ours, stranger)):
            when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": f"event.{number}"}}
            event |= {"type": "Warning", "reason": f"Odd{number}", "message": "odd", "involvedObject": about}
            event["involvedObject"] = about | {"namespace": world.namespace}
            world.api.create(event | {"lastTimestamp": when, "count": 4}, world.namespace)
        said = plugin("explain", "harbour").out
        assert re.search(r"Odd0  StatefulSet harbour-redis  [0-9]+ s ago, 4 times\n +odd\n", said)
        assert "Odd1" not in said
