"""What pods say is wrong: at once, but for what passes by itself; and of a migration, from one attempt to the next."""

import json
from typing import Any

import pytest

from tests.operator.simulated import NOW, Cluster, make_bot
from tests.operator.specs import DEV, EXTERNAL
from tests.operator.test_status import UNSCHEDULABLE, component, condition, waiting

LOGGED = {"event": "migration failed", "error": "ConnectionRefusedError", "reason": "Connect call failed"}
UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."


def unplaced(message: str, since: str = NOW) -> dict[str, Any]:
    said = UNSCHEDULABLE["conditions"][0] | {"message": message, "lastTransitionTime": since}  # type: ignore[index]
    return {"phase": "Pending", "conditions": [said]}


class TestDisks:
    """A disk is made after its pod, so the scheduler is early."""

    def cluster(self, message: str) -> Cluster:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.child("StatefulSet", "demo-postgres")["status"]["readyReplicas"] = 0
        cluster.pod("postgres", "demo-postgres-0", unplaced(message))
        return cluster

    @pytest.mark.parametrize("message", [UNBOUND, '0/1 nodes: persistentvolumeclaim "data-demo-postgres-0" not found.'])
    def test_have_a_minute(self, message: str) -> None:
        cluster = self.cluster(message)
        cluster.at = "2026-11-21T06:00:30Z"
        assert condition(cluster.report(), "PostgresReady").reason == "Starting"
        cluster.at = "2026-11-21T06:01:01Z"
        found = condition(cluster.report(), "PostgresReady")
        assert (found.reason, message in found.message) == ("Unschedulable", True)

    def test_what_else_a_node_lacks_is_told_at_once(self) -> None:
        cluster = self.cluster("0/1 nodes: 1 Insufficient cpu.")
        cluster.at = NOW
        assert condition(cluster.report(), "PostgresReady").reason == "Unschedulable"


class TestUnplaced:
    def test_say_what_they_ask_for_and_not_what_the_scheduler_thought_of_besides(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.child("Deployment", "demo-chat")["status"]["readyReplicas"] = 0
        aside = " no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful."
        cluster.pod("chat", "demo-chat-1", unplaced("0/1 nodes are available: 1 Insufficient cpu." + aside))
        asked = {"requests": {"memory": "128Mi", "cpu": "1k"}, "limits": {"memory": "1Gi"}}
        cluster.pods[-1]["spec"] = {"containers": [{"resources": asked}]}
        assert condition(cluster.report(), "Ready").message == (
            "Pod demo-chat-1 fits no node: 0/1 nodes are available: 1 Insufficient cpu. "
            "It asks for cpu 1k, memory 128Mi."
        )


class TestEnds:
    """Of a container that is begun anew by the kubelet."""

    BEGUN, OVER, LOOKED = "2026-11-21T06:00:00Z", "2026-11-21T06:00:20Z", "2026-11-21T06:00:25Z"

    def told(self, restarts: int, begun: str = BEGUN, ready: bool = False, now: str = "running", **ended: Any) -> str:
        """Reason and message of `Ready` while a pod of chat that has ended now does this."""
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.child("Deployment", "demo-chat")["status"]["readyReplicas"] = 0
        over = {"exitCode": 1, "reason": "Error", "startedAt": begun, "finishedAt": self.OVER} | ended
        seen = {"restartCount": restarts, "ready": ready, "image": "chat:1"}
        seen |= (
            {"state": {now: over}} if now == "terminated" else {"state": {now: {}}, "lastState": {"terminated": over}}
        )
        cluster.pod("chat", "demo-chat-1", {"phase": "Running", "containerStatuses": [seen]})
        cluster.at = self.LOOKED
        ready_condition = condition(cluster.report(), "Ready")
        return f"{ready_condition.reason}: {ready_condition.message}"

    @pytest.mark.parametrize("now", ["terminated", "running", "waiting"])
    def test_once_are_no_loop(self, now: str) -> None:
        """As after `kill -9`: it is begun anew, and that is all."""
        for restarts in (0, 1):
            assert self.told(restarts, now=now, exitCode=137).startswith("RollingOut")

    def test_within_minutes_are_one_also_while_it_runs(self) -> None:
        for now in ("terminated", "running"):
            assert self.told(2, now=now).startswith("CrashLoop: Pod demo-chat-1 ended with exit code 1: kubectl logs")
        assert self.told(2, ready=True).startswith("RollingOut")
        assert self.told(2, begun="2026-11-21T05:00:00Z").startswith("RollingOut"), "it had run for an hour"
        assert self.told(2, begun="2026-11-20T05:00:00Z", now="terminated").startswith("RollingOut")

    def test_that_somebody_else_brought_about_have_no_last_words(self) -> None:
        said = self.told(3, exitCode=137, message="Ready to accept connections tcp\n")
        assert (
            said == "CrashLoop: Pod demo-chat-1 ended with exit code 137 (killed): kubectl logs demo-chat-1 --previous"
        )
        assert "exit code 137 (OOMKilled): its memory limit is too low" in self.told(
            3, exitCode=137, reason="OOMKilled", message="serving"
        )

    def test_without_a_mistake_in_the_log_have_none_either(self) -> None:
        banner = json.dumps({"event": "serving", "level": "info"})
        assert "saying" not in self.told(3, message=banner)
        assert "saying 'no key'" in self.told(3, message=json.dumps({"event": "no key", "level": "error"}))
        assert "saying 'no key'" in self.told(3, message=f"{banner}\nno key\n")


class TestAttempts:
    """Of a migration that goes on trying."""

    def cluster(self, **spec: Any) -> tuple[Cluster, str]:
        """While both Jobs run, and the name of that of auth."""
        cluster = Cluster(make_bot(DEV | spec))
        cluster.reconcile()
        cluster.settle("postgres")
        cluster.reconcile()
        return cluster, next(name for kind, name in cluster.children if kind == "Job" and "auth" in name)

    def fail(self, cluster: Cluster, job: str, code: int, said: str, number: int = 1) -> None:
        ended = {"exitCode": code, "reason": "Error", "message": f"an earlier line\n{said}\n"}
        container = {"name": "auth-db", "image": "auth:1", "state": {"terminated": ended}}
        cluster.pod("auth-db", f"{job}-{number}", {"phase": "Failed", "containerStatuses": [container]}, job_name=job)
        cluster.pods[-1]["metadata"]["creationTimestamp"] = f"2026-11-21T06:00:0{number}Z"

    def test_whose_database_cannot_be_used(self) -> None:
        cluster, job = self.cluster(stores=EXTERNAL)
        self.fail(cluster, job, 75, json.dumps(LOGGED))
        told = cluster.report()
        where = "the Postgres whose address is in Secret auth-db"
        text = f"Job {job} cannot use {where}: no connection. It is tried again by itself."
        for kind in ("MigrationsComplete", "PostgresReady", "Ready"):
            found = condition(told, kind)
            assert (found.status, found.reason, found.message) == ("False", "StoreUnreachable", text)
        assert component(told, "auth").reason.startswith("WaitingForMigration")

    def test_that_failed_of_something_else(self) -> None:
        cluster, job = self.cluster()
        self.fail(cluster, job, 1, json.dumps(LOGGED | {"error": "InsufficientPrivilegeError", "reason": "no"}))
        found = condition(cluster.report(), "MigrationsComplete")
        words = "'migration failed: InsufficientPrivilegeError: no'"
        assert found.reason == "CrashLoop"
        assert found.message.startswith(f"Job {job} is tried again: pod {job}-1 ended with exit code 1, saying {words}")
        assert condition(cluster.report(), "PostgresReady").reason == "StoreReady"

    @pytest.mark.parametrize("said", ["killed", "[1]", '{"error": "http://user:word@db"}', '{"error": 7}', ""])
    def test_whose_words_are_no_kind_of_error(self, said: str) -> None:
        cluster, job = self.cluster()
        self.fail(cluster, job, 75, said)
        text = f"Job {job} cannot use StatefulSet demo-postgres: no answer. It is tried again by itself."
        assert condition(cluster.report(), "MigrationsComplete").message == text

    def test_the_last_counts_until_the_next_has_failed(self) -> None:
        cluster, job = self.cluster()
        self.fail(cluster, job, 1, "first", 1)
        self.fail(cluster, job, 1, "second", 2)
        cluster.pod("auth-db", f"{job}-3", {"phase": "Running"}, job_name=job)
        assert "second" in condition(cluster.report(), "MigrationsComplete").message
        cluster.pods[-1]["status"] = waiting("ImagePullBackOff", "not found")
        assert condition(cluster.report(), "MigrationsComplete").reason == "ImagePullFailed"

    def test_that_were_given_up_are_told_by_the_last(self) -> None:
        cluster, job = self.cluster()
        self.fail(cluster, job, 75, json.dumps(LOGGED))
        failed = {"type": "Failed", "status": "True", "message": "backoff limit"}
        cluster.child("Job", job)["status"] = {"conditions": [failed]}
        found = condition(cluster.report(), "MigrationsComplete")
        assert found.reason == "MigrationFailed"
        assert (
            "gave up (backoff limit). Its last pod ended with exit code 75, saying 'migration failed:" in found.message
        )


def test_a_job_that_is_suspended_says_so_and_what_to_do() -> None:
    """Its controller makes no pod, and says nothing of it."""
    cluster = Cluster(make_bot(DEV))
    for _ in range(3):
        cluster.reconcile()
        cluster.settle("postgres", "redis", "weaviate")
    [name] = [name for kind, name in cluster.children if kind == "Job" and "auth" in name]
    cluster.child("Job", name)["spec"]["suspend"] = True
    cluster.report()
    found = cluster.condition("MigrationsComplete")
    assert (found.status, found.reason) == ("False", "Migrating")
    assert f"Job {name} is suspended" in found.message
    assert f"kubectl patch job {name} -n team " in found.message
