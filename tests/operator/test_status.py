"""What is reported: from what was observed, with the object named, and moving only when something flips."""

import re
from dataclasses import replace
from typing import Any

import pytest
from chatbot_operator.components.metadata import OPTIONAL
from chatbot_operator.left import invalid, leaving
from chatbot_operator.reasons import REASONS, Reason
from chatbot_operator.world import Blocked, Manifest, Reference
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import Condition, Status
from hypothesis import given, settings
from pydantic import ValidationError

from tests.operator.running import SETTINGS
from tests.operator.simulated import LATER, NOW, Cluster, body, make_bot
from tests.operator.specs import BY_HAND, DEV, EXTERNAL, LLM, SPECS, STANDARD

ON_CLOUD_NATIVE_PG: dict[str, Any] = {
    "llm": LLM,
    "stores": {
        "postgres": {"mode": "CloudNativePG"},
        "redis": EXTERNAL["redis"],
        "vectors": {"type": "PGVector"},
        "deletionPolicy": "Delete",
    },
}
"""As in docs/guides/production.md."""
SERVICES = ("gateway", "auth", "chat", "conversation")
HTTP = {"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"}
"""The port of a component's Service."""
KEY_LOST = dict.fromkeys([Reference("Secret", "openai", "api-key"), Reference("Secret", "openai")])


def states(told: Status) -> dict[str, str]:
    return {item.type: item.status for item in told.conditions}


def condition(told: Status, kind: str) -> Condition:
    return next(item for item in told.conditions if item.type == kind)


def component(told: Status, name: str) -> Any:
    return next(item for item in told.components if item.name == name)


def set_status(cluster: Cluster, name: str, **fields: Any) -> Manifest:
    live = cluster.child("Deployment", name)
    live["status"] |= fields
    return live


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(make_bot(DEV)).converge()


class TestPaused:
    def test_pods_that_nobody_reaches_serve_nobody(self) -> None:
        cluster = Cluster(make_bot({"profile": "Dev"})).converge()
        cluster.edit(mode="Paused")
        cluster.report()
        assert cluster.condition("Available").status == "True"
        del cluster.children["Service", "demo-chat"]
        cluster.report()
        assert cluster.condition("Available").status == "False"
        assert "Service demo-chat does not exist" in cluster.condition("Ready").message

    @pytest.mark.parametrize("spec", [*BY_HAND.values(), ON_CLOUD_NATIVE_PG])
    def test_is_ready_while_nothing_waits(self, spec: dict[str, Any]) -> None:
        cluster = Cluster(make_bot(spec), apis=frozenset(OPTIONAL)).converge()
        cluster.edit(mode="Paused")
        assert states(cluster.report())["Ready"] == "True"

    @pytest.mark.parametrize(
        ("edit", "waits"),
        [
            ({"network": {"policy": "Off"}}, "NetworkPolicy demo-[a-z]+ is to be deleted"),
            (
                {"components": {"chat": {"scaling": {"maxReplicas": 9}}}},
                "HorizontalPodAutoscaler demo-chat is to be changed",
            ),
            ({"telemetry": {"monitors": "Off"}}, "PrometheusRule demo is to be changed"),
        ],
    )
    def test_an_edit_waits_whatever_it_concerns(self, edit: dict[str, Any], waits: str) -> None:
        cluster = Cluster(make_bot(DEV), apis=frozenset(OPTIONAL)).converge()
        cluster.edit(mode="Paused", **edit)
        said = condition(cluster.report(), "Ready")
        assert (said.status, said.reason) == ("False", "Paused")
        assert re.fullmatch(f"Left as it is while spec.mode is Paused: {waits}.", said.message)

    def test_data_that_is_not_retained_yet_is_not_said_to_be(self) -> None:
        """Who deletes the resource because it is Ready at the new generation would lose the database."""
        cluster = Cluster(make_bot(ON_CLOUD_NATIVE_PG), apis=frozenset(OPTIONAL)).converge()
        cluster.edit(mode="Paused", stores=ON_CLOUD_NATIVE_PG["stores"] | {"deletionPolicy": "Retain"})
        assert condition(cluster.report(), "Ready").reason == "Paused"

    @pytest.mark.parametrize("child", [("NetworkPolicy", "demo-chat"), ("PodDisruptionBudget", "demo-chat")])
    def test_a_deleted_child_waits(self, child: tuple[str, str]) -> None:
        cluster = Cluster(make_bot(STANDARD)).converge()
        del cluster.children[child]
        cluster.edit(mode="Paused")
        assert f"{child[0]} demo-chat is to be made" in condition(cluster.report(), "Ready").message


class TestReady:
    def test_says_so(self, cluster: Cluster) -> None:
        told = cluster.report()
        wrong = {"Progressing", "Degraded", "Paused"}
        assert {kind for kind, state in states(told).items() if state == "False"} == wrong
        assert (told.phase, told.components_ready, told.model) == ("Ready", "4/4", "retrieval")
        assert told.url == "http://demo-gateway.team.svc"
        assert (told.version.current, told.version.target) == ("0.1.0", "0.1.0")
        assert told.observed_generation == 1
        assert {item.reason for item in told.components} == {""}
        assert [item.owner for item in told.migrations] == ["auth", "conversation"]

    def test_names_image_and_configuration(self, cluster: Cluster) -> None:
        chat = component(cluster.report(), "chat")
        assert chat.image == "chatbot-chat:0.1.0"
        assert ("ConfigMap", f"demo-chat-{chat.config_hash}") in cluster.children

    def test_version_of_the_resource_is_the_target(self) -> None:
        told = Cluster(make_bot(DEV | {"version": "0.0.9"})).converge().report()
        assert (told.version.current, told.version.target) == ("0.0.9", "0.0.9")

    def test_without_the_worker_it_serves_on_and_is_not_ready(self, cluster: Cluster) -> None:
        name = "demo-conversation-worker"
        set_status(cluster, name, readyReplicas=0, availableReplicas=0)
        cluster.pod("conversation-worker", f"{name}-1", waiting("CrashLoopBackOff", ended=1))
        told = cluster.report()
        assert {kind: states(told)[kind] for kind in ("Available", "Ready", "Degraded")} == {
            "Available": "True",
            "Ready": "False",
            "Degraded": "True",
        }
        assert name in condition(told, "Degraded").message
        assert told.phase == "Degraded"
        cluster.pods.clear()
        del cluster.children["Deployment", name]
        told = cluster.report()
        assert (states(told)["Available"], states(told)["Ready"]) == ("True", "False")
        assert "conversation-worker" in condition(told, "Ready").message

    def test_counts_the_worker_as_a_part_of_conversation(self, cluster: Cluster) -> None:
        set_status(cluster, "demo-conversation-worker", readyReplicas=0)
        cluster.pod("conversation-worker", "demo-conversation-worker-1", waiting("CrashLoopBackOff", ended=1))
        told = cluster.report()
        assert (told.components_ready, told.phase, states(told)["Available"]) == ("3/4", "Degraded", "True")
        assert component(told, "conversation").reason == ""
        assert component(told, "conversation-worker").reason.startswith("CrashLoop: Pod demo-conversation-worker-1")
        set_status(cluster, "demo-conversation", readyReplicas=0)
        assert cluster.report().components_ready == "3/4"

    def test_survives_a_round_trip(self, cluster: Cluster) -> None:
        told = cluster.report()
        assert Status.model_validate(told.model_dump(mode="json", by_alias=True)) == told

    @pytest.mark.parametrize(
        "fields",
        [
            {"observedGeneration": 0},
            {"updatedReplicas": 0},
            {"readyReplicas": 0},
            {"replicas": 2},
        ],
        ids=str,
    )
    def test_not_while_a_deployment_is_not_settled(self, cluster: Cluster, fields: dict[str, int]) -> None:
        set_status(cluster, "demo-gateway", **fields)
        told = cluster.report()
        assert states(told)["Ready"] == "False"
        assert states(told)["Progressing"] == "True"
        assert told.components_ready == "3/4"
        assert "demo-gateway" in condition(told, "Ready").message

    def test_not_while_an_edit_has_not_been_applied(self, cluster: Cluster) -> None:
        cluster.edit(limits={"perMinute": 2})
        told = cluster.report()
        assert states(told)["Ready"] == "False"
        assert states(told)["Available"] == "True"
        assert told.observed_generation == 2
        assert cluster.converge().report().phase == "Ready"

    def test_not_while_a_child_is_gone(self, cluster: Cluster) -> None:
        del cluster.children["Deployment", "demo-chat"]
        told = cluster.report()
        assert states(told)["Ready"] == states(told)["Available"] == "False"
        assert condition(told, "Ready").reason == "NotCreated"


class TestBegin:
    def test_of_everything(self) -> None:
        cluster = Cluster(make_bot(DEV))
        told = cluster.report(cluster.reconcile())
        assert set(states(told).values()) == {"False", "True"}
        assert states(told)["SecretsReady"] == "True"
        assert states(told)["Progressing"] == "True"
        assert (told.phase, told.components_ready) == ("Pending", "0/4")
        assert told.version.current == ""

    def test_waits_are_named_by_what_all_wait_for(self) -> None:
        cluster = Cluster(make_bot(DEV))
        cluster.reconcile()
        cluster.settle("redis", "weaviate")
        told = cluster.report()
        assert condition(told, "Ready").reason == "Starting"
        assert "demo-postgres" in condition(told, "Ready").message
        assert condition(told, "MigrationsComplete").reason == "WaitingForStore"


class TestAvailable:
    def test_as_long_as_one_pod_serves(self) -> None:
        cluster = Cluster(make_bot(STANDARD)).converge()
        set_status(cluster, "demo-chat", availableReplicas=1, readyReplicas=1)["spec"]["replicas"] = 3
        told = cluster.report()
        assert states(told)["Available"] == "True"
        assert states(told)["Ready"] == "False"

    def test_not_without_any(self, cluster: Cluster) -> None:
        set_status(cluster, "demo-chat", availableReplicas=0, readyReplicas=0)
        told = cluster.report()
        assert states(told)["Available"] == "False"
        assert "demo-chat" in condition(told, "Available").message

    @pytest.mark.parametrize(
        ("edit", "wrong"),
        [
            ({"ports": [HTTP | {"port": 81}]}, "has no port 80"),
            ({"ports": []}, "has no port 80"),
            ({"ports": [HTTP | {"targetPort": "web"}]}, "leads to port web, which its pods do not have"),
            ({"ports": [HTTP | {"targetPort": 81}]}, "leads to port 81, which its pods do not have"),
            ({"ports": [{"port": 80}]}, "leads to port 80, which its pods do not have"),
            ({"selector": {"app.kubernetes.io/component": "chat"}}, "does not select its pods"),
            ({"selector": None}, "does not select its pods"),
            ({"type": "ExternalName", "externalName": "example.com"}, "leads to example.com"),
        ],
    )
    @pytest.mark.parametrize("part", SERVICES)
    @pytest.mark.parametrize("mode", ["Active", "Paused"])
    def test_not_where_nobody_reaches_the_pods(
        self, cluster: Cluster, part: str, mode: str, edit: Manifest, wrong: str
    ) -> None:
        cluster.edit(mode=mode)
        cluster.child("Service", f"demo-{part}")["spec"] |= edit
        told = cluster.report()
        says = f"Service demo-{part} {wrong}: nobody reaches {part}."
        assert states(told) | {"Available": "False", "Ready": "False"} == states(told)
        assert says in condition(told, "Available").message
        assert told.components_ready == "3/4"
        assert says in component(told, part).reason

    @pytest.mark.parametrize("part", SERVICES)
    def test_not_without_a_service(self, cluster: Cluster, part: str) -> None:
        del cluster.children["Service", f"demo-{part}"]
        found = condition(cluster.report(), "Available")
        assert (found.status, found.reason) == ("False", "NotCreated")
        assert found.message == f"Service demo-{part} does not exist: nobody reaches {part}."

    def test_names_what_keeps_the_service_from_coming_back(self, cluster: Cluster) -> None:
        del cluster.children["Service", "demo-auth"]
        for said in ("Service demo-auth: exceeded quota", "Deployment demo-auth: exceeded quota"):
            refused = Blocked(Reason.APPLY_REFUSED, said)
            steps = [replace(step, blocked=refused) if step.name == "auth" else step for step in cluster.plan()]
            found = condition(cluster.report(steps), "Available")
            assert found.status == "False"
            assert "Service demo-auth" in found.message

    @pytest.mark.parametrize(
        "edit",
        [
            {"type": "NodePort"},
            {"ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]},
            {"ports": [{"name": "more", "port": 81, "targetPort": "private"}, HTTP]},
        ],
    )
    def test_also_by_a_service_that_says_it_in_another_way(self, cluster: Cluster, edit: Manifest) -> None:
        cluster.child("Service", "demo-chat")["spec"] |= edit
        assert states(cluster.report())["Available"] == "True"

    def test_while_pods_and_service_are_both_of_an_earlier_version(self, cluster: Cluster) -> None:
        """The step that changes both at once may wait for long."""
        cluster.child("Service", "demo-auth")["spec"] |= {"ports": [HTTP | {"targetPort": "web"}]}
        [running] = cluster.child("Deployment", "demo-auth")["spec"]["template"]["spec"]["containers"]
        running["ports"] = [{"name": "web", "containerPort": 80}]
        assert states(cluster.report())["Available"] == "True"

    @pytest.mark.parametrize("spec", BY_HAND.values(), ids=BY_HAND)
    def test_becomes_true_once(self, spec: dict[str, Any]) -> None:
        """At the first install, whatever comes first, and it stays so through a rollout."""
        cluster, said = Cluster(make_bot(spec), apis=frozenset(OPTIONAL)), []
        for turn in range(16):
            if turn == 8:
                cluster.edit(version="0.2.0")
            cluster.reconcile()
            said.append(states(cluster.report())["Available"])
            cluster.settle()
            said.append(states(cluster.report())["Available"])
        assert said == sorted(said)
        assert said[-20:] == ["True"] * 20

    def test_stays_while_a_deployment_tells_of_its_earlier_form(self, cluster: Cluster) -> None:
        cluster.report()
        live = cluster.child("Deployment", "demo-chat")
        live["metadata"]["generation"] += 1
        live["status"] |= {"availableReplicas": 0, "readyReplicas": 0}
        told = cluster.report()
        assert states(told)["Available"] == "True"
        assert states(told)["Ready"] == "False"
        assert component(told, "chat").ready == 1


class TestTransition:
    def test_keeps_its_time_while_nothing_flips(self, cluster: Cluster) -> None:
        before = cluster.report(now=NOW)
        after = cluster.report(now=LATER)
        assert after == before

    def test_moves_where_something_flips(self, cluster: Cluster) -> None:
        cluster.report(now=NOW)
        set_status(cluster, "demo-chat", readyReplicas=0)
        told = cluster.report(now=LATER)
        times = {item.type: item.last_transition_time for item in told.conditions}
        assert times["Ready"] == times["Progressing"] == LATER
        assert times["Available"] == times["PostgresReady"] == NOW

    def test_not_for_another_reason(self, cluster: Cluster) -> None:
        set_status(cluster, "demo-chat", readyReplicas=0)
        cluster.report(now=NOW)
        cluster.pod("chat", "demo-chat-1", waiting("CrashLoopBackOff", ended=1))
        told = cluster.report(now=LATER)
        assert condition(told, "Ready").reason == "CrashLoop"
        assert condition(told, "Ready").last_transition_time == NOW


def waiting(why: str, said: str = "", ended: int | None = None, **more: Any) -> dict[str, Any]:
    """Status of a pod whose container waits; `more` is of its last end."""
    state: dict[str, Any] = {"name": "chat", "image": "chat:2", "state": {"waiting": {"reason": why, "message": said}}}
    if ended is not None:
        state["lastState"] = {"terminated": {"exitCode": ended, **more}}
    return {"phase": "Running", "containerStatuses": [state]}


UNSCHEDULABLE = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes: 1 Insufficient cpu.",
        }
    ],
}


class TestPods:
    @pytest.mark.parametrize(
        ("seen", "reason", "words"),
        [
            (UNSCHEDULABLE, "Unschedulable", ["demo-chat-1", "Insufficient cpu"]),
            (waiting("ImagePullBackOff", "not found"), "ImagePullFailed", ["demo-chat-1", "chat:2", "not found"]),
            (waiting("ErrImagePull", "401 Unauthorized"), "ImagePullFailed", ["unauthorized"]),
            (waiting("InvalidImageName"), "ImagePullFailed", ["chat:2", "InvalidImageName"]),
            (
                waiting("CreateContainerConfigError", 'secret "demo-chat-key" not found'),
                "ContainerConfigError",
                ["demo-chat-1", 'secret "demo-chat-key" not found'],
            ),
            (
                waiting("CrashLoopBackOff", ended=1, reason="Error", message="line\nValueError: no\n"),
                "CrashLoop",
                ["demo-chat-1", "exit code 1", "ValueError: no", "kubectl logs demo-chat-1 --previous"],
            ),
            (waiting("CrashLoopBackOff", ended=137, reason="OOMKilled"), "CrashLoop", ["137", "OOMKilled"]),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_say_what_is_wrong(self, cluster: Cluster, seen: dict[str, Any], reason: str, words: list[str]) -> None:
        set_status(cluster, "demo-chat", readyReplicas=0)
        cluster.pod("chat", "demo-chat-1", seen)
        told = cluster.report()
        ready = condition(told, "Ready")
        assert ready.reason == reason
        for word in words:
            assert word in ready.message
        assert component(told, "chat").reason == f"{reason}: {ready.message}"
        assert told.phase == "Degraded"
        assert states(told)["Progressing"] == "False"

    def test_of_the_newest_replica_set_alone(self, cluster: Cluster) -> None:
        live = set_status(cluster, "demo-chat", updatedReplicas=0)
        live["metadata"]["annotations"] |= {"deployment.kubernetes.io/revision": "2"}
        for revision in ("1", "2"):
            cluster.children["ReplicaSet", f"demo-chat-{revision}"] = {
                "kind": "ReplicaSet",
                "metadata": {
                    "name": f"demo-chat-{revision}",
                    "labels": {"pod-template-hash": revision},
                    "annotations": {"deployment.kubernetes.io/revision": revision},
                    "ownerReferences": [{"uid": live["metadata"]["uid"]}],
                },
                "spec": {"template": {"spec": {}}},
            }
        cluster.pod("chat", "demo-chat-old", waiting("ImagePullBackOff"), pod_template_hash="1")
        assert condition(cluster.report(), "Ready").reason == "RollingOut"
        cluster.pod("chat", "demo-chat-new", waiting("CrashLoopBackOff", ended=2), pod_template_hash="2")
        assert condition(cluster.report(), "Ready").reason == "CrashLoop"

    def test_of_a_settled_component_are_not_looked_at(self, cluster: Cluster) -> None:
        cluster.pod("chat", "demo-chat-old", waiting("CrashLoopBackOff", ended=1))
        assert cluster.report().phase == "Ready"

    def test_of_a_store_are_reported_by_its_condition(self, cluster: Cluster) -> None:
        cluster.child("StatefulSet", "demo-weaviate")["status"]["readyReplicas"] = 0
        cluster.pod("weaviate", "demo-weaviate-0", waiting("ImagePullBackOff"))
        told = cluster.report()
        assert condition(told, "VectorStoreReady").reason == condition(told, "Ready").reason == "ImagePullFailed"
        assert states(told)["PostgresReady"] == states(told)["Available"] == "True"
        assert told.phase == "Degraded"


class TestDeployments:
    def test_that_may_make_no_pods(self, cluster: Cluster) -> None:
        failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
        set_status(cluster, "demo-chat", readyReplicas=0, conditions=[failure])
        ready = condition(cluster.report(), "Ready")
        assert (ready.reason, "exceeded quota" in ready.message) == ("PodsRefused", True)

    @pytest.mark.parametrize(
        ("there", "updated", "ready", "waits"),
        [
            (3, 1, 2, "waits for 2 more to be made, 1 more to be ready, 2 old to end."),
            (3, 3, 1, "waits for 2 more to be ready."),
            (2, 1, 0, "waits for 2 more to be made, 1 more to be ready, 1 old to end."),
            (4, 3, 4, "waits for 1 old to end."),
            (2, 2, 2, "waits for 1 more to be made."),
        ],
    )
    def test_that_go_on_say_what_is_awaited(
        self, cluster: Cluster, there: int, updated: int, ready: int, waits: str
    ) -> None:
        live = set_status(cluster, "demo-chat", replicas=there, updatedReplicas=updated, readyReplicas=ready)
        live["spec"]["replicas"] = 3
        cluster.child("HorizontalPodAutoscaler", "demo-chat")["spec"]["minReplicas"] = 3
        found = condition(cluster.report(), "Ready")
        head = f"Deployment demo-chat: of 3 replicas {updated} are new, {ready} pods are ready; "
        assert (found.reason, found.message) == ("RollingOut", head + waits)

    def test_that_make_no_progress(self, cluster: Cluster) -> None:
        overdue = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
        set_status(cluster, "demo-chat", readyReplicas=0, conditions=[overdue])
        assert condition(cluster.report(), "Ready").reason == "ProgressDeadlineExceeded"


class TestMigrations:
    def failed(self) -> Cluster:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.report()
        cluster.edit(images={"auth": "auth:2"})
        cluster.reconcile()
        for (kind, _), item in cluster.children.items():
            if kind == "Job" and item["spec"]["template"]["spec"]["containers"][0]["image"] == "auth:2":
                item["status"] = {"conditions": [{"type": "Failed", "status": "True", "message": "backoff limit"}]}
        return cluster

    def test_that_failed_are_named(self) -> None:
        told = self.failed().report()
        done = condition(told, "MigrationsComplete")
        assert (done.status, done.reason) == ("False", "MigrationFailed")
        assert "kubectl logs job/demo-auth-db-" in done.message
        assert states(told)["Available"] == "True"
        assert told.phase == "Degraded"

    def test_that_were_completed_are_remembered(self) -> None:
        cluster = self.failed()
        before = cluster.report().migrations
        assert [item.owner for item in before] == ["auth", "conversation"]
        cluster.children = {name: item for name, item in cluster.children.items() if name[0] != "Job"}
        assert cluster.report().migrations == before

    def test_whose_image_is_not_there(self) -> None:
        cluster = Cluster(make_bot(DEV))
        cluster.reconcile()
        cluster.settle("postgres")
        cluster.reconcile()
        job = next(name for kind, name in cluster.children if kind == "Job" and "auth" in name)
        cluster.pod("auth-db", f"{job}-1", waiting("ImagePullBackOff"), job_name=job)
        done = condition(cluster.report(), "MigrationsComplete")
        assert done.reason == "ImagePullFailed"
        assert job in done.message


class TestMissing:
    def test_secret_is_named(self) -> None:
        cluster = Cluster(make_bot({"llm": LLM}))
        cluster.converge()
        cluster.references |= KEY_LOST
        told = cluster.report()
        assert condition(told, "Ready").reason == condition(told, "SecretsReady").reason == "SecretNotFound"
        assert "Secret openai" in condition(told, "Ready").message
        assert component(told, "chat").reason.startswith("SecretNotFound: ")
        # What runs is of the form before, whatever its Deployment says of it.
        assert (component(told, "chat").ready, component(told, "chat").updated) == (3, 0)
        assert component(told, "gateway").reason == ""
        assert (told.phase, told.components_ready) == ("Degraded", "3/4")

    def test_address_of_a_store_shows_in_its_condition(self) -> None:
        cluster = Cluster(make_bot({"llm": LLM, "stores": EXTERNAL})).converge()
        told = cluster.report()
        assert condition(told, "PostgresReady").reason == condition(told, "CacheReady").reason == "External"
        cache = dict.fromkeys([Reference("Secret", "cache"), Reference("Secret", "cache", "uri")])
        cluster.references |= KEY_LOST | cache
        told = cluster.report()
        assert states(told)["PostgresReady"] == "True"
        assert condition(told, "CacheReady").reason == "SecretNotFound"
        assert "Secret cache" in condition(told, "CacheReady").message


class TestInvalid:
    def wrong(self) -> tuple[Manifest, ValidationError]:
        raw = body({"llm": {"default": "nothing"}, "limits": {"perMinut": 5}}, generation=9)
        with pytest.raises(ValidationError) as caught:
            ChatbotDeployment.model_validate(raw)
        return raw, caught.value

    def test_from_the_beginning(self) -> None:
        raw, error = self.wrong()
        told = invalid(raw, error, (), SETTINGS, None, NOW)
        assert states(told) == {"Available": "False", "Progressing": "False", "Ready": "False", "Degraded": "True"}
        ready = condition(told, "Ready")
        assert ready.reason == "InvalidSpec"
        assert "spec.limits.perMinut: unknown field; did you mean perMinute?" in ready.message
        assert (told.phase, told.observed_generation) == ("Failed", 9)

    def test_after_a_while_leaves_what_is_known(self, cluster: Cluster) -> None:
        raw, error = self.wrong()
        told = invalid(raw, error, cluster.observed.children, SETTINGS, cluster.report(), LATER)
        assert states(told)["Available"] == "True"
        assert condition(told, "Ready").last_transition_time == LATER
        assert condition(told, "Available").last_transition_time == NOW
        assert (told.phase, told.components_ready) == ("Degraded", "4/4")

    def test_tells_when_what_runs_serves_no_more(self, cluster: Cluster) -> None:
        raw, error = self.wrong()
        cluster.observed.child("Deployment", "demo-gateway")["status"]["availableReplicas"] = 0
        told = invalid(raw, error, cluster.observed.children, SETTINGS, cluster.report(), LATER)
        available = condition(told, "Available")
        assert (available.status, available.reason, told.phase) == ("False", "InvalidSpec", "Failed")
        assert "gateway has no available pod" in available.message
        assert "spec.limits.perMinut" in available.message

    def test_nor_does_one_that_is_being_deleted(self, cluster: Cluster) -> None:
        raw, known = body(), cluster.report()
        assert condition(leaving(raw, cluster.observed.children, known, LATER), "Available").status == "True"
        children = [item for item in cluster.observed.children if item["kind"] != "Service"]
        told = condition(leaving(raw, children, known, LATER), "Available")
        assert (told.status, told.reason) == ("False", "BeingDeleted")
        assert "Service demo-gateway does not exist" in told.message

    def test_is_forgotten_when_it_is_mended(self, cluster: Cluster) -> None:
        raw, error = self.wrong()
        cluster.status = invalid(raw, error, cluster.observed.children, SETTINGS, cluster.report(), NOW)
        assert cluster.report(now=LATER).phase == "Ready"


class TestAnySpec:
    @settings(max_examples=10)
    @given(spec=SPECS)
    def test_becomes_ready_and_then_says_nothing_new(self, spec: dict[str, Any]) -> None:
        cluster = Cluster(make_bot(spec), apis=frozenset(OPTIONAL)).converge()
        before = cluster.report(now=NOW)
        assert before.phase == "Ready"
        assert cluster.report(now=LATER) == before

    @settings(max_examples=10)
    @given(spec=SPECS)
    def test_gives_only_documented_reasons_on_the_way(self, spec: dict[str, Any]) -> None:
        cluster = Cluster(make_bot(spec), apis=frozenset(OPTIONAL))
        for _ in range(6):
            told = cluster.report(cluster.reconcile())
            assert {item.reason for item in told.conditions} <= set(REASONS)
            cluster.settle()
