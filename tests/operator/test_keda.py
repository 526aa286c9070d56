"""Who scales next, and that nobody jumps or fights meanwhile: on a real API server, with KEDA's definitions.

KEDA itself is played: it makes a HorizontalPodAutoscaler of each ScaledObject with its labels and annotations, and
holds the ScaledObject by a finalizer until it has stopped (controllers/keda in its sources, 2.18). The autoscaler that
it made sets the number of pods for a moment longer, as the real one does until the garbage collector comes to it.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from chatbot_operator import names
from chatbot_operator.apis import Apis
from chatbot_operator.components.metadata import manifest
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.referrers import Referrers
from chatbot_operator.world import Observed, Step
from chatbot_resource.model import ChatbotDeployment

from tests.operator import test_modes as modes
from tests.operator.running import BOT, LOOK_SECONDS, SECONDS, SETTINGS, Run, SmallPlan, World, deployment, step
from tests.operator.test_modes import replicas
from tests.support.apiserver import ApiServer, Object, again_and_again, playing_kubelet, wait_for
from tests.support.optional_apis import KEDA, install, remove
from tests.support.patience import within

CHAT = f"{BOT}-chat"
FINALIZER = "finalizer.keda.sh"
HELD = "example.com/scales-on"
WANTS = "example.com/wants"
"""Annotation on the autoscaler that the played KEDA made: the number of pods."""
READY = [{"type": "Ready", "status": "True", "reason": "ScaledObjectReady", "message": "ready for scaling"}]
PROMETHEUS = {"prometheusURL": "http://prometheus:9090"}
APIS = frozenset({"ScaledObject"})
METRICS = "v1beta1.custom.metrics.k8s.io"


@pytest.fixture(scope="module")
def api_server(own_api_server: ApiServer) -> ApiServer:
    return own_api_server


@pytest.fixture
def installed(world: World) -> Iterator[World]:
    install(world.api, KEDA)
    with playing_keda(world.api, world.namespace):
        yield world
        remove(world.api, KEDA)


@contextlib.contextmanager
def playing_keda(server: ApiServer, namespace: str) -> Iterator[None]:
    def play() -> None:
        with contextlib.suppress(httpx2.HTTPStatusError):  # changed or gone meanwhile
            for scaled in server.list("ScaledObject", namespace):
                _keda(server, namespace, scaled)

    with again_and_again(play):
        yield


def _keda(server: ApiServer, namespace: str, scaled: Object) -> None:
    metadata, name = scaled["metadata"], scaled["metadata"]["name"]
    if metadata.get("deletionTimestamp"):
        if not _scales_on(server, namespace, f"keda-hpa-{name}", metadata["deletionTimestamp"]):
            others = [item for item in metadata.get("finalizers") or [] if item != FINALIZER]
            server.patch("ScaledObject", namespace, name, {"metadata": {"finalizers": others}}, "keda")
    elif FINALIZER not in (metadata.get("finalizers") or []):
        marks = {"finalizers": [FINALIZER], "labels": {"scaledobject.keda.sh/name": name}}
        server.patch("ScaledObject", namespace, name, {"metadata": marks}, "keda")
    elif server.get("HorizontalPodAutoscaler", namespace, f"keda-hpa-{name}") is None:
        server.create(_hpa(scaled), namespace)
        server.patch_status("ScaledObject", namespace, name, {"conditions": READY, "hpaName": f"keda-hpa-{name}"})


def _scales_on(server: ApiServer, namespace: str, name: str, since: str) -> bool:
    """Whether an autoscaler that is to go still sets the number that it was last seen to want."""
    live = server.get("HorizontalPodAutoscaler", namespace, name)
    if live is None:
        return False
    if datetime.now(UTC) - datetime.fromisoformat(since) > timedelta(seconds=2):
        server.patch("HorizontalPodAutoscaler", namespace, name, {"metadata": {"finalizers": []}})
        return False
    where, wanted = live["spec"]["scaleTargetRef"]["name"], live["metadata"]["annotations"].get(WANTS)
    found = server.get("Deployment", namespace, where)
    if wanted and found and found["spec"]["replicas"] != int(wanted):
        server.patch("Deployment", namespace, where, {"spec": {"replicas": int(wanted)}}, "kube-controller-manager")
    return True


def _hpa(scaled: Object) -> Object:
    metadata, spec = scaled["metadata"], scaled["spec"]
    excluded = metadata["annotations"]["scaledobject.keda.sh/hpa-excluded-labels"].split(",")
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": metadata["name"], "uid": metadata["uid"]}
    labels = {key: value for key, value in metadata["labels"].items() if key not in excluded}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": f"keda-hpa-{metadata['name']}",
            "labels": {"app.kubernetes.io/managed-by": "keda-operator"} | labels,
            "annotations": metadata["annotations"],
            "finalizers": [HELD],
            "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}],
        },
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec["scaleTargetRef"]["name"]},
            "minReplicas": max(1, spec["minReplicaCount"]),
            "maxReplicas": spec["maxReplicaCount"],
            "metrics": [{"type": "Resource", "resource": cpu}],
        },
    }


def scale(world: World, count: int) -> None:
    """As an autoscaler does it: KEDA's, where that is there."""
    modes.scale(world, count)
    with contextlib.suppress(httpx2.HTTPStatusError):  # it is not
        wanted = {"metadata": {"annotations": {WANTS: str(count)}}}
        world.api.patch("HorizontalPodAutoscaler", world.namespace, f"keda-hpa-{CHAT}", wanted, "keda")


def chat(mode: str | None, **scaling: Any) -> Object:
    """What is not said is taken back."""
    given = dict.fromkeys(("replicas", "minReplicas", "maxReplicas", "targets"))
    return {"chat": {"scaling": given | {"mode": mode} | scaling}}


def autoscalers(world: World) -> set[str]:
    kinds = ("HorizontalPodAutoscaler", "ScaledObject")
    return {f"{kind} {item['metadata']['name']}" for kind in kinds for item in world.api.list(kind, world.namespace)}


async def has(run: Run, world: World, *wanted: str) -> None:
    """Until these autoscalers are there, and no others."""
    async with within(SECONDS):
        while autoscalers(world) != set(wanted):
            await run.reconcile(world.key)
            await asyncio.sleep(LOOK_SECONDS)


BY_CLUSTER = f"HorizontalPodAutoscaler {CHAT}"
BY_KEDA = (f"ScaledObject {CHAT}", f"HorizontalPodAutoscaler keda-hpa-{CHAT}")


@pytest.mark.timeout(300)
async def test_each_owner_takes_over_the_number_there_is(installed: World) -> None:
    world = installed
    world.create_bot({"profile": "Dev", "telemetry": PROMETHEUS, "components": chat("HPA")})
    apis = Apis(world.cluster)
    assert "ScaledObject" in await apis.detect()
    run = Run(world, lambda: apis.kinds)
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "True")
        scale(world, 3)

        run.edit(components=chat("KEDA", minReplicas=0, maxReplicas=5, targets={"inFlightStreams": 9}))
        await has(run, world, *BY_KEDA)
        await run.until("Ready", "True")
        assert replicas(world) == 3
        made = world.existing("HorizontalPodAutoscaler", f"keda-hpa-{CHAT}")
        assert made["metadata"]["labels"][names.MANAGED_BY] == "keda-operator"
        before = world.writes()
        await run.reconcile(world.key)
        await Run(world, lambda: apis.kinds).reconcile(world.key)
        assert world.writes() == before

        scale(world, 0)  # as KEDA does it when nobody asks
        assert (await run.until("Ready", "False", "ScaledToZero")).phase == "Idle"
        assert replicas(world) == 0
        scale(world, 2)
        await run.until("Ready", "True")

        run.edit(components=chat("External"))
        await has(run, world)
        await run.until("Ready", "True")
        assert replicas(world) == 2

        run.edit(components=chat("Fixed", replicas=1))
        await run.until("Ready", "True")
        assert replicas(world) == 1

        run.edit(components=chat("KEDA"))
        await has(run, world, *BY_KEDA)
        await run.until("Ready", "True")
        assert replicas(world) == 1
        scale(world, 3)

        run.edit(components=chat("HPA"))
        await has(run, world, BY_CLUSTER)
        await run.until("Ready", "True")
        assert replicas(world) == 3

        run.edit(components=chat("KEDA"))
        await has(run, world, *BY_KEDA)
        scale(world, 3)
        run.edit(components=chat("Fixed", replicas=1))
        await run.until("Ready", "True")
        assert replicas(world) == 1
    assert world.metrics.conflicts._value.get() == 0, "nothing had to be taken back"


@pytest.mark.timeout(300)
async def test_hibernates_and_wakes(installed: World) -> None:
    world = installed
    scaling = chat("KEDA", minReplicas=0, maxReplicas=5, targets={"inFlightStreams": 9})
    world.create_bot({"profile": "Dev", "telemetry": PROMETHEUS, "components": scaling})
    run = Run(world, lambda: APIS)
    with playing_kubelet(world.api, world.namespace):
        await has(run, world, *BY_KEDA)
        await run.until("Ready", "True")
        for count, woken in ((2, 2), (0, 0)):
            scale(world, count)
            run.edit(mode="Hibernated")
            await run.until("Ready", "False", "Hibernated")
            await has(run, world)
            assert replicas(world) == 0
            run.edit(mode="Active")
            await has(run, world, *BY_KEDA)
            await run.until("Ready", *(("True", None) if woken else ("False", "ScaledToZero")))
            assert replicas(world) == woken
    assert world.metrics.conflicts._value.get() == 0


async def test_keda_is_asked_about_what_it_can_have_seen(installed: World) -> None:
    """Its webhook refuses a ScaledObject whose Deployment it does not know, or knows to be another autoscaler's."""
    world = installed

    def plan(scaled: bool) -> SmallPlan:
        def build(bot: ChatbotDeployment, _: Observed) -> list[Step]:
            kind = "ScaledObject" if scaled else "HorizontalPodAutoscaler"
            body = {"scaleTargetRef": {"name": CHAT}, "minReplicaCount": 1, "maxReplicaCount": 2, "triggers": []}
            target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": CHAT}
            body = body if scaled else {"scaleTargetRef": target, "maxReplicas": 2}
            note = {"scaledobject.keda.sh/hpa-excluded-labels": names.MANAGED_BY}
            scaler = manifest(bot, "chat", kind, CHAT, {"spec": body}, annotations=note)
            return [step("chat", deployment(bot, replicas=None), scaler)]

        return SmallPlan(build)

    def reconciler(scaled: bool) -> Reconciler:
        rules = plan(scaled).rules()
        return Reconciler(world.cluster, SETTINGS, world.metrics, Referrers(), rules, apis=lambda: APIS)

    world.create_bot()
    await reconciler(scaled=True)(world.key)
    assert world.existing("Deployment", CHAT)
    assert autoscalers(world) == set()
    await reconciler(scaled=False)(world.key)
    assert autoscalers(world) == {BY_CLUSTER}
    async with within(SECONDS):
        while BY_CLUSTER in autoscalers(world):  # its controller may have written since we looked
            assert f"ScaledObject {CHAT}" not in autoscalers(world)
            await reconciler(scaled=True)(world.key)
        while f"ScaledObject {CHAT}" not in autoscalers(world):
            await reconciler(scaled=True)(world.key)


async def test_without_keda_the_number_stays(world: World) -> None:
    scaling = chat("KEDA", minReplicas=0, maxReplicas=5, targets={"inFlightStreams": 9})
    world.create_bot({"profile": "Dev", "telemetry": PROMETHEUS, "components": chat("HPA")})
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "True")
        scale(world, 3)
        run.edit(components=scaling)
        told = await run.until("AutoscalingReady", "False", "ApiNotInstalled")
        await run.until("Ready", "True")
        assert replicas(world) == 3
        assert world.api.list("HorizontalPodAutoscaler", world.namespace) == []
        message = next(item.message for item in told.conditions if item.type == "DependenciesDetected")
        assert "no ScaledObject (keda.sh), which spec.components.chat.scaling.mode asks for: install KEDA" in message
        await run.rests()
        # What KEDA left behind when it went.
        scale(world, 0)
        await run.until("Ready", "True")
        assert replicas(world) == 1


async def test_streams_of_pods_count_where_custom_metrics_are_served(world: World) -> None:
    service = {"name": "adapter", "namespace": "default"}
    spec = {"group": "custom.metrics.k8s.io", "version": "v1beta1", "service": service, "insecureSkipTLSVerify": True}
    adapter = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": METRICS},
        "spec": spec | {"groupPriorityMinimum": 100, "versionPriority": 100},
    }
    where = "/apis/apiregistration.k8s.io/v1/apiservices"
    world.create_bot({"profile": "Dev", "components": chat("HPA", targets={"inFlightStreams": 9})})
    apis = Apis(world.cluster)
    assert await apis.detect() == frozenset()
    run = Run(world, lambda: apis.kinds)
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "True")
        await run.until("AutoscalingReady", "False", "CustomMetricsUnavailable")
        assert kinds_of_metrics(world) == ["Resource"]
        world.api.request("POST", where, adapter)
        try:
            wait_for("custom metrics", lambda: world.api.client.get("/apis/custom.metrics.k8s.io").is_success)
            assert await apis.detect() == {"custom.metrics.k8s.io"}
            await run.until("DependenciesDetected", "True", "ApisInstalled")
            assert kinds_of_metrics(world) == ["Resource", "Pods"]
        finally:
            world.api.request("DELETE", f"{where}/{METRICS}")


def kinds_of_metrics(world: World) -> list[str]:
    return [item["type"] for item in world.existing("HorizontalPodAutoscaler", CHAT)["spec"]["metrics"]]
