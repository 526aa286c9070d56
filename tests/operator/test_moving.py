"""The data of Postgres on its way to another one: what runs meanwhile, what is said, and what is never lost."""

import threading
from typing import Any

import pytest
from chatbot_operator import names
from chatbot_operator.components.metadata import CLOUD_NATIVE_PG, component_of
from chatbot_operator.components.stores import CLAIM
from chatbot_operator.process import RULES
from chatbot_operator.world import Manifest
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import PostgresStatus

from tests.operator.running import BOT, SETTINGS, Run, World
from tests.operator.simulated import Cluster, make_bot
from tests.operator.specs import DEV, EXTERNAL
from tests.support.apiserver import playing_kubelet

APIS = frozenset(CLOUD_NATIVE_PG)
VECTORS: dict[str, Any] = {"vectors": {"type": "PGVector"}}
OURS: dict[str, Any] = {"mode": "CloudNativePG"}


def stores(postgres: dict[str, Any], **more: Any) -> dict[str, Any]:
    return VECTORS | {"postgres": postgres} | more


def settled(postgres: dict[str, Any] | None = None, **more: Any) -> Cluster:
    return Cluster(make_bot(DEV | {"stores": stores(postgres or {"mode": "Dev"}, **more)}), apis=APIS).converge()


def hibernated(cluster: Cluster) -> Cluster:
    cluster.edit(mode="Hibernated")
    rounds(cluster, 2)
    return cluster


def rounds(cluster: Cluster, count: int, *parts: str) -> None:
    """What is there does its work; Jobs only where they are named."""
    for _ in range(count):
        cluster.reconcile()
        cluster.settle(
            *(parts or ("postgres", "redis", "auth", "chat", "gateway", "conversation", "conversation-worker"))
        )
    cluster.reconcile()


def moved(cluster: Cluster, postgres: dict[str, Any]) -> Cluster:
    """Asked to move; both stores are ready, and the Jobs have been made."""
    policy = cluster.bot.spec.stores.deletion_policy
    cluster.edit(stores=stores(postgres, deletionPolicy=policy))
    rounds(cluster, 4)
    return cluster


def copied(former: dict[str, Any]) -> Cluster:
    """It sleeps on, and both databases are where they are to be."""
    cluster = moved(hibernated(settled(former)), OURS)
    cluster.settle("auth-copy", "conversation-copy")
    cluster.reconcile()
    rounds(cluster, 2)
    assert data(cluster).mode == "CloudNativePG"
    return cluster


def edited(cluster: Cluster, **fields: Any) -> None:
    """Somebody writes something else into the status."""
    assert cluster.status is not None
    assert cluster.status.stores is not None
    told = cluster.status.stores.model_copy(update={"postgres": data(cluster).model_copy(update=fields)})
    cluster.status = cluster.status.model_copy(update={"stores": told})


def jobs(cluster: Cluster) -> dict[str, Manifest]:
    return {
        component_of(item): item for (kind, name), item in cluster.children.items() if kind == "Job" and "-cp-" in name
    }


def replicas(cluster: Cluster, name: str) -> int:
    return int(cluster.child("StatefulSet", name)["spec"]["replicas"])


def said(cluster: Cluster, kind: str = "PostgresReady") -> tuple[str, str]:
    cluster.report()
    found = cluster.condition(kind)
    return found.reason, found.message


def data(cluster: Cluster) -> PostgresStatus:
    assert cluster.status is not None
    assert cluster.status.stores is not None
    return cluster.status.stores.postgres


def asleep(cluster: Cluster) -> bool:
    return cluster.child("Cluster", "demo-postgres")["metadata"]["annotations"]["cnpg.io/hibernation"] == "on"


class TestOnTheWay:
    @pytest.fixture
    def cluster(self) -> Cluster:
        return moved(hibernated(settled()), OURS)

    def test_both_are_awake_and_nothing_else(self, cluster: Cluster) -> None:
        assert replicas(cluster, "demo-postgres") == 1
        assert not asleep(cluster)
        assert replicas(cluster, "demo-redis") == 0
        running = [item for (kind, _), item in cluster.children.items() if kind == "Deployment"]
        assert [item["spec"]["replicas"] for item in running] == [0] * 5
        assert data(cluster).mode == "Dev"

    def test_each_job_reads_the_old_and_writes_the_new(self, cluster: Cluster) -> None:
        assert set(jobs(cluster)) == {"auth-copy", "conversation-copy"}
        job = jobs(cluster)["auth-copy"]
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["command"] == ["python", "-m", "chatbot_auth", "copy"]
        assert container["args"] == ["--mark", job["metadata"]["name"]]
        volumes = {item["name"]: item["projected"]["sources"] for item in pod["volumes"] if "projected" in item}
        (old,) = volumes["former"]
        assert (old["secret"]["name"], old["secret"]["items"][0]["key"]) == ("demo-postgres", "auth-uri")
        new = next(
            item["secret"] for item in volumes["secrets"] if item["secret"]["items"][0]["path"] == "database_url"
        )
        assert new["name"] == names.role("demo", "auth")
        assert "authorities" in volumes
        mounts = {item["name"]: item["mountPath"] for item in container["volumeMounts"]}
        assert mounts["former"] == names.FORMER_FOLDER

    def test_each_reaches_both_and_is_let_in(self, cluster: Cluster) -> None:
        policy = cluster.child("NetworkPolicy", "demo-auth-copy")["spec"]
        reached = [rule["to"][0]["podSelector"]["matchLabels"] for rule in policy["egress"] if "to" in rule]
        assert reached[0][names.COMPONENT] == "postgres"
        assert reached[1] == {"cnpg.io/cluster": "demo-postgres"}
        for name in ("demo-postgres", "demo-postgres-cluster"):
            rules = cluster.child("NetworkPolicy", name)["spec"]["ingress"]
            callers = {peer["podSelector"]["matchLabels"].get(names.COMPONENT) for peer in rules[0]["from"]}
            assert {"auth-copy", "conversation-copy"} <= callers

    def test_it_is_said(self, cluster: Cluster) -> None:
        reason, message = said(cluster)
        assert reason == "CopyingData"
        assert jobs(cluster)["auth-copy"]["metadata"]["name"] in message
        assert said(cluster, "Ready")[0] == "CopyingData"
        assert cluster.status is not None
        assert cluster.status.phase == "Progressing"

    def test_waking_waits_for_it(self, cluster: Cluster) -> None:
        cluster.edit(mode="Active")
        rounds(cluster, 2)
        assert cluster.child("Deployment", "demo-chat")["spec"]["replicas"] == 0
        assert said(cluster)[0] == "CopyingData"
        assert cluster.status is not None
        assert all("has been copied" in item.reason for item in cluster.status.components)
        cluster.settle("auth-copy")
        cluster.reconcile()
        assert said(cluster)[0] == "CopyingData"  # one of two
        cluster.settle("conversation-copy")
        cluster.converge()
        assert (data(cluster).mode, said(cluster)) == (
            "CloudNativePG",
            ("StoreReady", "Cluster demo-postgres is ready."),
        )
        assert [item.owner for item in data(cluster).copies] == ["auth", "conversation"]
        assert cluster.child("Deployment", "demo-chat")["spec"].get("replicas") != 0
        assert not jobs(cluster)

    def test_a_job_that_was_seen_complete_counts_when_it_is_gone(self, cluster: Cluster) -> None:
        cluster.settle("auth-copy")
        cluster.reconcile()
        del cluster.children["Job", jobs(cluster)["auth-copy"]["metadata"]["name"]]
        assert [item.owner for item in data(cluster).copies] == ["auth"]

    def test_failure_names_the_job_and_can_be_taken_back(self, cluster: Cluster) -> None:
        failed = jobs(cluster)["conversation-copy"]
        failed["status"] = {"conditions": [{"type": "Failed", "status": "True", "message": "BackoffLimitExceeded"}]}
        reason, message = said(cluster)
        assert reason == "CopyFailed"
        assert f"kubectl logs job/{failed['metadata']['name']}" in message
        assert "may go back to Dev" in message
        cluster.edit(stores=stores({"mode": "Dev"}))
        rounds(cluster, 3)
        assert said(cluster)[0] == "Hibernated"
        assert asleep(cluster)  # the half-made copy, for whoever wants to look
        cluster.edit(mode="Active")
        cluster.converge()
        assert (data(cluster).mode, cluster.condition("Ready").status) == ("Dev", "True")

    def test_another_attempt_is_another_job(self, cluster: Cluster) -> None:
        """What was copied by an earlier one may be old by now."""
        before = jobs(cluster)["auth-copy"]["metadata"]["name"]
        cluster.edit(stores=stores({"mode": "Dev"}))
        rounds(cluster, 2)
        assert jobs(moved(cluster, OURS))["auth-copy"]["metadata"]["name"] != before

    def test_an_edit_meanwhile_is_no_other_attempt(self, cluster: Cluster) -> None:
        before = {part: job["metadata"]["name"] for part, job in jobs(cluster).items()}
        cluster.edit(limits={"perMinute": 7})
        rounds(cluster, 2)
        assert {part: job["metadata"]["name"] for part, job in jobs(cluster).items()} == before

    def test_nothing_is_copied_while_a_deployment_may_still_make_a_pod(self, cluster: Cluster) -> None:
        for job in jobs(cluster).values():
            del cluster.children["Job", job["metadata"]["name"]]
        unseen = cluster.child("Deployment", "demo-chat")
        unseen["metadata"]["generation"] += 1
        cluster.reconcile()
        assert not jobs(cluster)
        assert said(cluster) == ("Stopping", "Waits for Deployment demo-chat, which is to have no pods.")
        cluster.settle("chat")
        cluster.reconcile()
        assert set(jobs(cluster)) == {"auth-copy", "conversation-copy"}

    def test_nothing_is_copied_before_both_are_ready(self) -> None:
        cluster = hibernated(settled())
        cluster.edit(stores=stores(OURS))
        cluster.reconcile()
        cluster.settle("redis")
        cluster.reconcile()
        assert not jobs(cluster)
        assert said(cluster)[0] == "Starting"


class TestAfterwards:
    @pytest.mark.parametrize("policy", ["Retain", "Delete"])
    def test_the_former_one_sleeps_and_stays(self, policy: str) -> None:
        cluster = moved(hibernated(settled(deletionPolicy=policy)), OURS)
        cluster.settle("auth-copy", "conversation-copy")
        cluster.reconcile()
        rounds(cluster, 3)
        assert (data(cluster).mode, data(cluster).formerly) == ("CloudNativePG", ["Dev"])
        assert replicas(cluster, "demo-postgres") == 0
        assert asleep(cluster)
        assert ("Secret", "demo-postgres") in cluster.children
        cluster.edit(mode="Active")
        cluster.converge()
        assert replicas(cluster, "demo-postgres") == 0
        # Who has looked at the copy takes it away, and it is not made again.
        del cluster.children["StatefulSet", "demo-postgres"]
        cluster.converge()
        assert ("StatefulSet", "demo-postgres") not in cluster.children
        assert ("Service", "demo-postgres") not in cluster.children

    def test_one_that_sleeps_holds_up_no_later_move(self) -> None:
        cluster = copied({"mode": "Dev"})
        cluster.edit(mode="Active")
        hibernated(cluster.converge())
        cluster.edit(stores=stores(EXTERNAL["postgres"]))
        rounds(cluster, 4)
        assert set(jobs(cluster)) == {"auth-copy", "conversation-copy"}
        assert replicas(cluster, "demo-postgres") == 0
        cluster.settle("auth-copy", "conversation-copy")
        cluster.reconcile()
        assert (data(cluster).mode, data(cluster).formerly) == ("External", ["Dev", "CloudNativePG"])

    def test_its_disk_and_image_stay_its_own(self) -> None:
        cluster = hibernated(settled())
        cluster.edit(images={"postgres": "example.com/postgresql:18"})
        moved(cluster, OURS | {"storage": {"size": "50Gi"}})
        live = cluster.child("StatefulSet", "demo-postgres")["spec"]
        assert live["template"]["spec"]["containers"][0]["image"] == "chatbot-postgres:0.1.0"
        (claim,) = live["volumeClaimTemplates"]
        assert (claim["metadata"]["name"], claim["spec"]["resources"]["requests"]["storage"]) == (CLAIM, "1Gi")
        assert cluster.child("Cluster", "demo-postgres")["spec"]["imageName"] == "example.com/postgresql:18"

    def test_from_an_external_one_whose_secrets_are_no_longer_named(self) -> None:
        cluster = moved(hibernated(settled(EXTERNAL["postgres"])), {"mode": "Dev"})
        pod = jobs(cluster)["conversation-copy"]["spec"]["template"]["spec"]
        old, certificate = next(item["projected"]["sources"] for item in pod["volumes"] if item["name"] == "former")
        assert old["secret"] == {"name": "conversation-db", "items": [{"key": "uri", "path": "database_url"}]}
        brought = {"name": "conversation-db", "items": [{"key": "ca.crt", "path": "ca.crt"}], "optional": True}
        assert certificate["secret"] == brought
        cluster.settle("auth-copy", "conversation-copy")
        cluster.reconcile()
        assert (data(cluster).mode, data(cluster).formerly) == ("Dev", [])

    def test_to_an_external_one(self) -> None:
        cluster = moved(hibernated(settled(OURS)), EXTERNAL["postgres"])
        assert not asleep(cluster)
        cluster.settle("auth-copy", "conversation-copy")
        cluster.reconcile()
        rounds(cluster, 2)
        assert asleep(cluster)
        assert data(cluster).auth_secret == "auth-db"
        assert said(cluster)[0] == "External"

    @pytest.mark.parametrize("policy", ["Retain", "Delete"])
    def test_a_status_that_was_lost_takes_nothing_away(self, policy: str) -> None:
        cluster = moved(hibernated(settled(deletionPolicy=policy)), OURS)
        cluster.status = None
        cluster.reconcile()
        rounds(cluster, 3)
        assert ("StatefulSet", "demo-postgres") in cluster.children
        assert ("Secret", "demo-postgres") in cluster.children
        assert data(cluster).mode == "Dev"

    @pytest.mark.parametrize("former", [{"mode": "Dev"}, EXTERNAL["postgres"]], ids=["Dev", "External"])
    def test_a_status_that_was_lost_on_the_way_wakes_no_empty_database(self, former: dict[str, Any]) -> None:
        cluster = moved(hibernated(settled(former)), OURS)
        cluster.status = None
        rounds(cluster, 3)
        cluster.edit(mode="Active")
        rounds(cluster, 3)
        assert said(cluster, "Ready")[0] != "Settled"
        assert (data(cluster).mode, data(cluster).moving_to) == (former["mode"], "CloudNativePG")
        cluster.settle("auth-copy", "conversation-copy")
        cluster.converge()
        assert (data(cluster).mode, said(cluster, "Ready")[0]) == ("CloudNativePG", "Settled")

    def test_and_one_that_was_lost_afterwards_copies_nothing_over_what_was_written(self) -> None:
        cluster = moved(hibernated(settled()), OURS)
        cluster.settle("auth-copy", "conversation-copy")
        cluster.reconcile()
        cluster.edit(mode="Active", images={"chat": "chat:broken"})
        rounds(
            cluster, 4, "postgres", "redis", "auth-db", "conversation-db", "auth", "conversation"
        )  # and chat never does
        cluster.status = None
        rounds(cluster, 3)
        assert (data(cluster).mode, jobs(cluster)) == ("CloudNativePG", {})
        assert cluster.child("Deployment", "demo-auth")["spec"]["replicas"] == 1

    @pytest.mark.parametrize("former", [{"mode": "Dev"}, EXTERNAL["postgres"]], ids=["Dev", "External"])
    def test_one_that_was_lost_between_the_copy_and_the_first_pods_begins_no_other(
        self, former: dict[str, Any]
    ) -> None:
        cluster = copied(former)
        made = {part: job["metadata"]["name"] for part, job in jobs(cluster).items()}
        cluster.status = None
        cluster.edit(mode="Active")
        cluster.reconcile()
        assert {part: job["metadata"]["name"] for part, job in jobs(cluster).items()} == made
        cluster.converge()
        assert (data(cluster).mode, said(cluster, "Ready")[0]) == ("CloudNativePG", "Settled")
        assert data(cluster).formerly == (["Dev"] if former["mode"] == "Dev" else [])
        assert not jobs(cluster)  # what has settled is known from then on

    def test_nor_one_that_is_lost_when_what_was_written_since_sleeps_again(self) -> None:
        """It never settled where it is now: what had settled last would say that it is where it was."""
        cluster = copied({"mode": "Dev"})
        cluster.edit(mode="Active", images={"chat": "chat:broken"})
        rounds(cluster, 4, "postgres", "redis", "auth-db", "conversation-db", "auth", "conversation")
        cluster.edit(mode="Hibernated")
        rounds(cluster, 3)
        cluster.status = None
        rounds(cluster, 3)
        assert (data(cluster).mode, data(cluster).formerly) == ("CloudNativePG", ["Dev"])
        assert replicas(cluster, "demo-postgres") == 0

    def test_one_that_was_lost_before_anything_had_ever_settled_wakes_no_empty_database(self) -> None:
        cluster = Cluster(make_bot(DEV | {"stores": stores({"mode": "Dev"})}), apis=APIS)
        rounds(cluster, 3, "postgres", "redis", "auth-db", "conversation-db", "auth", "conversation")
        cluster = moved(hibernated(cluster), OURS)
        made = {part: job["metadata"]["name"] for part, job in jobs(cluster).items()}
        cluster.status = None
        cluster.edit(mode="Active")
        rounds(cluster, 3)
        assert (data(cluster).mode, data(cluster).moving_to) == ("Dev", "CloudNativePG")
        assert {part: job["metadata"]["name"] for part, job in jobs(cluster).items()} == made

    def test_one_that_was_lost_while_pods_still_run_on_the_old_one_is_made_from_what_had_settled(self) -> None:
        cluster = settled()
        cluster.edit(mode="Hibernated", stores=stores(OURS))
        cluster.status = None
        assert cluster.child("Deployment", "demo-auth")["spec"]["replicas"] == 1
        rounds(cluster, 4)
        assert (data(cluster).mode, data(cluster).moving_to) == ("Dev", "CloudNativePG")

    def test_one_that_was_lost_when_the_mode_has_changed_again_tells_where_the_copy_is(self) -> None:
        cluster = copied({"mode": "Dev"})
        cluster.edit(stores=stores(EXTERNAL["postgres"]))
        cluster.status = None
        cluster.reconcile()
        assert (data(cluster).mode, data(cluster).moving_to) == ("CloudNativePG", "External")

    def test_what_an_edited_status_says_stops_nothing_that_runs(self) -> None:
        cluster = copied({"mode": "Dev"})
        cluster.edit(mode="Active")
        cluster.converge()
        edited(cluster, mode="Dev")
        rounds(cluster, 2)
        assert cluster.child("Deployment", "demo-auth")["spec"]["replicas"] == 1
        assert (data(cluster).mode, data(cluster).formerly, jobs(cluster)) == ("CloudNativePG", ["Dev"], {})

    @pytest.mark.parametrize("policy", ["Retain", "Delete"])
    def test_nor_does_it_take_a_database_away(self, policy: str) -> None:
        cluster = moved(hibernated(settled(deletionPolicy=policy)), OURS)
        edited(cluster, mode="External", auth_secret="auth-db", conversation_secret="conversation-db", formerly=[])
        rounds(cluster, 3)
        assert ("StatefulSet", "demo-postgres") in cluster.children
        assert ("Secret", "demo-postgres") in cluster.children

    def test_nor_does_it_end_a_copy_that_runs(self) -> None:
        cluster = moved(hibernated(settled()), OURS)
        made = jobs(cluster).keys()
        edited(cluster, mode="CloudNativePG")
        cluster.edit(mode="Active")
        rounds(cluster, 2)
        assert (data(cluster).mode, data(cluster).moving_to, jobs(cluster).keys()) == ("Dev", "CloudNativePG", made)
        assert cluster.child("Deployment", "demo-auth")["spec"]["replicas"] == 0

    def test_but_it_may_say_that_what_has_failed_to_be_copied_is_there(self) -> None:
        cluster = moved(hibernated(settled()), OURS)
        for job in jobs(cluster).values():
            job["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
        edited(cluster, mode="CloudNativePG")
        rounds(cluster, 2)
        assert (data(cluster).mode, data(cluster).moving_to, jobs(cluster)) == ("CloudNativePG", None, {})

    def test_another_resource_of_that_name_trusts_no_copy_of_the_first(self) -> None:
        """A database that was retained has the name of the Job noted that filled it."""
        cluster = moved(hibernated(settled()), OURS)
        before = jobs(cluster)["auth-copy"]["metadata"]["name"]
        body = cluster.bot.model_dump(mode="json", by_alias=True, exclude_unset=True)
        body["metadata"]["uid"] = "22222222-2222-4222-8222-222222222222"
        for item in cluster.children.values():
            for owner in item["metadata"].get("ownerReferences") or []:
                owner["uid"] = body["metadata"]["uid"]
        cluster.bot = ChatbotDeployment.model_validate(body)
        rounds(cluster, 3)
        assert jobs(cluster)["auth-copy"]["metadata"]["name"] != before

    def test_a_rollback_never_goes_back_to_where_the_data_was(self) -> None:
        cluster = moved(hibernated(settled()), OURS)
        cluster.settle("auth-copy", "conversation-copy")
        cluster.reconcile()
        cluster.edit(mode="Active")
        rounds(cluster, 4)
        live = cluster.child("Deployment", "demo-auth")
        late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
        live["status"] |= {"conditions": [late]}
        chosen = RULES.effective(cluster.bot, cluster.observed, cluster.status, SETTINGS)
        assert chosen.rolled_back is None

    def test_a_cluster_that_a_former_resource_left_is_not_touched(self) -> None:
        """It is retained by somebody who may still want it."""
        left = settled(OURS)
        cluster = settled()
        for name in ("Cluster", "Database"):
            found = next(item for (kind, _), item in left.children.items() if kind == name)
            cluster.children[name, found["metadata"]["name"]] = found
        cluster.converge()
        assert not asleep(cluster)


async def test_on_a_server_it_moves_once_and_then_writes_nothing(world: World) -> None:
    world.create_bot({"profile": "Dev", "stores": VECTORS})
    run, copying = Run(world), threading.Event()

    def ready(pod: Manifest) -> bool:
        return copying.is_set() or "-cp-" not in pod["metadata"]["name"]

    with playing_kubelet(world.api, world.namespace, ready):
        await run.until("Ready", "True")
        for name in ("auth-db", "conversation-db"):
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
            world.api.create(secret | {"stringData": {"uri": "postgres://h/d"}}, world.namespace)
        run.edit(mode="Hibernated")
        await run.until("Ready", "False", "Hibernated")
        run.edit(stores={"postgres": EXTERNAL["postgres"]})
        await run.until("PostgresReady", "False", "CopyingData")
        run.edit(mode="Active")
        told = await run.until("Ready", "False", "CopyingData")
        assert told.stores is not None
        assert (told.stores.postgres.mode, told.stores.postgres.moving_to) == ("Dev", "External")
        copying.set()
        told = await run.until("Ready", "True")
        assert told.stores is not None
        assert (told.stores.postgres.mode, told.stores.postgres.formerly) == ("External", ["Dev"])
        assert world.existing("StatefulSet", f"{BOT}-postgres")["spec"]["replicas"] == 0
        await run.rests()
