"""`kubectl chatbot restart`, with the controllers of a real control plane; pods are played."""

import pytest
from chatbot_cli.cluster import restart
from chatbot_operator.reconcile import Reconciler

from tests.cli.cluster.conftest import Installed, Plugin, converge
from tests.operator.running import World
from tests.support.apiserver import Object

RESTARTED = "kubectl.kubernetes.io/restartedAt"


def template(world: World, part: str) -> Object:
    found: Object = world.existing("Deployment", f"harbour-{part}")["spec"]["template"]
    return found


def pods(world: World, part: str) -> set[str]:
    found = world.api.list("Pod", world.namespace, f"app.kubernetes.io/component={part}")
    return {item["metadata"]["name"] for item in found if not item["metadata"].get("deletionTimestamp")}


def deployment(container: Object) -> Object:
    """Of chat, which the operator makes only after what it waits for."""
    labels = {"app.kubernetes.io/component": "chat", "chatbot-operator.io/bot": "harbour"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "harbour-chat", "labels": labels}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


class TestRestart:
    @pytest.mark.usefixtures("kubelet")
    async def test_replaces_the_pods_of_a_component_and_waits(
        self, plugin: Plugin, world: World, reconciler: Reconciler, operator: Installed
    ) -> None:
        world.create_bot()
        await converge(world, reconciler)
        operator.renew()
        before = {part: pods(world, part) for part in ("chat", "conversation-worker", "auth")}
        said = plugin("restart", "harbour", "chat", "worker")
        assert said.code == 0, said
        assert [line.split()[:2] for line in said.out.splitlines()] == [["✓", "chat"], ["✓", "conversation-worker"]]
        assert "its pod is new and ready" in said.out
        for part in ("chat", "conversation-worker"):
            assert not pods(world, part) & before[part]
        assert pods(world, "auth") == before["auth"]

    @pytest.mark.usefixtures("kubelet")
    async def test_is_left_alone_by_the_operator(self, plugin: Plugin, world: World, reconciler: Reconciler) -> None:
        world.create_bot()
        await converge(world, reconciler)
        plugin("restart", "harbour", "auth")
        when = template(world, "auth")["metadata"]["annotations"][RESTARTED]
        before = world.writes()
        await converge(world, reconciler)
        assert template(world, "auth")["metadata"]["annotations"][RESTARTED] == when
        assert world.writes() - before <= 1  # the status, at most
        world.api.patch("ChatbotDeployment", world.namespace, "harbour", {"spec": {"images": {"auth": "auth:2"}}})
        await converge(world, reconciler)
        assert template(world, "auth")["metadata"]["annotations"][RESTARTED] == when

    async def test_says_what_keeps_new_pods_from_starting(
        self, plugin: Plugin, world: World, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(restart, "STUCK_SECONDS", 1)
        world.create_bot()
        await reconciler(world.key)
        world.api.create(deployment({"name": "chat", "image": "chat:1"}), world.namespace)
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
        quota |= {"spec": {"hard": {"pods": "0"}}}
        world.api.request("POST", f"/api/v1/namespaces/{world.namespace}/resourcequotas", quota)
        said = plugin("restart", "harbour", "chat")
        assert said.code == 1, said
        assert "The new pods do not start; the earlier ones go on serving." in said.err
        assert "PodsRefused: Deployment harbour-chat cannot make pods" in said.err
        assert "exceeded quota" in said.err
        assert "kubectl rollout undo deployment/harbour-chat" in said.err

    @pytest.mark.usefixtures("kubelet")
    async def test_need_not_be_waited_for(self, plugin: Plugin, world: World, reconciler: Reconciler) -> None:
        world.create_bot()
        await converge(world, reconciler)
        said = plugin("restart", "harbour", "all", "--no-wait")
        assert said.code == 0, said
        assert "gateway, auth, chat, conversation, conversation-worker; follow it: kubectl chatbot status" in said.out
        assert RESTARTED in template(world, "gateway")["metadata"]["annotations"]

    async def test_gives_up_waiting_after_a_while(self, plugin: Plugin, world: World, reconciler: Reconciler) -> None:
        """Nobody starts pods here, and nothing says why."""
        world.create_bot()
        await reconciler(world.key)
        world.api.create(deployment({"name": "chat", "image": "chat:1"}), world.namespace)
        said = plugin("restart", "harbour", "chat", "--timeout", "1")
        assert said.code == 1
        assert "harbour-chat is not done after 1 s; it goes on by itself." in said.err
        assert "of 1 pods are new" in said.err


class TestWrong:
    def test_a_store(self, plugin: Plugin) -> None:
        said = plugin("restart", "harbour", "postgres")
        assert said.code == 2
        assert "kubectl rollout restart statefulset/harbour-postgres" in said.err

    def test_no_such_component(self, plugin: Plugin) -> None:
        said = plugin("restart", "harbour", "kitchen")
        assert said.code == 2
        assert "There are: gateway, auth, chat, conversation, conversation-worker; or all." in said.err
