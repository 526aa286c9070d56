"""What people, newer versions and bad timing leave in a cluster: nothing stops the operator or holds others up.

One real operator process for all; after each test a resource beside is edited, and heeded within seconds.
"""

import contextlib
import copy
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from chatbot_operator import names

from tests.operator.processes import Operator, operator, patient
from tests.operator.running import BOT
from tests.support.apiserver import MERGE, ApiServer, Object, path, playing_kubelet, wait_for

pytestmark = pytest.mark.timeout(180)

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/chatbotdeployments.chatbot-operator.io"
LONGEST = "a-name-of-forty-characters-and-not-more1"
DEV: Object = {"profile": "Dev"}


@dataclass
class Scene:
    api: ApiServer
    process: Operator
    here: str
    there: str
    doomed: str
    """Three namespaces that are watched; a kubelet is played in the first two."""

    def create(self, name: str, spec: Object | None = None, namespace: str = "", **metadata: Any) -> Object:
        body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment"}
        named = {"name": name, **metadata}
        return self.api.create(body | {"metadata": named, "spec": spec or DEV}, namespace or self.here)

    def bot(self, name: str, namespace: str = "") -> Object:
        found = self.api.get("ChatbotDeployment", namespace or self.here, name)
        assert found is not None
        return found

    def ready(self, name: str, namespace: str = "") -> tuple[str, str, str]:
        """Status, reason and message of `Ready`."""
        conditions = self.bot(name, namespace).get("status", {}).get("conditions", [])
        found = next((item for item in conditions if item["type"] == "Ready"), None)
        return (found["status"], found["reason"], found["message"]) if found else ("", "", "")

    def wait_reason(self, name: str, reason: str, seconds: float = 10, namespace: str = "") -> str:
        """Its message."""
        wait_for(f"{reason} of {name}", lambda: self.ready(name, namespace)[1] == reason, seconds)
        return self.ready(name, namespace)[2]

    def others_go_on(self) -> None:
        """The one beside is edited, and heeded."""
        image = f"postgres:{time.monotonic_ns()}"
        self.api.patch("ChatbotDeployment", self.there, BOT, {"spec": {"images": {"postgres": image}}})

        def heeded() -> bool:
            live = self.api.get("StatefulSet", self.there, f"{BOT}-postgres")
            return live is not None and live["spec"]["template"]["spec"]["containers"][0]["image"] == image

        wait_for("another resource to be heeded", heeded, 10)


@pytest.fixture(scope="module")
def api_server(own_api_server: ApiServer) -> ApiServer:
    return own_api_server


@pytest.fixture(scope="module")
def running(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    here, there, doomed = (api_server.namespace() for _ in range(3))
    folder = tmp_path_factory.mktemp("bad-input")
    with (
        playing_kubelet(api_server, here),
        playing_kubelet(api_server, there),
        operator(api_server, folder, here, watch_namespaces=[here, there, doomed], lease=patient(here)) as process,
    ):
        process.wait_ready()
        scene = Scene(api_server, process, here, there, doomed)
        scene.create(BOT, namespace=there)
        yield scene


@pytest.fixture
def scene(running: Scene) -> Iterator[Scene]:
    before = len(running.process.lines())
    yield running
    running.others_go_on()
    lines = running.process.lines()[before:]
    # Kopf calls it an error when the API server asks it to come back in a moment.
    ours = [line for line in lines if not line["logger"].startswith("kopf")]
    assert not [line for line in ours if line["level"] in ("error", "critical")]


@pytest.fixture
def newer_definition(api_server: ApiServer) -> Iterator[None]:
    """One that knows more fields and values than this operator."""
    before = api_server.request("GET", CRD)["spec"]
    newer = copy.deepcopy(before)
    schema = newer["versions"][0]["schema"]["openAPIV3Schema"]
    schema.pop("x-kubernetes-validations", None)
    for part in ("spec", "status"):
        schema["properties"][part] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    api_server.request("PATCH", CRD, {"spec": {"versions": newer["versions"]}}, MERGE)
    wait_for("the newer definition", lambda: takes_more(api_server))
    yield
    api_server.request("PATCH", CRD, {"spec": {"versions": before["versions"]}}, MERGE)
    wait_for("the definition as it was", lambda: not takes_more(api_server))


class TestNewer:
    def test_spec_is_named_told_once_and_mended_by_an_edit(self, scene: Scene, newer_definition: None) -> None:
        scene.create("field", DEV | {"telepathy": {"range": 3}})
        scene.create("value", {"profile": "Galactic"})
        assert "telepathy" in scene.wait_reason("field", "InvalidSpec")
        assert "profile" in scene.wait_reason("value", "InvalidSpec")
        scene.api.patch("ChatbotDeployment", scene.here, "field", {"spec": {"telepathy": None}})
        wait_for("it to be mended", lambda: scene.ready("field")[1] not in ("", "InvalidSpec"), 10)
        scene.api.delete("ChatbotDeployment", scene.here, "field")
        scene.api.delete("ChatbotDeployment", scene.here, "value")

    def test_status_is_replaced_once_and_not_for_ever(self, scene: Scene, newer_definition: None) -> None:
        wait_for("it to be ready", lambda: scene.ready(BOT, scene.there)[0] == "True", 60)
        odd = {"phase": "Sparkling", "mood": "good", "version": {"current": "9", "next": {"deep": 1}}}
        scene.api.patch_status("ChatbotDeployment", scene.there, BOT, odd)
        wait_for("the truth", lambda: scene.bot(BOT, scene.there)["status"]["phase"] == "Ready", 10)
        status = scene.bot(BOT, scene.there)["status"]
        assert "mood" not in status
        assert "next" not in status["version"]
        writes, reconciles = scene.process.writes(), self.reconciles(scene)
        scene.api.patch("ChatbotDeployment", scene.there, BOT, {"metadata": {"labels": {"touched": "yes"}}})
        wait_for("it to be looked at", lambda: self.reconciles(scene) > reconciles)
        assert scene.process.writes() == writes

    def test_status_with_a_field_more_is_remembered_without_it(self, scene: Scene, newer_definition: None) -> None:
        wait_for("it to be ready", lambda: scene.ready(BOT, scene.there)[0] == "True", 60)
        history = [{"version": "0.0.1", "generation": 1, "at": "2026-01-01T00:00:00Z"}]
        told = {"mood": "good", "version": {"history": history, "next": {"deep": 1}}}

        def version() -> Object:
            scene.api.patch_status("ChatbotDeployment", scene.there, BOT, told)
            wait_for("the field to go", lambda: "mood" not in scene.bot(BOT, scene.there)["status"], 10)
            found: Object = scene.bot(BOT, scene.there)["status"]["version"]
            assert "next" not in found
            return found

        # A look that began before is ahead of it with what it writes, but not three times.
        assert any(version()["history"][-1] == history[0] for _ in range(3))

    def reconciles(self, scene: Scene) -> float:
        return scene.process.metric("chatbot_operator_reconciles_total", result="unchanged")


class TestHandEdited:
    def test_status_is_put_right(self, scene: Scene) -> None:
        scene.create("edited")
        wait_for("a status", lambda: scene.ready("edited")[0])
        nonsense = {"type": "Ready", "status": "True", "reason": "Because", "lastTransitionTime": "yesterday"}
        body = {"phase": "Failed", "conditions": [nonsense | {"observedGeneration": 99}], "url": "http://nowhere"}
        scene.api.patch_status("ChatbotDeployment", scene.here, "edited", body)
        wait_for("the truth", lambda: scene.bot("edited")["status"]["url"] != "http://nowhere", 10)
        status = scene.bot("edited")["status"]
        assert len(status["conditions"]) > 1
        assert "Because" not in str(status)
        assert "yesterday" not in str(status)
        scene.api.delete("ChatbotDeployment", scene.here, "edited")


class TestNames:
    def test_the_longest_with_any_text_beside_it_in_two_namespaces(self, scene: Scene) -> None:
        assert len(LONGEST) == 40
        annotations = {"example.com/note": "Grüße, 你好, \u202e🚢\n\t'\"{{}}"}
        for namespace in (scene.here, scene.there):
            labels = {"a" * 63: "b" * 63}
            scene.create(LONGEST, namespace=namespace, annotations=annotations, labels=labels)
        for namespace in (scene.here, scene.there):
            wait_for("it to be ready", lambda n=namespace: scene.ready(LONGEST, n)[0] == "True", 90)  # type: ignore[misc]
        one, other = (
            scene.api.get("Secret", namespace, f"{LONGEST}-postgres") for namespace in (scene.here, scene.there)
        )
        assert one
        assert other
        assert one["data"] != other["data"]
        scene.api.delete("ChatbotDeployment", scene.here, LONGEST)
        time.sleep(1)
        assert scene.ready(LONGEST, scene.there)[0] == "True"
        scene.api.delete("ChatbotDeployment", scene.there, LONGEST)


class TestBig:
    def test_a_resource_that_has_no_room_for_a_status_still_gets_its_children(self, scene: Scene) -> None:
        """etcd takes 1.5 MiB. With a status it would be more, and the API server answers 500."""
        errors = scene.process.metric("chatbot_operator_reconciles_total", result="error")
        labels = {f"{number:0>63}": "x" * 63 for number in range(11_900)}
        scene.create("big", labels=labels)
        wait_for("its children", lambda: scene.api.get("StatefulSet", scene.here, "big-weaviate"), 20)
        wait_for("it to be told", lambda: self.events(scene), 20)
        scene.others_go_on()
        time.sleep(1)
        [message] = self.events(scene)
        assert re.search(r"It has \d{4} KiB, \d{4} KiB of them in metadata\.labels: take away", message)
        assert scene.process.metric("chatbot_operator_reconciles_total", result="error") == errors
        scene.api.patch("ChatbotDeployment", scene.here, "big", {"metadata": {"labels": dict.fromkeys(labels)}})
        wait_for("a status", lambda: scene.ready("big")[0], 20)
        scene.api.delete("ChatbotDeployment", scene.here, "big")

    @staticmethod
    def events(scene: Scene) -> list[str]:
        """Messages of those that tell of it."""
        found = scene.api.list("Event", scene.here)
        return [item["message"] for item in found if item["reason"] == "StatusTooLarge"]


class TestGoing:
    def test_a_namespace_deleted_under_the_first_reconcile(self, scene: Scene) -> None:
        for number in range(3):
            scene.create(f"bot-{number}", namespace=scene.doomed)
        wait_for("the first child", lambda: scene.api.list("Secret", scene.doomed))
        scene.api.delete("Namespace", scene.doomed, scene.doomed)
        scene.others_go_on()
        wait_for("it to be gone", lambda: scene.api.get("Namespace", scene.doomed, scene.doomed) is None, 60)
        assert not [line for line in scene.process.lines() if line.get("failures", 0) > 3]


class TestRetained:
    def test_is_taken_over_by_name_and_label(self, scene: Scene) -> None:
        scene.create("kept")
        before = wait_for("its Secret", lambda: scene.api.get("Secret", scene.here, "kept-postgres"))
        wait_for("a status", lambda: scene.ready("kept")[0])
        scene.api.delete("ChatbotDeployment", scene.here, "kept")
        wait_for("its children to go", lambda: not scene.api.get("StatefulSet", scene.here, "kept-postgres"), 60)
        scene.create("kept")
        wait_for("a status", lambda: scene.ready("kept")[0])
        after = scene.api.get("Secret", scene.here, "kept-postgres")
        assert after
        assert (after["metadata"]["uid"], after["data"]) == (before["metadata"]["uid"], before["data"])
        scene.api.delete("ChatbotDeployment", scene.here, "kept")

    @pytest.mark.parametrize("whose", ["nobody's", "somebody's"])
    def test_what_only_has_the_name_is_a_conflict_that_is_named(self, scene: Scene, whose: str) -> None:
        name = whose.removesuffix("'s")
        metadata: Object = {"name": f"{name}-postgres"}
        if whose == "somebody's":
            head = {"apiVersion": "v1", "kind": "ConfigMap"}
            owner = scene.api.create(head | {"metadata": {"name": "owner"}}, scene.here)
            reference = head | {"name": "owner", "uid": owner["metadata"]["uid"], "controller": True}
            metadata["ownerReferences"] = [reference]
            metadata["labels"] = {names.INSTANCE: name, names.MANAGED_BY: names.FIELD_MANAGER, names.BOT: name}
        theirs = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 1}]}}
        scene.api.create(theirs, scene.here)
        scene.create(name)
        assert f"{name}-postgres" in scene.wait_reason(name, "NameConflict")
        found = scene.api.get("Service", scene.here, f"{name}-postgres")
        assert found
        assert found["spec"]["ports"][0]["port"] == 1
        scene.api.delete("ChatbotDeployment", scene.here, name)


class TestQuota:
    @pytest.fixture
    def tight(self, scene: Scene, request: pytest.FixtureRequest) -> Iterator[None]:
        """No more than there is now of a thing."""
        where = f"/api/v1/namespaces/{scene.there}/resourcequotas"
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}}
        wait_for("the one beside to be ready", lambda: scene.ready(BOT, scene.there)[0] == "True", 60)
        scene.api.request("POST", where, quota | {"spec": {"hard": {request.param: "0"}}})
        wait_for("the quota", lambda: scene.api.request("GET", f"{where}/tight")["status"].get("used"))
        yield
        scene.api.request("DELETE", f"{where}/tight")

    @pytest.mark.parametrize("tight", ["pods"], indirect=True)
    def test_of_pods_is_a_reason_that_names_whose(self, scene: Scene, tight: None) -> None:
        scene.api.patch("ChatbotDeployment", scene.there, BOT, {"spec": {"limits": {"perMinute": 7}}})
        message = scene.wait_reason(BOT, "PodsRefused", 15, scene.there)
        assert f"{BOT}-gateway" in message
        assert "exceeded quota: tight" in message

    @pytest.mark.parametrize("tight", ["count/deployments.apps"], indirect=True)
    def test_of_objects_is_a_reason_that_names_which(self, scene: Scene, tight: None) -> None:
        scene.api.delete("Deployment", scene.there, f"{BOT}-chat")
        message = scene.wait_reason(BOT, "ApplyRefused", 10, scene.there)
        assert f"Deployment {BOT}-chat" in message
        assert "exceeded quota: tight" in message


def takes_more(api_server: ApiServer) -> bool:
    body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment", "metadata": {"name": "try"}}
    where = f"{path('ChatbotDeployment', 'default')}?dryRun=All"
    with contextlib.suppress(httpx2.HTTPStatusError):
        api_server.request("POST", where, body | {"spec": {"profile": "Galactic"}})
        return True
    return False
