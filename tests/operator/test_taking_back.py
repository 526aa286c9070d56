"""Edits that an apply alone does not undo: lists whose elements go by a key, and fields of which one may be there."""

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from chatbot_operator import names, pauses
from chatbot_operator.components.metadata import manifest
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.world import Manifest
from chatbot_resource.model import ChatbotDeployment

from tests.operator.running import SmallPlan, World, step
from tests.support.apiserver import Object, path, wait_for

NAME = "harbour-chat"
LABELS = {names.NAME: "chatbot", names.COMPONENT: "chat"}
Edit = Callable[[Object], Any]


def service(bot: ChatbotDeployment) -> Manifest:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return manifest(bot, "chat", "Service", NAME, {"spec": {"selector": LABELS, "ports": ports}})


def budget(bot: ChatbotDeployment) -> Manifest:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}}
    return manifest(bot, "chat", "PodDisruptionBudget", NAME, {"spec": spec})


def deployment(bot: ChatbotDeployment) -> Manifest:
    probe = {"httpGet": {"path": "/livez", "port": "private"}}
    container = {
        "name": "chat",
        "image": "chat:1",
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "private", "containerPort": 9090}],
        "env": [{"name": "LEVEL", "value": "info"}],
        "livenessProbe": probe,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - of a container
    }
    pod = {"containers": [container], "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]}
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    spec = {"selector": {"matchLabels": LABELS}, "strategy": {"type": "Recreate"}, "template": template}
    return manifest(bot, "chat", "Deployment", NAME, {"spec": spec})


PLAN = SmallPlan(lambda bot, _: [step("chat", service(bot), budget(bot), deployment(bot))])


def pod(live: Object) -> Object:
    found: Object = live["spec"]["template"]["spec"]
    return found


def container(live: Object) -> Object:
    found: Object = pod(live)["containers"][0]
    return found


def probe_without_http(live: Object) -> None:
    del container(live)["livenessProbe"]["httpGet"]
    container(live)["livenessProbe"]["tcpSocket"] = {"port": 9090}


def volume_of_the_node(live: Object) -> None:
    del pod(live)["volumes"][0]["emptyDir"]
    pod(live)["volumes"][0]["hostPath"] = {"path": "/"}


def variable_from_elsewhere(live: Object) -> None:
    del container(live)["env"][0]["value"]
    container(live)["env"][0]["valueFrom"] = {"fieldRef": {"fieldPath": "spec.nodeName"}}


def pods_that_stay(live: Object) -> None:
    del live["spec"]["maxUnavailable"]
    live["spec"]["minAvailable"] = 1


def two_edits(live: Object) -> None:
    probe_without_http(live)
    volume_of_the_node(live)


def with_more(live: Object) -> None:
    container(live)["args"] = ["--more"]
    pod(live)["containers"].append({"name": "proxy", "image": "mesh:1"})


@dataclass(frozen=True)
class Case:
    kind: str
    edit: Edit
    field: str
    """What the Event names."""


CASES = {
    "port of a Service": Case("Service", lambda live: live["spec"]["ports"][0].update(port=81), "spec.ports"),
    "port of a Service under another name": Case(
        "Service", lambda live: live["spec"]["ports"][0].update(port=81, name="web"), "spec.ports"
    ),
    "other way to say it": Case("PodDisruptionBudget", pods_that_stay, "spec.maxUnavailable"),
    "other probe": Case("Deployment", probe_without_http, "livenessProbe.httpGet"),
    "other volume": Case("Deployment", volume_of_the_node, "volumes[name=tmp].emptyDir"),
    "port of a container": Case(
        "Deployment", lambda live: container(live)["ports"][1].update(containerPort=9191), "ports[name=private]"
    ),
    "value from elsewhere": Case("Deployment", variable_from_elsewhere, "env[name=LEVEL].value"),
    "name of a container": Case(
        "Deployment", lambda live: container(live).update(name="talk"), "containers[name=chat]"
    ),
    "where a volume is mounted": Case(
        "Deployment", lambda live: container(live)["volumeMounts"][0].update(mountPath="/etc"), "mountPath=/tmp"
    ),
    "strategy": Case(
        "Deployment",
        lambda live: live["spec"].update(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}),
        "spec.strategy.type",
    ),
    "several at once": Case("Deployment", two_edits, "volumes[name=tmp].emptyDir"),
}


def replace(world: World, kind: str, edit: Edit, manager: str = "kubectl-edit") -> Object:
    """As `kubectl edit` and `kubectl replace` do it."""

    def put() -> Object | None:
        live = world.existing(kind, NAME)
        edit(live)
        with contextlib.suppress(httpx2.HTTPStatusError):  # its own controller was faster
            return world.api.request("PUT", f"{path(kind, world.namespace, NAME)}?fieldManager={manager}", live)
        return None

    return wait_for(f"the {kind} to be edited", put)


def said(live: Object) -> Object:
    """All that somebody may have written, without the operator's own notes."""
    spec: Object = copy.deepcopy(live["spec"])
    return spec


async def rests(world: World, reconciler: Reconciler) -> None:
    """Until nobody was faster: a Deployment's own controller writes what it observed."""
    while (await reconciler(world.key) or 0) < pauses.MISSING_SECONDS / 2:
        pass


class TestEdits:
    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    async def test_is_as_before_and_who_did_it_is_named(self, world: World, case: Case) -> None:
        world.create_bot()
        reconciler = world.reconciler(PLAN)
        await reconciler(world.key)
        before = said(world.existing(case.kind, NAME))
        assert said(replace(world, case.kind, case.edit)) != before
        await rests(world, reconciler)
        assert said(world.existing(case.kind, NAME)) == before
        [told] = [message for reason, message in world.events() if reason == "FieldTakenBack"]
        assert case.field in told
        assert "kubectl-edit" in told
        assert world.bot()["status"]["conditions"][0]["status"] == "True"

    async def test_then_nothing_is_written_also_after_a_restart(self, world: World) -> None:
        world.create_bot()
        reconciler = world.reconciler(PLAN)
        await reconciler(world.key)
        for case in CASES.values():
            replace(world, case.kind, case.edit)
            await rests(world, world.reconciler(PLAN))
        before = world.writes()
        await reconciler(world.key)
        await world.reconciler(PLAN)(world.key)
        assert world.writes() == before

    async def test_what_others_have_beside_it_stays(self, world: World) -> None:
        """The number of pods is an autoscaler's, and a container more is somebody's who wants it."""
        world.create_bot()
        reconciler = world.reconciler(PLAN)
        await reconciler(world.key)
        world.api.kubectl("-n", world.namespace, "scale", f"deployment/{NAME}", "--replicas=3")
        replace(world, "Deployment", with_more, "mesh")
        replace(world, "Deployment", two_edits)
        await rests(world, reconciler)
        live = world.existing("Deployment", NAME)
        assert live["spec"]["replicas"] == 3
        assert [item["name"] for item in pod(live)["containers"]] == ["chat", "proxy"]
        assert container(live)["args"] == ["--more"]
        assert container(live)["livenessProbe"]["httpGet"]
        assert "hostPath" not in pod(live)["volumes"][0]

    async def test_a_controller_that_writes_meanwhile_holds_nothing_up(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.create_bot()
        reconciler = world.reconciler(PLAN)
        await rests(world, reconciler)
        replace(world, "PodDisruptionBudget", pods_that_stay)
        patch, left = world.cluster.patch, ["one"]

        async def later(*arguments: Any) -> Object:
            while left:
                world.api.patch_status("PodDisruptionBudget", world.namespace, NAME, {"expectedPods": len(left.pop())})
            return await patch(*arguments)

        monkeypatch.setattr(world.cluster, "patch", later)
        again = await reconciler(world.key)
        assert not left
        assert again != pauses.CONFLICT_SECONDS
        spec = world.existing("PodDisruptionBudget", NAME)["spec"]
        assert (spec.get("minAvailable"), spec.get("maxUnavailable")) == (None, 1)
        assert len([reason for reason, _ in world.events() if reason == "FieldTakenBack"]) == 1

    async def test_after_three_times_it_is_left_alone(self, world: World) -> None:
        world.create_bot()
        reconciler = world.reconciler(PLAN)
        await reconciler(world.key)
        for _ in range(4):
            replace(world, "PodDisruptionBudget", pods_that_stay)
            await rests(world, reconciler)
        assert world.existing("PodDisruptionBudget", NAME)["spec"]["minAvailable"] == 1
        ready = world.bot()["status"]["conditions"][0]
        assert ready["reason"] == "FieldConflict"
        assert "kubectl-edit" in ready["message"]
