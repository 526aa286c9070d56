"""Every kind of child, by a real operator on a real API server: deleted or edited by hand, it is as before in seconds.

Two chatbots have all kinds between them. CloudNativePG and pods are played; nobody plays the others' controllers.
"""

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx2
import pytest
from chatbot_operator import kinds, names
from chatbot_operator.components.metadata import CLOUD_NATIVE_PG

from tests.operator.processes import operator, patient
from tests.operator.simulated import cluster_status
from tests.support.apiserver import ApiServer, Object, again_and_again, path, playing_kubelet, wait_for
from tests.support.optional_apis import CLOUD_NATIVE_PG as CLOUD_NATIVE_PG_API
from tests.support.optional_apis import GATEWAY, KEDA, MONITORING, install

pytestmark = pytest.mark.timeout(180)

SECONDS = 5.0
HOST = "chat.example.com"
BOTS: dict[str, Object] = {
    "harbour": {"profile": "Dev", "exposure": {"type": "Ingress", "hostnames": [HOST]}},
    "quay": {
        "profile": "Dev",
        "stores": {"postgres": {"mode": "CloudNativePG"}, "vectors": {"type": "PGVector"}},
        "exposure": {"type": "HTTPRoute", "hostnames": [f"quay.{HOST}"], "parentRefs": [{"name": "web"}]},
        "components": {"auth": {"scaling": {"mode": "KEDA", "minReplicas": 1}}},
    },
}
Edit = Callable[[Object], object]


@dataclass(frozen=True)
class Row:
    """A child, by how its name begins, and what somebody does to it."""

    kind: str
    name: str
    plain: Edit
    """Of a field."""
    harmful: Edit | None = None
    """Of what an apply alone would add ours to, or which it would be refused for."""

    @property
    def bot(self) -> str:
        return self.name.partition("-")[0]


def relabel(live: Object) -> None:
    live["metadata"]["labels"][names.COMPONENT] = "x"


def pod(live: Object) -> Object:
    found: Object = live["spec"]["template"]["spec"]
    return found


def replace_image(live: Object) -> None:
    pod(live)["containers"][0]["image"] = "evil:1"


def probe_otherwise(live: Object) -> None:
    pod(live)["containers"][0]["livenessProbe"] = {"tcpSocket": {"port": 9}}


def listen_elsewhere(live: Object) -> None:
    pod(live)["containers"][0]["ports"][0]["containerPort"] = 9191


def stay(live: Object) -> None:
    del live["spec"]["maxUnavailable"]
    live["spec"]["minAvailable"] = 1


def seal(live: Object) -> None:
    live["immutable"] = True
    live["data"] = {"mine.json": "{}", **dict.fromkeys(live["data"], "{}")}


def to_number(live: Object) -> None:
    live["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] = {"number": 80}


ROWS = (
    Row("ConfigMap", "harbour-auth-", relabel),
    Row("ConfigMap", "harbour-dashboard", lambda live: live.update(data=dict.fromkeys(live["data"], "{}")), seal),
    Row("Service", "harbour-auth", lambda live: live["spec"]["selector"].update({names.COMPONENT: "x"}),
        lambda live: live["spec"]["ports"][0].update(port=81)),
    Row("ServiceAccount", "harbour-auth", lambda live: live.update(automountServiceAccountToken=True)),
    Row("HorizontalPodAutoscaler", "harbour-chat", lambda live: live["spec"].update(maxReplicas=77),
        lambda live: live["spec"]["metrics"][0]["resource"].update(
            target={"type": "AverageValue", "averageValue": "1"})),
    Row("PodDisruptionBudget", "harbour-auth", lambda live: live["spec"].update(maxUnavailable=9), stay),
    Row("NetworkPolicy", "harbour-auth", lambda live: live["spec"].update(ingress=[{}], egress=[{}]),
        lambda live: live["spec"]["podSelector"]["matchLabels"].update(x="y")),
    Row("Ingress", "harbour-gateway", lambda live: live["spec"]["rules"][0].update(host="evil.example.com"),
        to_number),
    Row("PodMonitor", "harbour", lambda live: live["spec"].update(podMetricsEndpoints=[{"port": "evil"}]),
        lambda live: live["spec"]["selector"]["matchLabels"].update(x="y")),
    Row("PrometheusRule", "harbour", lambda live: live["spec"]["groups"][0]["rules"][0].update(expr="vector(1)"),
        lambda live: live["spec"]["groups"][0].update(name="evil")),
    Row("HTTPRoute", "quay-gateway", lambda live: live["spec"].update(hostnames=["evil.example.com"]),
        lambda live: live["spec"]["rules"][0]["matches"][0].update(path={"type": "Exact", "value": "/evil"})),
    Row("ScaledObject", "quay-auth", lambda live: live["spec"].update(maxReplicaCount=77),
        lambda live: live["spec"]["triggers"][0].update(type="memory")),
    Row("ControllerRevision", "harbour-", relabel),
    Row("Database", "quay-postgres-conversation", lambda live: live["spec"].update(databaseReclaimPolicy="delete"),
        lambda live: live["spec"]["extensions"][0].update(ensure="absent")),
    Row("Cluster", "quay-postgres", lambda live: live["spec"].update(instances=2),
        lambda live: live["spec"]["managed"]["roles"][0].update(name="evil")),
    Row("Deployment", "harbour-auth", replace_image, probe_otherwise),
    Row("Job", "harbour-auth-", relabel),
    Row("StatefulSet", "harbour-redis", replace_image, listen_elsewhere),
    Row("Secret", "harbour-chat-key", relabel),
)  # fmt: skip
"""What all others wait for is at the end."""
HARMFUL = tuple(row for row in ROWS if row.harmful)


def test_no_kind_is_left_out() -> None:
    assert {row.kind for row in ROWS} == kinds.WRITTEN.keys() | kinds.OPTIONAL.keys()


@dataclass(frozen=True)
class World:
    api: ApiServer
    namespace: str

    def get(self, row: Row, name: str) -> Object:
        """Empty while there is none."""
        return self.api.get(row.kind, self.namespace, name) or {}

    def settle(self, row: Row) -> Object:
        """The child of a bot that has settled."""
        wait_for(f"{row.bot} to be ready", lambda: self.ready(row.bot), 60)
        found = self.api.list(row.kind, self.namespace, f"{names.BOT}={row.bot}")
        name = next(item["metadata"]["name"] for item in found if item["metadata"]["name"].startswith(row.name))
        return self.get(row, name)

    def ready(self, bot: str) -> bool:
        status = (self.api.get("ChatbotDeployment", self.namespace, bot) or {}).get("status") or {}
        return any((item["type"], item["status"]) == ("Ready", "True") for item in status.get("conditions", ()))

    def edit(self, row: Row, name: str, edit: Edit, manager: str) -> None:
        """As `kubectl edit` does it; of metadata alone as `kubectl label` does."""

        def put() -> bool:
            live = self.get(row, name)
            before = copy.deepcopy(live)
            edit(live)
            assert live != before, "it changes nothing"
            if live | {"metadata": before["metadata"]} == before:
                body = {"metadata": {"labels": live["metadata"]["labels"]}}
                return bool(self.api.patch(row.kind, self.namespace, name, body, manager))
            try:
                self.api.request("PUT", f"{path(row.kind, self.namespace, name)}?fieldManager={manager}", live)
            except httpx2.HTTPStatusError as error:
                if error.response.status_code == httpx2.codes.CONFLICT:  # a controller was faster
                    return False
                raise
            return True

        wait_for(f"the edit of {row.kind} {name}", put, 10)

    def told(self, row: Row, name: str, manager: str) -> list[str]:
        """Of fields that were taken back from somebody."""
        events = self.api.list("Event", self.namespace)
        said = [item["message"] for item in events if item["reason"] == "FieldTakenBack"]
        return [message for message in said if f" of {row.kind} {name}, written by {manager}," in message]


@pytest.fixture(scope="module")
def world(own_api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    api, folder = own_api_server, tmp_path_factory.mktemp("healing")
    for optional in (MONITORING, GATEWAY, KEDA, CLOUD_NATIVE_PG_API):
        install(api, optional)
    made = World(api, api.namespace())
    with (
        playing_kubelet(api, made.namespace),
        again_and_again(lambda: answer(made)),
        operator(api, folder, made.namespace, lease=patient(made.namespace)) as process,
    ):
        process.wait_ready()
        for name, spec in BOTS.items():
            body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment"}
            api.create(body | {"metadata": {"name": name}, "spec": spec}, made.namespace)
        for name in BOTS:
            wait_for(f"{name} to be ready", lambda name=name: made.ready(name), 120)  # type: ignore[misc]
        yield made
        assert not [line for line in process.lines() if line["level"] in ("error", "critical")]


def answer(world: World) -> None:
    """CloudNativePG does what is asked of it."""
    for kind in CLOUD_NATIVE_PG:
        for item in world.api.list(kind, world.namespace):
            status = cluster_status(item | {"kind": kind}) if kind == "Cluster" else {"applied": True}
            status["observedGeneration"] = item["metadata"]["generation"]
            for condition in status.get("conditions", []):
                condition |= {"message": "", "lastTransitionTime": "2026-11-21T06:00:00Z"}
            with contextlib.suppress(httpx2.HTTPStatusError):  # deleted meanwhile
                world.api.patch_status(kind, world.namespace, item["metadata"]["name"], status)


def said(live: Object) -> Object:
    """All but what controllers write, and what tells one life of an object from another."""
    metadata = live.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    kept = {
        "labels": {key: text for key, text in (metadata.get("labels") or {}).items() if "controller-uid" not in key},
        "annotations": {key: text for key, text in annotations.items() if not key.startswith("deployment.")},
        "ownerReferences": metadata.get("ownerReferences"),
    }
    return {key: value for key, value in live.items() if key not in ("status", "metadata")} | {"metadata": kept}


def edited(world: World, row: Row, edit: Edit, manager: str) -> None:
    before = world.settle(row)
    name = before["metadata"]["name"]
    world.edit(row, name, edit, manager)
    began = time.monotonic()
    wait_for(f"{row.kind} {name} as before", lambda: said(world.get(row, name)) == said(before), SECONDS)
    print(f"edited {row.kind} {name} back: {time.monotonic() - began:.2f} s")
    wait_for("the Event", lambda: world.told(row, name, manager), SECONDS)
    assert len(world.told(row, name, manager)) == 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}-{row.name}")
def test_edited_is_as_before_and_who_did_it_is_named_once(world: World, row: Row) -> None:
    edited(world, row, row.plain, "kubectl-edit")


@pytest.mark.parametrize("row", HARMFUL, ids=lambda row: f"{row.kind}-{row.name}")
def test_edited_so_that_an_apply_would_not_do_is_as_before(world: World, row: Row) -> None:
    assert row.harmful
    edited(world, row, row.harmful, "kubectl-replace")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}-{row.name}")
def test_deleted_is_made_anew(world: World, row: Row) -> None:
    before = world.settle(row)
    name, uid = before["metadata"]["name"], before["metadata"]["uid"]
    world.api.delete(row.kind, world.namespace, name)
    began = time.monotonic()
    after = wait_for(f"another {row.kind} {name}", lambda: another(world, row, name, uid), SECONDS)
    print(f"deleted {row.kind} {name} back: {time.monotonic() - began:.2f} s")
    assert said(after).keys() == said(before).keys()


def another(world: World, row: Row, name: str, uid: str) -> Object:
    found = world.get(row, name)
    return found if found and found["metadata"]["uid"] != uid else {}
