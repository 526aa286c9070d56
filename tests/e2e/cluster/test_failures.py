"""What users do wrong, as a real scheduler, kubelet and Job controller show it: told by its name within seconds.

Each fault is made on a bot that serves, which goes on serving, and is taken back before the next. The sample beside it
notices nothing.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.cluster.cluster import Cluster, wait_for
from tests.e2e.cluster.conftest import BOT, FAULTY, NAMESPACE, Figures
from tests.e2e.cluster.database import NAME as DATABASE
from tests.e2e.cluster.faulty import NAME, Ailing
from tests.e2e.cluster.looking import conditions
from tests.e2e.cluster.people import ask, serving, sign_in

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NOWHERE = "no-such-image:1"


@pytest.fixture(scope="module")
def ailing(cluster: Cluster, bot: None, figures: Figures) -> Iterator[Ailing]:
    found = Ailing(cluster, figures)
    found.make()
    yield found
    cluster.kubectl("delete", "namespace", FAULTY, "--wait=false")
    with serving(cluster, NAMESPACE, BOT) as platform:
        assert ask(platform, sign_in(platform))[-1]["type"] == "run.finished"


def beside(cluster: Cluster) -> tuple[object, ...]:
    """What would change if the sample noticed anything."""
    pods = cluster.get("-n", NAMESPACE, "pods", "-l", f"app.kubernetes.io/instance={BOT}")["items"]
    restarts = {
        pod["metadata"]["uid"]: [item["restartCount"] for item in pod["status"]["containerStatuses"]] for pod in pods
    }
    generations = {
        item["metadata"]["name"]: item["metadata"]["generation"]
        for item in cluster.get("-n", NAMESPACE, "deploy,statefulset")["items"]
    }
    ready = conditions(cluster)["Ready"]
    return restarts, generations, ready["status"], ready["lastTransitionTime"]


@pytest.fixture(autouse=True)
def others_unaffected(cluster: Cluster, bot: None) -> Iterator[None]:
    before = beside(cluster)
    yield
    assert beside(cluster) == before


def state(pod: dict[str, Any]) -> dict[str, Any]:
    """Of its container."""
    found = pod["status"].get("containerStatuses") or [{}]
    known: dict[str, Any] = found[0].get("state") or {}
    return known


def held_up(ailing: Ailing, *reasons: str) -> list[str]:
    """Names of chat's pods that wait for one of these reasons."""
    waiting = ((pod, state(pod).get("waiting", {})) for pod in ailing.pods("chat"))
    return [pod["metadata"]["name"] for pod, why in waiting if why.get("reason") in reasons]


def staying(ailing: Ailing) -> set[str]:
    """Uids of chat's pods that are not on their way out."""
    return {pod["metadata"]["uid"] for pod in ailing.pods("chat") if "deletionTimestamp" not in pod["metadata"]}


def unlike_its_own(ailing: Ailing, part: str) -> str:
    """An image that is there and does not hold the service: that of another one."""
    other = "gateway" if part != "gateway" else "auth"
    image: str = ailing.pods(other)[0]["spec"]["containers"][0]["image"]
    return image


class TestOutside:
    """First of all: the bot runs only once it is mended."""

    def test_a_store_at_a_closed_port(self, ailing: Ailing) -> None:
        def attempt_failed() -> bool:
            return any(state(pod).get("terminated", {}).get("exitCode") == 75 for pod in ailing.pods("auth-db"))

        said = ailing.tells(
            "store at a closed port", attempt_failed, "PostgresReady", "StoreUnreachable", f"{DATABASE}-auth"
        )
        assert ailing.database.password not in said
        assert ailing.conditions()["Available"]["status"] == "False"
        assert f"{DATABASE}-auth" in ailing.explained()
        ailing.database.lead_to()
        ailing.recovers("store at a closed port")
        ailing.answers()


class TestPods:
    def test_more_than_any_node_has(self, ailing: Ailing) -> None:
        ailing.edit({"components": {"chat": {"resources": {"requests": {"cpu": "1000"}}}}})

        def unplaced() -> list[str]:
            return [
                pod["metadata"]["name"]
                for pod in ailing.pods("chat")
                if any(item.get("reason") == "Unschedulable" for item in pod["status"].get("conditions", []))
            ]

        said = ailing.tells("unschedulable", unplaced, "Ready", "Unschedulable", "Insufficient cpu")
        assert any(pod in said for pod in unplaced())
        assert unplaced()[0] in ailing.explained()
        ailing.answers()
        ailing.edit({"components": {"chat": {"resources": None}}})
        ailing.recovers("unschedulable")

    def test_a_container_that_ends_again_and_again(self, ailing: Ailing) -> None:
        ailing.edit({"images": {"chat": unlike_its_own(ailing, "chat")}})

        def crashing() -> list[str]:
            return held_up(ailing, "CrashLoopBackOff")

        said = ailing.tells("crash loop", crashing, "Ready", "CrashLoop", "No module named")
        assert any(pod in said for pod in crashing())
        assert crashing()[0] in ailing.explained()
        ailing.answers()
        ailing.edit({"images": None})
        ailing.recovers("crash loop")

    def test_one_that_its_node_cannot_begin(self, ailing: Ailing) -> None:
        ailing.edit({"components": {"chat": {"resources": {"limits": {"memory": "1Mi"}}}}})

        def hindered() -> list[dict[str, Any]]:
            fields = "--field-selector=reason=FailedCreatePodSandBox"
            return ailing.cluster.items("-n", FAULTY, "events", fields)

        why = ("Ready", "ContainerConfigError", "sandbox")
        said = ailing.tells("less memory than a container takes", hindered, *why)
        assert any(event["involvedObject"]["name"] in said for event in hindered())
        assert "limits.memory" in ailing.explained()
        ailing.answers()
        ailing.edit({"components": {"chat": {"resources": None}}})
        ailing.recovers("less memory than a container takes")

    def test_an_image_that_is_nowhere_is_told_and_then_given_up(self, ailing: Ailing) -> None:
        served = ailing.conditions()["Available"]
        before = staying(ailing)
        ailing.edit({"images": {"chat": NOWHERE}})

        def unpulled() -> list[str]:
            return held_up(ailing, "ErrImagePull", "ImagePullBackOff")

        said = ailing.tells("image that is nowhere", unpulled, "Ready", "ImagePullFailed", NOWHERE)
        assert any(pod in said for pod in unpulled())
        assert NOWHERE in ailing.explained()
        ailing.answers()
        # It has made no progress for about as long already.
        ailing.edit({"rollout": {"deadline": "10s"}})
        ailing.tells("no progress", lambda: True, "Ready", "RolledBack", NOWHERE, f"kubectl chatbot retry {NAME}")
        wait_for("what ran before to run alone", lambda: staying(ailing) == before)
        ailing.answers()
        # Never away in between.
        assert ailing.conditions()["Available"]["lastTransitionTime"] == served["lastTransitionTime"]
        assert ailing.conditions()["Ready"]["reason"] == "RolledBack"
        ailing.edit({"images": None, "rollout": None})
        ailing.recovers("rolled back")


class TestMigration:
    def test_one_that_fails_leaves_the_old_version_serving(self, ailing: Ailing, cluster: Cluster) -> None:
        before = {pod["metadata"]["uid"] for pod in ailing.pods("auth")}
        ailing.edit({"images": {"auth": unlike_its_own(ailing, "auth")}})

        def attempt_failed() -> list[str]:
            ended = ((pod, state(pod).get("terminated", {})) for pod in ailing.pods("auth-db"))
            return [pod["metadata"]["labels"]["job-name"] for pod, how in ended if how.get("exitCode")]

        ailing.tells("failed attempt of a migration", attempt_failed, "MigrationsComplete", "CrashLoop", "Job ")
        job = attempt_failed()[0]
        assert job in ailing.conditions()["Ready"]["message"]
        ailing.answers()
        # Else it tries for ten minutes.
        cluster.kubectl("-n", FAULTY, "patch", "job", job, "-p", json.dumps({"spec": {"backoffLimit": 0}}))

        def given_up() -> bool:
            found = cluster.get("-n", FAULTY, "job", job)["status"].get("conditions", [])
            return any(item["type"] == "Failed" and item["status"] == "True" for item in found)

        ailing.tells("failed migration", given_up, "Ready", "MigrationFailed", job, "No module named")
        assert job in ailing.explained()
        ailing.answers()
        assert {pod["metadata"]["uid"] for pod in ailing.pods("auth")} == before
        ailing.edit({"images": None})
        ailing.recovers("failed migration")
        assert {pod["metadata"]["uid"] for pod in ailing.pods("auth")} == before


class TestSecret:
    """Leaves a provider behind that nobody answers for; the next one takes it back."""

    def test_that_is_not_there(self, ailing: Ailing) -> None:
        key = {"name": "provider", "key": "api-key"}
        llm = {
            "providers": [{"name": "openai", "type": "OpenAI", "apiKeySecretRef": key}],
            "models": [{"name": "main", "deployments": [{"provider": "openai", "model": "gpt"}]}],
            "default": "main",
        }
        ailing.edit({"llm": llm})
        words = ("Secret provider", "spec.llm.providers", "api-key")
        ailing.tells("missing Secret", lambda: True, "Ready", "SecretNotFound", *words)
        assert "Secret provider" in ailing.explained()

    def test_without_the_key_that_is_named(self, ailing: Ailing) -> None:
        ailing.apply("Secret", "provider", {"stringData": {"api_key": "sk-of-nobody"}})
        words = ("Secret provider", "spec.llm.providers", "api-key")
        ailing.tells("wrong key of a Secret", lambda: True, "Ready", "KeyNotFound", *words)
        assert "api-key" in ailing.explained()
        ailing.answers()
        ailing.apply("Secret", "provider", {"stringData": {"api-key": "sk-of-nobody"}})
        ailing.recovers("wrong key of a Secret")


class TestQuota:
    def test_that_is_used_up(self, ailing: Ailing, cluster: Cluster) -> None:
        # Less than there are: those stay, and no other is made.
        ailing.apply("ResourceQuota", "full", {"spec": {"hard": {"pods": "0"}}})
        wait_for("the quota to be counted", lambda: cluster.get("-n", FAULTY, "quota", "full")["status"].get("used"))
        ailing.edit({"llm": None})

        def refused() -> bool:
            found = cluster.get("-n", FAULTY, "deploy", f"{NAME}-chat")["status"].get("conditions", [])
            return any(item["type"] == "ReplicaFailure" for item in found)

        ailing.tells("quota exceeded", refused, "Ready", "PodsRefused", f"{NAME}-chat", "exceeded quota: full")
        assert "exceeded quota: full" in ailing.explained()
        assert ailing.conditions()["Available"]["status"] == "True"
        cluster.kubectl("-n", FAULTY, "delete", "quota", "full")
        ailing.recovers("quota exceeded")
        ailing.answers()
