"""What of a step is applied, and when it is looked at again, on an API server that refuses some of it."""

import copy
from collections.abc import Collection
from typing import Any, cast

import pytest
from chatbot_operator import handover, names
from chatbot_operator.applying import Applier
from chatbot_operator.cluster import Cluster
from chatbot_operator.components.metadata import component_of, manifest
from chatbot_operator.faults import Refused
from chatbot_operator.metrics import Metrics
from chatbot_operator.pauses import after
from chatbot_operator.progress import Progress
from chatbot_operator.pruning import prune
from chatbot_operator.reasons import Reason
from chatbot_operator.steps import RUN_PODS, apply_steps
from chatbot_operator.world import Manifest, Observed, Step

from tests.operator.simulated import UID, make_bot
from tests.operator.simulated import Cluster as Simulated
from tests.operator.specs import PRODUCTION

RESYNC = 600.0
CHAT = "demo-chat"


class Refusing:
    """It takes everything but some kinds."""

    def __init__(self, *kinds: str) -> None:
        self._kinds = kinds
        self.applied: list[Manifest] = []

    async def apply(self, body: Manifest, manager: str = names.FIELD_MANAGER) -> Manifest:
        self._ask(body)
        self.applied.append(body)
        return copy.deepcopy(body) | {"metadata": body["metadata"] | {"uid": "1", "resourceVersion": "1"}}

    async def patch(self, kind: str, namespace: str, name: str, body: Manifest) -> Manifest:
        found: Manifest = {"kind": kind} | copy.deepcopy(body)
        self._ask(found)
        return found

    async def delete(self, live: Manifest, _: str) -> Manifest | None:
        self._ask(live)
        return None

    def _ask(self, body: Manifest) -> None:
        if body["kind"] in self._kinds:
            raise Refused("the webhook is down")


def deployment(replicas: int | None = None, managers: Collection[str] = ()) -> Manifest:
    spec = {"replicas": replicas} if replicas is not None else {}
    made = manifest(make_bot(), "chat", "Deployment", CHAT, {"spec": spec})
    owns = {"f:spec": {"f:replicas": {}}}
    managed = [{"manager": name, "operation": "Update", "fieldsV1": owns} for name in managers]
    return made | {"metadata": made["metadata"] | {"uid": "1", "resourceVersion": "1", "managedFields": managed}}


def scaler(kind: str, name: str, **metadata: Any) -> Manifest:
    made = manifest(make_bot(), "chat", kind, name, {"spec": {"scaleTargetRef": {"name": CHAT}}})
    return made | {"metadata": made["metadata"] | metadata}


class TestHandover:
    """From an autoscaler that goes to a number of our own."""

    WANTED = Step("chat", (deployment(1),))

    def applier(self, *refused: str) -> tuple[Refusing, Applier]:
        server = Refusing(*refused)
        return server, Applier(cast("Cluster", server), Metrics("0"), UID)

    @pytest.mark.parametrize(
        "left",
        [
            scaler("HorizontalPodAutoscaler", f"keda-hpa-{CHAT}"),
            scaler("HorizontalPodAutoscaler", CHAT, deletionTimestamp="2026-11-21T06:00:00Z"),
            scaler("ScaledObject", CHAT, deletionTimestamp="2026-11-21T06:00:00Z"),
        ],
        ids=["KEDA's", "ours", "KEDA"],
    )
    async def test_waits_until_it_is_gone(self, left: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
        server, applier = self.applier()
        live = deployment(3, ["kube-controller-manager"])
        observed, done = Observed((live, left)), Progress(("team", "demo"))
        [step] = await apply_steps(done, applier, [self.WANTED], observed, observed)
        assert step.blocked
        assert (step.blocked.reason, server.applied) == (Reason.STOPPING, [])
        assert f"Waits for {left['kind']} {left['metadata']['name']}" in step.blocked.message
        assert after(done, observed, RESYNC) <= 1
        monkeypatch.setattr(handover, "STOPPED_SECONDS", 0)
        await apply_steps(done, applier, [self.WANTED], observed, observed)
        assert [item["spec"] for item in server.applied] == [{"replicas": 1}], "bounded"

    async def test_waits_for_nothing_else(self) -> None:
        server, applier = self.applier()
        other = scaler("HorizontalPodAutoscaler", "demo-gateway")
        other["spec"]["scaleTargetRef"]["name"] = "demo-gateway"
        observed = Observed((deployment(3, ["somebody"]), other))
        await apply_steps(Progress(("team", "demo")), applier, [self.WANTED], observed, observed)
        assert len(server.applied) == 1

    async def test_names_the_one_that_cannot_be_deleted_and_does_not_hurry(self) -> None:
        server, applier = self.applier("HorizontalPodAutoscaler")
        kept = scaler("HorizontalPodAutoscaler", CHAT)
        observed, done = Observed((deployment(3, ["somebody"]), kept)), Progress(("team", "demo"))
        await prune(cast("Cluster", server), done, [kept])
        [step] = await apply_steps(done, applier, [self.WANTED], observed, observed)
        assert step.blocked
        assert (step.blocked.reason, server.applied) == (Reason.APPLY_REFUSED, [])
        assert f"HorizontalPodAutoscaler {CHAT}: the webhook is down" in step.blocked.message
        assert after(done, observed, RESYNC) >= 20


@pytest.mark.parametrize("old", [False, True])
async def test_what_is_for_keda_does_not_hurry_where_it_was_refused(old: bool) -> None:
    """Its Deployment is refused, or the autoscaler before it cannot be deleted."""
    server = Refusing("Deployment", "HorizontalPodAutoscaler")
    step = Step("chat", (deployment(), scaler("ScaledObject", CHAT)))
    live = scaler("HorizontalPodAutoscaler", CHAT)
    observed, done = Observed((deployment(), live) if old else ()), Progress(("team", "demo"))
    await prune(cast("Cluster", server), done, [live] if old else [])
    await apply_steps(done, Applier(cast("Cluster", server), Metrics("0"), UID), [step], observed, observed)
    assert after(done, observed, RESYNC) >= 20


class TestNothing:
    """Of a component with an autoscaler, which leaves alone what was scaled to nothing."""

    async def scaled(self, times: int, managers: Collection[str], asked: bool = False) -> tuple[Progress, Step]:
        """It was scaled so that often, each time since it was woken."""
        applier, done = Applier(cast("Cluster", Refusing()), Metrics("0"), UID), Progress(("team", "demo"))
        wanted = Step("chat", (deployment(),))
        for _ in range(times):
            live = deployment(managers=managers)
            live["spec"] = {"replicas": 0}
            if asked:
                live["metadata"]["annotations"] = {}
            [step] = await apply_steps(done, applier, [wanted], Observed((live,)), Observed((live,)))
        return done, step

    async def test_is_taken_back_and_told(self) -> None:
        done, step = await self.scaled(1, ["kube-downscaler", names.SCALE_MANAGER])
        assert step.blocked is None
        assert str(done.taken[0]).startswith(f"spec.replicas of Deployment {CHAT}, written by kube-downscaler")

    async def test_is_not_fought_over_for_ever(self) -> None:
        done, step = await self.scaled(4, ["kube-downscaler"])
        assert len(done.taken) == 3
        assert step.blocked
        assert step.blocked.reason == Reason.FIELD_CONFLICT
        assert (
            "is changed by kube-downscaler. Leave the number to it with scaling.mode External." in step.blocked.message
        )

    async def test_is_no_fight_after_an_edit(self) -> None:
        """Such as from KEDA, which may have none, to an autoscaler that never does."""
        done, step = await self.scaled(4, ["keda-operator"], asked=True)
        assert (done.taken, done.writes, step.blocked) == ([], 4, None)


class TestNetworkPolicies:
    @pytest.mark.parametrize("runs", [False, True])
    async def test_no_pods_are_made_without_theirs_and_what_runs_goes_on(self, runs: bool) -> None:
        cluster = Simulated(make_bot(PRODUCTION)).converge()
        [chat] = [step for step in cluster.plan() if step.name == "chat"]
        gone = {"NetworkPolicy"} if runs else {"NetworkPolicy", "Deployment"}
        kept = (item for item in cluster.children.values() if item["kind"] not in gone)
        observed = Observed(tuple(item | {"metadata": item["metadata"] | {"annotations": {}}} for item in kept))
        server = Refusing("NetworkPolicy")
        applier = Applier(cast("Cluster", server), Metrics("0"), UID)
        [step] = await apply_steps(Progress(("team", "demo")), applier, [chat], observed, observed)
        assert step.blocked
        assert step.blocked.reason == Reason.APPLY_REFUSED
        assert ("Deployment" in {item["kind"] for item in server.applied}) == runs

    def test_come_before_what_runs_their_pods(self) -> None:
        for step in Simulated(make_bot(PRODUCTION)).converge().plan():
            guarded: set[str] = set()
            for item in step.manifests:
                guarded |= {component_of(item)} if item["kind"] == "NetworkPolicy" else set()
                assert item["kind"] not in RUN_PODS or component_of(item) in guarded
