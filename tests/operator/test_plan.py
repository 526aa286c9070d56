"""What the plan wants, in which order, and what it waits for."""

from collections.abc import Iterable
from typing import Any

import pytest
from chatbot_operator import names, plan
from chatbot_operator.components.metadata import OPTIONAL, applied_hash, component_of
from chatbot_operator.readiness import image_of
from chatbot_operator.world import Manifest, Observed, Reference, Step
from hypothesis import given, settings

from tests.operator.running import SETTINGS
from tests.operator.simulated import NOW, Cluster, Name, make_bot, name_of
from tests.operator.specs import DEV, EXTERNAL, FAQS, LLM, PRODUCTION, RULES, SPECS, STANDARD


def running_pod(part: str, phase: str = "Running") -> Manifest:
    labels = {names.COMPONENT: part, names.BOT: "demo"}
    return {"kind": "Pod", "metadata": {"name": f"demo-{part}-1", "labels": labels}, "status": {"phase": phase}}


def count_of(cluster: Cluster) -> dict[str, int]:
    parts = {"gateway", "chat", "conversation", "auth", "postgres", "redis"}
    found = {
        component_of(item): item["spec"].get("replicas", 1)
        for (kind, _), item in cluster.children.items()
        if kind in ("Deployment", "StatefulSet")
    }
    return {part: count for part, count in found.items() if part in parts}


PARTS = ("gateway", "auth", "chat", "conversation")
FAQ = Reference("ConfigMap", "faqs", "faqs.yaml")
FAQ_MAP = Reference("ConfigMap", "faqs")
KEY = Reference("Secret", "openai", "api-key")
KEY_SECRET = Reference("Secret", "openai")


def blocked(steps: Iterable[Step]) -> dict[str, str]:
    """Step → reason. The revision is left out: it waits for all the others, whatever they wait for."""
    return {step.name: str(step.blocked.reason) for step in steps if step.blocked and step.name != "revision"}


def hashes(manifests: dict[Name, Manifest]) -> dict[Name, str]:
    return {name: applied_hash(item) for name, item in manifests.items()}


def moved(before: dict[Name, Manifest], after: dict[Name, Manifest]) -> set[str]:
    """Kind and part of everything that is not as it was; a ConfigMap that changed has another name.

    A Job that keeps its name is never applied again, and a revision holds whatever was settled before.
    """
    old, new = hashes(before), hashes(after)
    both = {name for name in old.keys() | new.keys() if name[0] != "ControllerRevision"}
    changed = {name for name in both if old.get(name) != new.get(name)}
    again = {name for name in changed if name[0] == "Job" and name in old and name in new}
    return {f"{kind} {component_of(after.get((kind, name)) or before[kind, name])}" for kind, name in changed - again}


def in_order(value: object) -> str:
    """Name of a case. Sets have another order in each process, and all workers must call a test the same."""
    return str(sorted(value)) if isinstance(value, set) else str(value)


class TestOrder:
    def test_of_the_steps(self) -> None:
        names_in_order = list(dict.fromkeys(step.name for step in Cluster().converge().plan()))
        assert names_in_order == [
            "secrets",
            "stores",
            "migrations",
            "conversation",
            "auth",
            "chat",
            "gateway",
            "monitoring",
            "revision",
        ]

    def test_is_kept_from_nothing_to_everything(self) -> None:
        cluster = Cluster(make_bot(DEV))
        assert blocked(cluster.reconcile()) == {
            "migrations": "WaitingForStore",
            "conversation": "WaitingForMigration",
            "auth": "WaitingForMigration",
            "chat": "WaitingForComponent",
            "gateway": "WaitingForComponent",
        }
        cluster.settle("postgres", "redis", "weaviate")
        assert set(blocked(cluster.reconcile())) == {"conversation", "auth", "chat", "gateway"}
        cluster.settle("auth-db", "conversation-db")
        assert set(blocked(cluster.reconcile())) == {"chat", "gateway"}
        cluster.settle("auth", "conversation", "conversation-worker")
        assert set(blocked(cluster.reconcile())) == {"gateway"}
        cluster.settle("chat")
        assert blocked(cluster.reconcile()) == {}

    def test_one_database_does_not_wait_for_the_other(self) -> None:
        cluster = Cluster(make_bot(DEV))
        cluster.reconcile()
        cluster.settle("postgres")
        cluster.reconcile()
        cluster.settle("auth-db")
        assert "auth" not in blocked(cluster.reconcile())
        assert "conversation" in blocked(cluster.plan())

    @pytest.mark.parametrize(
        ("store", "waiting"),
        [
            ("postgres", {"migrations", "conversation", "auth", "chat", "gateway"}),
            ("redis", {"chat", "gateway"}),
            ("weaviate", {"conversation", "chat", "gateway"}),
        ],
    )
    def test_a_store_holds_up_who_needs_it(self, store: str, waiting: set[str]) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.edit(telemetry={"sampleRatio": "0.5"})
        cluster.child("StatefulSet", f"demo-{store}")["status"]["readyReplicas"] = 0
        assert set(blocked(cluster.plan())) == waiting

    def test_what_is_unchanged_waits_for_nothing(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        for part in ("conversation", "conversation-worker", "auth", "chat"):
            cluster.child("Deployment", f"demo-{part}")["status"]["readyReplicas"] = 0
        del cluster.children["Deployment", "demo-gateway"]
        assert blocked(cluster.plan()) == {}

    def test_nobody_waits_for_the_worker(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.child("Deployment", "demo-conversation-worker")["status"]["readyReplicas"] = 0
        cluster.edit(limits={"perMinute": 5})
        assert blocked(cluster.plan()) == {}

    def test_a_new_image_is_migrated_before_it_runs(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.edit(images={"conversation": "conversation:2"})
        assert set(blocked(cluster.reconcile())) == {"conversation"}
        running = cluster.child("Deployment", "demo-conversation")["spec"]["template"]["spec"]["containers"][0]
        assert running["image"] == "chatbot-conversation:0.1.0"
        cluster.settle()
        cluster.reconcile()
        running = cluster.child("Deployment", "demo-conversation")["spec"]["template"]["spec"]["containers"][0]
        assert running["image"] == "conversation:2"

    def test_another_version_is_another_tag_of_every_service_and_of_no_store(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.edit(version="0.2.0", images={"auth": "auth:mine"})
        cluster.converge()
        images = {
            image_of(item) for (kind, _), item in cluster.children.items() if kind in ("Deployment", "StatefulSet")
        }
        services = {f"chatbot-{name}:0.2.0" for name in ("gateway", "chat", "conversation")}
        assert images == services | {
            "auth:mine",
            "chatbot-postgres:0.1.0",
            "chatbot-valkey:0.1.0",
            SETTINGS.images.weaviate,
        }

    def test_what_hibernates_ends_answers_first_and_stores_last(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.pods = [running_pod("chat"), running_pod("conversation")]
        cluster.edit(mode="Hibernated")
        assert (
            blocked(cluster.reconcile()).items()
            >= {"stores": "Stopping", "conversation": "Stopping", "auth": "Stopping"}.items()
        )
        assert count_of(cluster) == {"gateway": 0, "chat": 0, "conversation": 1, "auth": 1, "postgres": 1, "redis": 1}
        cluster.pods = [running_pod("conversation")]
        cluster.reconcile()
        assert count_of(cluster) == {"gateway": 0, "chat": 0, "conversation": 0, "auth": 0, "postgres": 1, "redis": 1}
        cluster.pods = [running_pod("conversation", phase="Succeeded")]
        cluster.reconcile()
        assert set(count_of(cluster).values()) == {0}

    def test_what_cannot_be_rendered_does_not_half_hibernate(self) -> None:
        digests = SETTINGS.images.model_copy(update={"chat": "chat@sha256:" + "0" * 64})
        settings = SETTINGS.model_copy(update={"images": digests}).at("0.2.0")
        bot = make_bot({"profile": "Dev", "version": "0.2.0", "mode": "Hibernated"})
        steps = plan.plan(bot, Cluster(make_bot(DEV)).converge().observed, settings)
        assert {str(step.blocked.reason) for step in steps if step.name == "stores" and step.blocked} == {"InvalidSpec"}
        assert all(step.blocked for step in steps if step.name in ("stores", "chat"))

    def test_a_version_nobody_knows_an_image_of_is_told(self) -> None:
        digests = SETTINGS.images.model_copy(update={"chat": "chat@sha256:" + "0" * 64})
        settings = SETTINGS.model_copy(update={"images": digests}).at("0.2.0")
        steps = plan.plan(make_bot({"profile": "Dev", "version": "0.2.0"}), Observed(), settings)
        blocked_by = {step.blocked for step in steps if step.name == "chat"}
        assert [(item.reason, "spec.images.chat" in item.message) for item in blocked_by if item] == [
            ("InvalidSpec", True)
        ]

    def test_a_failed_migration_keeps_the_old_version(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.edit(images={"auth": "auth:2"})
        cluster.reconcile()
        job = next(item for (kind, _), item in cluster.children.items() if kind == "Job" and image_of(item) == "auth:2")
        job["status"] = {"conditions": [{"type": "Failed", "status": "True", "message": "no more attempts"}]}
        steps = cluster.reconcile()
        assert blocked(steps)["auth"] == "MigrationFailed"
        message = next(step.blocked.message for step in steps if step.name == "auth" and step.blocked)
        assert f"kubectl logs job/{job['metadata']['name']}" in message
        assert image_of(cluster.child("Deployment", "demo-auth")) == "chatbot-auth:0.1.0"

    def test_a_migration_is_not_run_again_for_other_settings(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        before = {name for kind, name in cluster.children if kind == "Job"}
        cluster.edit(auth={"signup": "Closed"}, telemetry={"sampleRatio": "0.5"})
        assert {name for kind, name in cluster.converge().children if kind == "Job"} == before

    @pytest.mark.parametrize("wait", ["Unschedulable", "no pod", "Failed"])
    def test_a_migration_that_did_nothing_is_made_anew_by_what_mends_it(self, wait: str) -> None:
        cluster, job = migrating({"active": 0 if wait == "no pod" else 1})
        if wait == "Failed":
            job["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
        elif wait == "Unschedulable":
            cluster.pod("auth-db", "auth-db-1", {"phase": "Pending"}, job_name=job["metadata"]["name"])
            cluster.pods[0]["metadata"]["ownerReferences"] = [{"uid": "of the Job"}]
        edited(cluster)
        assert blocked(cluster.reconcile())["migrations"] == "NotCreated"
        name = name_of(job)
        assert name not in cluster.children
        if wait == "Unschedulable":
            assert blocked(cluster.reconcile())["migrations"] == "Stopping", "not two at once"
            cluster.pods.clear()
        cluster.reconcile()
        assert cluster.children[name]["spec"]["template"]["spec"]["tolerations"]
        cluster.converge()

    @pytest.mark.parametrize(
        "state",
        [
            {"state": {"running": {}}},
            {"state": {"terminated": {"exitCode": 1}}},
            {"state": {"waiting": {}}, "lastState": {"terminated": {"exitCode": 1}}},
            None,
        ],
        ids=["runs", "ended", "ran", "is not seen yet"],
    )
    def test_and_one_that_has_begun_goes_on(self, state: dict[str, Any] | None) -> None:
        cluster, job = migrating({"active": 1})
        if state:
            told = {"phase": "Running", "containerStatuses": [state]}
            cluster.pod("auth-db", "auth-db-1", told, job_name=job["metadata"]["name"])
        edited(cluster)
        cluster.reconcile()
        assert cluster.children[name_of(job)] is job

    def test_another_database_is_migrated(self) -> None:
        cluster = Cluster(make_bot({"stores": EXTERNAL})).converge()
        before = {name for kind, name in cluster.children if kind == "Job"}
        cluster.references[Reference("Secret", "auth-db", "uri")] = "another"
        after = {name for kind, name in cluster.converge().children if kind == "Job"}
        assert len(before - after) == len(after - before) == 1


def migrating(status: dict[str, Any]) -> tuple[Cluster, Manifest]:
    """A new image of auth, whose migration is at that."""
    cluster = Cluster(make_bot(DEV)).converge()
    cluster.edit(images={"auth": "auth:2"})
    cluster.reconcile()
    job = next(item for (kind, _), item in cluster.children.items() if kind == "Job" and image_of(item) == "auth:2")
    job["status"] = {"startTime": NOW} | status
    return cluster, job


def edited(cluster: Cluster) -> None:
    """With what every pod is to have, and stores have by now."""
    cluster.edit(defaults={"tolerations": [{"key": "chat", "operator": "Exists"}]})
    cluster.reconcile()
    cluster.settle("postgres", "redis", "weaviate")


class TestMissing:
    @pytest.mark.parametrize(
        ("lost", "reason"),
        [({FAQ, FAQ_MAP}, "ConfigMapNotFound"), ({FAQ}, "KeyNotFound")],
    )
    def test_text_blocks_its_reader_alone(self, lost: set[Reference], reason: str) -> None:
        cluster = Cluster(make_bot(DEV), references=dict.fromkeys(lost))
        for _ in range(6):
            cluster.reconcile()
            cluster.settle()
        assert blocked(cluster.plan()) == {"conversation": reason}
        assert ("Deployment", "demo-gateway") in cluster.children
        assert ("Deployment", "demo-conversation") not in cluster.children

    @pytest.mark.parametrize(("lost", "reason"), [({KEY, KEY_SECRET}, "SecretNotFound"), ({KEY}, "KeyNotFound")])
    def test_key_blocks_chat_alone_and_says_what_to_do(self, lost: set[Reference], reason: str) -> None:
        cluster = Cluster(make_bot({"llm": LLM}), references=dict.fromkeys(lost))
        for _ in range(6):
            cluster.reconcile()
            cluster.settle()
        assert blocked(cluster.plan()) == {"chat": reason}
        message = next(step.blocked.message for step in cluster.plan() if step.blocked)
        for word in ("Secret openai", "api-key", "spec.llm.providers[openai].apiKeySecretRef", "chat"):
            assert word in message

    def test_what_runs_goes_on_running_and_the_rest_follows_edits(self) -> None:
        cluster = Cluster(make_bot(STANDARD)).converge()
        running = cluster.child("Deployment", "demo-chat")
        cluster.references |= dict.fromkeys([KEY, KEY_SECRET])
        cluster.edit(limits={"perMinute": 7})
        cluster.reconcile()
        assert cluster.child("Deployment", "demo-chat") == running
        assert "7" in str(cluster.manifests()["ConfigMap", config_of(cluster, "gateway")]["data"])

    def test_comes_back(self) -> None:
        cluster = Cluster(make_bot(DEV), references=dict.fromkeys([FAQ, FAQ_MAP]))
        cluster.reconcile()
        cluster.references.clear()
        assert blocked(cluster.converge().plan()) == {}

    def test_faqs_that_cannot_be_read_block_nobody_and_are_told(self) -> None:
        cluster = Cluster(make_bot(DEV), bad_faqs="line 3: entry 1 answer is missing").converge()
        assert {
            kind: cluster.condition(kind).status for kind in ("Available", "Ready", "Degraded", "SecretsReady")
        } == {
            "Available": "True",
            "Ready": "False",
            "Degraded": "True",
            "SecretsReady": "False",
        }
        said = "ConfigMap faqs, which spec.knowledge.faqRef names, key faqs.yaml, line 3: entry 1 answer is missing."
        assert (cluster.condition("Ready").reason, cluster.condition("Ready").message) == ("InvalidFaqs", said)
        cluster.edit(mode="Hibernated")
        cluster.reconcile()
        assert cluster.condition("Ready").reason != "InvalidFaqs"

    def test_address_of_a_users_database_blocks_its_owner_alone(self) -> None:
        secret = Reference("Secret", "auth-db")
        lost = dict.fromkeys([secret, Reference("Secret", "auth-db", "uri")])
        cluster = Cluster(make_bot({"stores": EXTERNAL}), references=lost)
        for _ in range(6):
            cluster.reconcile()
            cluster.settle()
        assert blocked(cluster.plan()) == {"migrations": "SecretNotFound", "auth": "SecretNotFound"}
        assert ("Deployment", "demo-conversation") in cluster.children

    def test_key_of_a_generated_secret_is_never_written_over(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        del cluster.child("Secret", "demo-postgres")["data"]["auth-uri"]
        before = cluster.child("Secret", "demo-postgres")["data"]
        steps = cluster.reconcile()
        assert blocked(steps) == {"secrets": "KeyNotFound", "migrations": "KeyNotFound", "auth": "KeyNotFound"}
        message = next(step.blocked.message for step in steps if step.name == "auth" and step.blocked)
        assert "Secret demo-postgres" in message
        assert "auth-uri" in message
        assert cluster.child("Secret", "demo-postgres")["data"] == before

    def test_generated_secret_that_was_deleted_is_made_anew_and_its_readers_follow(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        before = dict(cluster.children)
        del cluster.children["Secret", "demo-redis"]
        after = cluster.converge().children
        rolled = {
            name for (kind, name) in after if kind in ("Deployment", "StatefulSet") and differs(before, after, name)
        }
        assert rolled == {"demo-redis", "demo-gateway", "demo-chat"}

    def test_an_administrators_password_that_was_deleted_rolls_nothing(self) -> None:
        """Its account is there, and has the old one."""
        cluster = Cluster(make_bot(DEV)).converge()
        before = dict(cluster.children)
        del cluster.children["Secret", "demo-admin"]
        after = cluster.converge().children
        assert after["Secret", "demo-admin"]["data"] != before["Secret", "demo-admin"]["data"]
        assert not [name for (kind, name) in after if kind == "Deployment" and differs(before, after, name)]


class TestChanges:
    """One field moves what has to know of it, and nothing else."""

    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            ({"limits": {"perMinute": 1}}, {"ConfigMap gateway", "Deployment gateway"}),
            (
                {"exposure": {"cors": {"allowOrigins": ["https://a.example"]}}},
                {"ConfigMap gateway", "Deployment gateway"},
            ),
            ({"auth": {"signup": "Closed"}}, {"ConfigMap auth", "Deployment auth"}),
            ({"llm": LLM | {"fallbacks": []}}, {"ConfigMap chat", "Deployment chat"}),
            ({"moderation": RULES}, {"ConfigMap chat", "Deployment chat"}),
            ({"images": {"chat": "chat:2"}}, {"Deployment chat"}),
            ({"images": {"redis": "valkey:2"}}, {"StatefulSet redis"}),
            ({"components": {"auth": {"scaling": {"maxReplicas": 4}}}}, {"HorizontalPodAutoscaler auth"}),
            (
                {"components": {"auth": {"resources": {"limits": {"memory": "2Gi"}}}}},
                {"Deployment auth"},
            ),
            (
                {"components": {"conversation": {"drainSeconds": 9}}},
                {
                    "ConfigMap conversation",
                    "Deployment conversation",
                    "Deployment conversation-worker",
                },
            ),
        ],
        ids=in_order,
    )
    def test_of_the_spec(self, spec: dict[str, Any], expected: set[str]) -> None:
        cluster = Cluster(make_bot(STANDARD)).converge()
        before = cluster.manifests()
        cluster.edit(**spec)
        assert moved(before, cluster.manifests()) == expected

    @pytest.mark.parametrize(
        ("reference", "expected"),
        [
            (FAQ, {"Deployment conversation", "Deployment conversation-worker"}),
            (KEY, {"Deployment chat"}),
            (Reference("ConfigMap", "prompts", "en.txt"), {"Deployment chat"}),
            (Reference("ConfigMap", "prompts", "short"), {"Deployment chat"}),
            (Reference("ConfigMap", "rules", "rules.yaml"), {"Deployment chat"}),
            (
                Reference("Secret", "embeddings", "api-key"),
                {"Deployment conversation", "Deployment conversation-worker"},
            ),
            (KEY_SECRET, set()),
        ],
        ids=in_order,
    )
    def test_of_what_users_own(self, reference: Reference, expected: set[str]) -> None:
        cluster = Cluster(make_bot(STANDARD | {"moderation": RULES})).converge()
        before = cluster.manifests()
        cluster.references[reference] = "edited"
        assert moved(before, cluster.manifests()) == expected


class TestWanted:
    def test_configuration_in_use_is_kept_until_nothing_uses_it(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        old = config_of(cluster, "gateway")
        replica_set = cluster.child("Deployment", "demo-gateway") | {"kind": "ReplicaSet"}
        cluster.children["ReplicaSet", "demo-gateway-1"] = replica_set | {"metadata": {"name": "demo-gateway-1"}}
        cluster.edit(limits={"perMinute": 3})
        cluster.converge()
        assert ("ConfigMap", old) in cluster.children
        del cluster.children["ReplicaSet", "demo-gateway-1"]
        cluster.converge()
        assert ("ConfigMap", old) not in cluster.children

    def test_configuration_of_a_running_migration_is_kept(self) -> None:
        cluster = Cluster(make_bot(DEV))
        cluster.reconcile()
        cluster.settle("postgres")
        cluster.reconcile()
        old = {name for kind, name in cluster.children if kind == "ConfigMap"}
        cluster.edit(telemetry={"sampleRatio": "0.5"})
        cluster.reconcile()
        assert old <= {name for kind, name in cluster.children if kind == "ConfigMap"}
        assert not old & {name for kind, name in cluster.converge().children if kind == "ConfigMap"}

    def test_what_is_no_longer_wanted_goes(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.edit(
            components={"chat": {"scaling": {"mode": "Fixed", "replicas": 2}}}, stores={"vectors": {"type": "PGVector"}}
        )
        cluster.converge()
        assert ("HorizontalPodAutoscaler", "demo-chat") not in cluster.children
        assert ("StatefulSet", "demo-weaviate") not in cluster.children
        assert ("Secret", "demo-weaviate") in cluster.children

    def test_everything_of_a_step_that_waits_stays(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        before = set(cluster.children)
        cluster.references |= dict.fromkeys([FAQ, FAQ_MAP])
        cluster.reconcile()
        assert set(cluster.children) == before


class TestOwnership:
    def test_what_belongs_to_another_is_left_alone(self) -> None:
        """An earlier resource of the same name, which is still being deleted."""
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.bot = make_bot(DEV, uid="22222222-2222-4222-8222-222222222222")
        steps = cluster.plan()
        assert blocked(steps)["gateway"] == "NameConflict"
        assert blocked(steps)["stores"] == "NameConflict"

    def test_what_was_retained_is_adopted(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        retained = {name: item for name, item in cluster.children.items() if "ownerReferences" not in item["metadata"]}
        assert {name for _, name in retained} == {"demo-postgres", "demo-redis", "demo-weaviate", "demo-admin"}
        again = Cluster(make_bot(DEV, uid="22222222-2222-4222-8222-222222222222"), children=dict(retained)).converge()
        for name, item in retained.items():
            assert again.children[name]["data"] == item["data"]
        assert blocked(again.plan()) == {}


class TestReferences:
    def test_are_each_key_and_its_object(self) -> None:
        found = plan.references(make_bot(PRODUCTION | {"knowledge": FAQS}))
        assert {FAQ, FAQ_MAP, Reference("Secret", "cache", "uri"), Reference("Secret", "auth-db")} <= found
        assert not [item for item in found if item.name.startswith("demo")]

    def test_are_none_where_nothing_is_referred_to(self) -> None:
        assert plan.references(make_bot({})) == frozenset()


class TestAnySpec:
    @settings(max_examples=15)
    @given(spec=SPECS)
    def test_converges_and_then_stays(self, spec: dict[str, Any]) -> None:
        cluster = Cluster(make_bot(spec), apis=frozenset(OPTIONAL)).converge()
        assert blocked(cluster.plan()) == {}
        before = dict(cluster.children)
        cluster.reconcile()
        assert cluster.children == before
        wanted = {name: item for name, item in hashes(cluster.manifests()).items() if name[0] != "Job"}
        assert wanted == {name: applied_hash(cluster.children[name]) for name in wanted}

    @settings(max_examples=8)
    @given(spec=SPECS)
    def test_is_planned_the_same_twice(self, spec: dict[str, Any]) -> None:
        cluster = Cluster(make_bot(spec), apis=frozenset(OPTIONAL)).converge()
        assert plan.plan(cluster.bot, cluster.observed, SETTINGS) == plan.plan(cluster.bot, cluster.observed, SETTINGS)

    @settings(max_examples=12)
    @given(before=SPECS, after=SPECS)
    def test_can_become_any_other(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        cluster = Cluster(make_bot(before), apis=frozenset(OPTIONAL)).converge()
        cluster.bot = make_bot(after, generation=2)
        cluster.converge()
        wanted = {name for step in cluster.plan() for name in map(name_of, step.manifests)}
        kept = {name for name, item in cluster.children.items() if "ownerReferences" not in item["metadata"]}
        assert set(cluster.children) == wanted | kept


def config_of(cluster: Cluster, service: names.Component) -> str:
    volumes = cluster.child("Deployment", f"demo-{service}")["spec"]["template"]["spec"]["volumes"]
    return str(next(item["configMap"]["name"] for item in volumes if item["name"] == "config"))


def differs(before: dict[Name, Manifest], after: dict[Name, Manifest], name: str) -> bool:
    kind = "Deployment" if ("Deployment", name) in after else "StatefulSet"
    return before[kind, name]["spec"]["template"] != after[kind, name]["spec"]["template"]
