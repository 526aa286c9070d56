"""The operator as it runs: real processes, the whole plan, a real API server; pods are played."""

import base64
import contextlib
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from chatbot_operator import names

from tests.operator.processes import Operator, operator, patient
from tests.operator.relay import relay
from tests.operator.running import BOT
from tests.operator.specs import LLM
from tests.support.apiserver import ApiServer, Object, playing_kubelet, wait_for

COMPONENTS = ("gateway", "auth", "chat", "conversation", "conversation-worker")
STORES = ("postgres", "redis", "weaviate")
KILLED = Path(__file__).with_name("killed.py")
NEWER = Path(__file__).with_name("newer.py")
KINDS = (
    *("ConfigMap", "Secret", "Service", "ServiceAccount", "Deployment", "StatefulSet", "Job"),
    *("HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"),
)

pytestmark = pytest.mark.timeout(180)


class Bot:
    """One resource in a namespace of its own, as its owner sees it."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.namespace = api.namespace()

    def create(self, spec: Object | None = None, name: str = BOT) -> Object:
        body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment"}
        return self.api.create(body | {"metadata": {"name": name}, "spec": spec or {"profile": "Dev"}}, self.namespace)

    def get(self, kind: str, name: str) -> Object:
        found = self.api.get(kind, self.namespace, name)
        assert found is not None, f"{kind} {name}"
        return found

    def edit(self, spec: Object) -> None:
        self.api.patch("ChatbotDeployment", self.namespace, BOT, {"spec": spec})

    def condition(self, kind: str) -> tuple[str, str, str]:
        """Status, reason and message; of the current generation only."""
        bot = self.get("ChatbotDeployment", BOT)
        status = bot.get("status") or {}
        if status.get("observedGeneration") == bot["metadata"]["generation"]:
            for item in status["conditions"]:
                if item["type"] == kind:
                    return item["status"], item["reason"], item["message"]
        return "", "", ""

    def wait_condition(self, kind: str, status: str, seconds: float = 60) -> None:
        wait_for(f"{kind}={status}", lambda: self.condition(kind)[0] == status, seconds)

    def children(self) -> dict[tuple[str, str], Object]:
        """All that the operator made, by kind and name."""
        selector = f"{names.INSTANCE}={BOT},{names.MANAGED_BY}={names.FIELD_MANAGER}"
        found = {kind: self.api.list(kind, self.namespace, selector) for kind in KINDS}
        return {(kind, item["metadata"]["name"]): item for kind, items in found.items() for item in items}

    def pods(self) -> set[str]:
        """Who each is."""
        return {item["metadata"]["uid"] for item in self.api.list("Pod", self.namespace)}

    def images(self) -> dict[str, str]:
        found = self.api.list("Deployment", self.namespace)
        return {item["metadata"]["name"]: item["spec"]["template"]["spec"]["containers"][0]["image"] for item in found}


@pytest.fixture
def bot(api_server: ApiServer) -> Bot:
    return Bot(api_server)


@pytest.fixture
def kubelet(api_server: ApiServer, bot: Bot) -> Iterator[None]:
    with playing_kubelet(api_server, bot.namespace):
        yield


@pytest.fixture
def running(api_server: ApiServer, bot: Bot, tmp_path: Path) -> Iterator[Operator]:
    with operator(api_server, tmp_path, bot.namespace) as process:
        process.wait_ready()
        yield process


@dataclass(frozen=True)
class Life:
    """A bot that became ready, and its operator."""

    bot: Bot
    operator: Operator


@pytest.fixture(scope="class")
def life(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    bot = Bot(api_server)
    with (
        playing_kubelet(api_server, bot.namespace),
        operator(api_server, tmp_path_factory.mktemp("life"), bot.namespace, lease=patient(bot.namespace)) as process,
    ):
        process.wait_ready()
        began = time.monotonic()
        bot.create()
        bot.wait_condition("Ready", "True")
        print(f"created to Ready: {time.monotonic() - began:.1f} s, {process.writes():.0f} writes")
        yield Life(bot, process)


class TestLife:
    """One bot from its first day to its last: in the order of the tests."""

    def test_from_nothing_to_ready(self, life: Life) -> None:
        kinds = {kind for kind, _ in life.bot.children()}
        assert kinds == set(KINDS)
        metadata = life.bot.get("ChatbotDeployment", BOT)["metadata"]
        assert "finalizers" not in metadata
        assert "annotations" not in metadata
        assert not [line for line in life.operator.lines() if line["level"] in ("warning", "error", "critical")]

    def test_an_edit_rolls_exactly_the_right_pods_and_makes_no_secret_anew(self, life: Life) -> None:
        bot = life.bot
        secrets = secrets_of(bot)
        before = {name: bot.get("Deployment", f"{BOT}-{name}")["spec"]["template"] for name in COMPONENTS}
        began = time.monotonic()
        bot.edit({"limits": {"perMinute": 7}})
        wait_for("the gateway to be told", lambda: gateway_template(bot) != before["gateway"])
        print(f"edit to first child: {time.monotonic() - began:.2f} s")
        bot.wait_condition("Ready", "True")
        after = {name: bot.get("Deployment", f"{BOT}-{name}")["spec"]["template"] for name in COMPONENTS}
        assert {name for name in COMPONENTS if before[name] != after[name]} == {"gateway"}
        assert secrets_of(bot) == secrets

    def test_what_is_deleted_or_edited_comes_back_within_seconds(self, life: Life) -> None:
        bot = life.bot
        uid = bot.get("Deployment", "harbour-chat")["metadata"]["uid"]
        began = time.monotonic()
        bot.api.delete("Deployment", bot.namespace, "harbour-chat")
        wait_for("the Deployment to return", lambda: uid_of(bot, "harbour-chat") not in (None, uid), 5)
        print(f"deleted child back: {time.monotonic() - began:.2f} s")
        image = bot.images()["harbour-auth"]
        began = time.monotonic()
        bot.api.kubectl("-n", bot.namespace, "set", "image", "deployment/harbour-auth", "auth=evil:1")
        wait_for("the image to return", lambda: bot.images()["harbour-auth"] == image, 5)
        print(f"edited child back: {time.monotonic() - began:.2f} s")
        # Told when everything has been applied.
        [event] = wait_for("the Event", lambda: taken_back(bot))
        assert "kubectl-set" in event["message"]

    def test_tells_no_secret(self, life: Life) -> None:
        said = life.operator.said()
        values = [base64.b64decode(value).decode() for data in secrets_of(life.bot).values() for value in data.values()]
        assert values
        assert not [value for value in values if value in said]

    def test_leaves_what_is_to_be_kept(self, life: Life) -> None:
        bot = life.bot
        kept = {("Secret", name) for name in ("harbour-admin", "harbour-postgres", "harbour-redis", "harbour-weaviate")}
        bot.api.delete("ChatbotDeployment", bot.namespace, BOT)
        wait_for("all but what Retain keeps to be gone", lambda: bot.children().keys() == kept, 60)
        assert life.operator.process.poll() is None


class TestSuccessors:
    def test_write_nothing_but_who_they_are_and_restart_no_pod(
        self, api_server: ApiServer, bot: Bot, kubelet: None, tmp_path: Path
    ) -> None:
        # Without an autoscaler, whose controller says some time later that there are no metrics here: a change.
        bot.create({"profile": "Dev", "components": {"chat": {"scaling": {"mode": "Fixed", "replicas": 1}}}})
        with operator(api_server, tmp_path, bot.namespace, "operator-0") as first:
            bot.wait_condition("Ready", "True")
            wait_settled(first)
            assert first.stop() == 0
        before, pods, told = bot.children(), bot.pods(), bot.get("ChatbotDeployment", BOT)["status"]

        with operator(api_server, tmp_path, bot.namespace, "operator-1", resync_seconds=10) as same:
            wait_looked(same)
            assert same.writes() == 0
            reconciles = "chatbot_operator_reconciles_total"
            assert same.metric(reconciles) == same.metric(reconciles, result="unchanged")
            assert same.stop() == 0

        # The last brings a version of the same images, which the revision to go back to tells, too: made anew, pruned.
        for number, platform, writes in ((8, "0.1.0", 1), (9, "0.2.0", 3)):
            command, more = (NEWER, f"9.9.{number}"), {"version": platform, "resync_seconds": 10}
            with operator(api_server, tmp_path, bot.namespace, f"operator-{number}", command, **more) as newer:
                wait_looked(newer)
                assert newer.writes() == writes
                assert newer.stop() == 0
            after = bot.get("ChatbotDeployment", BOT)["status"]
            assert (after["operatorVersion"], after["version"]["current"]) == (f"9.9.{number}", platform)
            own = ("operatorVersion", "version")
            assert after | dict.fromkeys(own) == told | dict.fromkeys(own)
        assert unwritten(bot.children()) == unwritten(before)
        assert bot.pods() == pods


def wait_looked(process: Operator) -> None:
    """Until it has looked at everything twice, and is done."""
    process.wait_ready()
    wait_for("a look", lambda: process.metric("chatbot_operator_reconciles_total") >= 1)
    wait_for("a resync", lambda: process.metric("chatbot_operator_resyncs_total") >= 1, 30)
    wait_settled(process)


def unwritten(children: dict[tuple[str, str], Object]) -> dict[tuple[str, str], Any]:
    """Who each is and what it says; controllers go on to write its status."""
    return {
        name: (item["metadata"]["uid"], item["metadata"].get("generation"), item.get("spec"), item.get("data"))
        for name, item in children.items()
    }


def secrets_of(bot: Bot) -> dict[str, Object]:
    return {name: item["data"] for (kind, name), item in bot.children().items() if kind == "Secret"}


def gateway_template(bot: Bot) -> Any:
    return bot.get("Deployment", f"{BOT}-gateway")["spec"]["template"]


def uid_of(bot: Bot, deployment: str) -> Any:
    found = bot.api.get("Deployment", bot.namespace, deployment)
    return found and found["metadata"]["uid"]


def wait_settled(process: Operator) -> None:
    """Until it has written nothing for a second and has nothing to do."""

    def quiet() -> bool:
        before = process.writes()
        time.sleep(1)
        return process.writes() == before and process.metric("chatbot_operator_queue_oldest_seconds") == 0

    wait_for("it to settle", quiet, 30)


def taken_back(bot: Bot) -> list[Object]:
    return [item for item in bot.api.list("Event", bot.namespace) if item["reason"] == "FieldTakenBack"]


class TestReferences:
    def test_a_missing_one_is_named_and_its_coming_and_its_edits_are_seen(
        self, bot: Bot, kubelet: None, running: Operator
    ) -> None:
        bot.create({"profile": "Dev", "knowledge": {"faqRef": {"name": "faqs", "key": "faqs.yaml"}}})
        wait_for("the reason", lambda: bot.condition("Ready")[1] == "ConfigMapNotFound", 30)
        assert "faqs" in bot.condition("Ready")[2]
        wait_for("who does not need it", lambda: "harbour-auth" in bot.images())
        faqs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "faqs"}, "data": {"faqs.yaml": "[]"}}
        bot.api.create(faqs, bot.namespace)
        bot.wait_condition("Ready", "True")
        assert bot.get("ConfigMap", "faqs")["metadata"]["labels"] == {names.REFERENCED: "true"}
        before = {name: bot.get("Deployment", f"{BOT}-{name}")["spec"]["template"] for name in COMPONENTS}
        bot.api.patch("ConfigMap", bot.namespace, "faqs", {"data": {"faqs.yaml": "- question: [When"}})
        wait_for("what is wrong with it", lambda: bot.condition("Degraded")[:2] == ("True", "InvalidFaqs"), 30)
        assert "faqRef names, key faqs.yaml, line 1: not valid YAML: " in bot.condition("Ready")[2]
        bot.api.patch("ConfigMap", bot.namespace, "faqs", {"data": {"faqs.yaml": "- {question: Q, answer: A}"}})
        wait_for(
            "its readers to roll",
            lambda: (
                bot.get("Deployment", "harbour-conversation-worker")["spec"]["template"]
                != before["conversation-worker"]
            ),
            10,
        )
        bot.wait_condition("Ready", "True")
        assert bot.get("Deployment", "harbour-gateway")["spec"]["template"] == before["gateway"]

    def test_a_secret_that_is_edited_rolls_its_readers_once(self, bot: Bot, kubelet: None, running: Operator) -> None:
        key = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openai"}}
        bot.api.create(key | {"stringData": {"api-key": "old"}}, bot.namespace)
        bot.create({"profile": "Dev", "llm": LLM | {"prompts": []}})
        bot.wait_condition("Ready", "True")
        wait_settled(running)
        before = {name: bot.get("Deployment", f"{BOT}-{name}") for name in COMPONENTS}
        began = time.monotonic()
        bot.api.patch("Secret", bot.namespace, "openai", {"stringData": {"api-key": "new"}})
        template = before["chat"]["spec"]["template"]
        wait_for("chat to roll", lambda: bot.get("Deployment", "harbour-chat")["spec"]["template"] != template, 10)
        print(f"edited Secret to rollout: {time.monotonic() - began:.2f} s")
        wait_settled(running)
        bot.wait_condition("Ready", "True")
        rolled = {
            name: bot.get("Deployment", f"{BOT}-{name}")["metadata"]["generation"] - item["metadata"]["generation"]
            for name, item in before.items()
        }
        assert rolled == dict.fromkeys(COMPONENTS, 0) | {"chat": 1}


class TestLeader:
    """That one is replaced who was killed, frozen or cut off is in test_failover.py."""

    def test_another_takes_over_at_once_when_the_leader_is_told_to_stop(
        self, api_server: ApiServer, bot: Bot, tmp_path: Path
    ) -> None:
        with (
            operator(api_server, tmp_path, bot.namespace, "operator-0") as one,
            contextlib.ExitStack() as stack,
        ):
            wait_for("the leader", one.leads, 30)
            other = stack.enter_context(operator(api_server, tmp_path, bot.namespace, "operator-1"))
            other.wait_ready()
            assert one.stop() == 0
            wait_for("the other", other.leads, 5)

    def test_the_loser_of_the_lease_ends_its_process(self, bot: Bot, running: Operator) -> None:
        wait_for("the leader", running.leads, 30)
        stolen = {"spec": {"holderIdentity": "thief"}}
        bot.api.patch("Lease", bot.namespace, names.LEASE, stolen)
        assert running.process.wait(15) == 1
        assert "the Lease is lost" in running.said()


class TestKilled:
    def test_in_the_middle_the_next_one_goes_on(
        self, api_server: ApiServer, bot: Bot, kubelet: None, tmp_path: Path
    ) -> None:
        bot.create()
        # The same pod: its container is started again.
        for writes in (1, 9, 24):
            with operator(api_server, tmp_path, bot.namespace, "operator-0", (KILLED, str(writes))) as first:
                assert first.process.wait(60) == -signal.SIGKILL
        made = secrets_of(bot)
        with operator(api_server, tmp_path, bot.namespace, "operator-0") as second:
            bot.wait_condition("Ready", "True")
            wait_settled(second)
        children = bot.children()
        for (kind, name), item in children.items():
            if kind == "Secret":
                assert item["data"], name
                assert made.get(name, item["data"]) == item["data"], name
        assert len(children) == len(expected(children))


def expected(children: dict[tuple[str, str], Object]) -> set[tuple[str, str]]:
    """What a reconcile that nobody killed makes: here as in TestLife, nothing twice and nothing left over."""
    found = {("Deployment", f"{BOT}-{name}") for name in COMPONENTS}
    found |= {("StatefulSet", f"{BOT}-{name}") for name in STORES}
    assert found <= children.keys()
    jobs = [name for kind, name in children if kind == "Job"]
    configs = [name for kind, name in children if kind == "ConfigMap"]
    assert len(jobs) == 2
    assert len(configs) == 4
    return set(children)


class TestNetwork:
    def test_connections_that_break_are_made_again(self, api_server: ApiServer, bot: Bot, tmp_path: Path) -> None:
        with (
            relay(api_server.layout.api_port) as way,
            playing_kubelet(api_server, bot.namespace),
            operator(
                api_server, tmp_path, bot.namespace, kubeconfig=through(api_server, way.port, tmp_path)
            ) as process,
        ):
            process.wait_ready()
            bot.create()
            for number in range(3):
                time.sleep(1)
                way.cut()
                bot.edit({"limits": {"perMinute": 10 + number}})
            bot.wait_condition("Ready", "True")
            way.cut()
            bot.api.delete("Deployment", bot.namespace, "harbour-chat")
            wait_for("the Deployment to return", lambda: bot.api.get("Deployment", bot.namespace, "harbour-chat"), 15)
            assert process.process.poll() is None


def through(api_server: ApiServer, port: int, folder: Path) -> Path:
    """The administrator's kubeconfig, by way of another port."""
    file = folder / f"{port}.kubeconfig"
    file.write_text(api_server.kubeconfig.read_text().replace(f":{api_server.layout.api_port}", f":{port}"))
    return file


class TestProbes:
    def test_tell_of_the_process(self, bot: Bot, running: Operator) -> None:
        wait_for("the leader", running.leads, 30)
        alive = json.loads(httpx2.get(f"{running.url}/livez").text)
        assert alive["status"] == "ok"
        assert alive["seconds"].keys() == {"event_loop_lag", "lease_age", "queue_oldest", "watch_staleness"}
        assert running.metric("chatbot_operator_build_info", version="0.1.0") == 1

    def test_settings_that_are_missing_or_wrong_are_named(
        self, api_server: ApiServer, bot: Bot, tmp_path: Path
    ) -> None:
        with operator(api_server, tmp_path, bot.namespace, workers=0) as process:
            assert process.process.wait(30) == 2
        assert "workers" in process.said()

    def test_it_waits_for_an_api_server_that_is_not_there(
        self, api_server: ApiServer, bot: Bot, tmp_path: Path
    ) -> None:
        nowhere = tmp_path / "nowhere.kubeconfig"
        text = api_server.kubeconfig.read_text().replace(str(api_server.layout.api_port), "1")
        nowhere.write_text(text)
        with operator(api_server, tmp_path, bot.namespace, kubeconfig=nowhere) as process:
            wait_for("it to say so", lambda: "cannot reach the Lease" in process.said(), 30)
            assert process.answers("/livez")
            assert not process.answers("/readyz")
            assert process.stop() == 0


class TestDeletion:
    """Last: it takes the garbage collector up to half a minute to learn of a new kind."""

    def test_takes_everything_when_told_so(self, bot: Bot, kubelet: None, running: Operator) -> None:
        bot.create({"profile": "Dev"})
        bot.wait_condition("Ready", "True")
        bot.edit({"stores": {"deletionPolicy": "Delete"}})
        bot.wait_condition("Ready", "True")
        bot.api.delete("ChatbotDeployment", bot.namespace, BOT)
        wait_for("all to be gone", lambda: not bot.children(), 60)

    def test_while_it_is_made_leaves_nothing_but_what_is_kept(self, bot: Bot, running: Operator) -> None:
        bot.create()
        wait_for("the first children", lambda: len(bot.children()) > 3)
        bot.api.delete("ChatbotDeployment", bot.namespace, BOT)
        wait_for(
            "the rest to be collected",
            lambda: all(name.removeprefix(f"{BOT}-") in ("admin", *STORES) for _, name in bot.children()),
            60,
        )
        wait_settled(running)
        assert all(kind == "Secret" for kind, _ in bot.children())
        assert not [line for line in running.lines() if line["level"] in ("error", "critical")]
