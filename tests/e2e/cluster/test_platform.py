"""The sample on a real cluster, from `helm install` on, as its users have it. In this order."""

import asyncio
import json
import time
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
import weaviate
from chatbot_common.ids import uuid7

from tests.e2e.cluster.cluster import Cluster, wait_for
from tests.e2e.cluster.conftest import BOT, NAMESPACE, ROOT, Figures, Platform
from tests.e2e.cluster.looking import apply_bot, conditions, edit
from tests.e2e.cluster.people import EMAIL, PASSWORD, QUESTION, ask, sign_in

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

ANSWER = "Monday to Friday from 8:00 to 18:00"
COMPONENTS = ("gateway", "auth", "chat", "conversation", "conversation-worker")


def pods(cluster: Cluster) -> dict[str, set[str]]:
    """Component → uids of its pods that are not on their way out."""
    found: dict[str, set[str]] = {}
    for pod in cluster.get("-n", NAMESPACE, "pods", "-l", f"app.kubernetes.io/instance={BOT}")["items"]:
        if "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] == "Running":
            part = pod["metadata"]["labels"]["app.kubernetes.io/component"]
            found.setdefault(part, set()).add(pod["metadata"]["uid"])
    return found


class TestReady:
    def test_people_see_it_at_a_glance(self, cluster: Cluster, bot: None) -> None:
        line = cluster.kubectl("-n", NAMESPACE, "get", "cbd").splitlines()[1].split()
        assert line[:4] == [BOT, "True", "True", "Ready"]
        assert "4/4" in line
        described = cluster.kubectl("-n", NAMESPACE, "describe", f"cbd/{BOT}")
        assert f"http://{BOT}-gateway" in described

    def test_every_component_has_its_children(self, cluster: Cluster, bot: None) -> None:
        listed = cluster.kubectl("-n", NAMESPACE, "get", "deploy,svc,sa,hpa,pdb,sts,cm,job", "-o", "name").split()
        for part in COMPONENTS:
            assert f"deployment.apps/{BOT}-{part}" in listed
            assert f"serviceaccount/{BOT}-{part}" in listed
            assert f"poddisruptionbudget.policy/{BOT}-{part}" in listed
        for part in ("gateway", "auth", "chat", "conversation", "postgres", "redis", "weaviate"):
            assert f"service/{BOT}-{part}" in listed
        for part in ("postgres", "redis", "weaviate"):
            assert f"statefulset.apps/{BOT}-{part}" in listed
        assert f"horizontalpodautoscaler.autoscaling/{BOT}-chat" in listed
        assert sum(name.startswith("job.batch/") for name in listed) == 2

    def test_it_stays_unchanged_when_nothing_happens(self, cluster: Cluster, bot: None) -> None:
        def versions() -> dict[str, str]:
            kinds = "deploy,svc,sa,pdb,sts,cm,job,secret"
            items = cluster.get("-n", NAMESPACE, kinds, "-l", "app.kubernetes.io/managed-by=chatbot-operator")["items"]
            return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}

        before = versions()
        time.sleep(5)
        assert versions() == before


class TestChat:
    def test_an_answer_streams_through_the_gateway_and_is_kept(self, platform: Platform) -> None:
        events = ask(platform, sign_in(platform))
        kinds = [event["type"] for event in events]
        assert kinds[0] == "run.started"
        assert kinds.count("text.delta") > 1
        assert kinds[-1] == "run.finished"
        assert ANSWER in events[-1]["content"]
        message = UUID(events[0]["user_message_id"])
        assert asyncio.run(stored(platform, message)) == QUESTION
        wait_for("the message's vector", lambda: has_vector(platform, message), 60)

    def test_a_wrong_password_is_refused(self, platform: Platform) -> None:
        with platform.client() as client:
            body = {"email": EMAIL, "password": "not this one, sorry"}
            assert client.post("/api/v1/auth/login", json=body).status_code == 401

    def test_without_a_key_weaviate_answers_nobody(self, platform: Platform) -> None:
        with platform.cluster.forward(NAMESPACE, f"svc/{BOT}-weaviate", 8080) as port:
            assert httpx2.get(f"http://127.0.0.1:{port}/v1/schema").status_code == 401


async def stored(platform: Platform, message: UUID) -> str | None:
    """Text of a message as Postgres has it."""
    password = platform.secret(f"{BOT}-postgres", "conversation-password")
    with platform.cluster.forward(NAMESPACE, f"svc/{BOT}-postgres", 5432) as port:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user="conversation", password=password, database="conversation"
        )
        try:
            text: str | None = await connection.fetchval("SELECT text FROM messages WHERE id = $1", message)
            return text
        finally:
            await connection.close()


def has_vector(platform: Platform, message: UUID) -> bool:
    """Whether Weaviate holds a vector for the message, under some tenant of some collection."""
    key = weaviate.auth.Auth.api_key(platform.secret(f"{BOT}-weaviate", "api-key"))
    with (
        platform.cluster.forward(NAMESPACE, f"svc/{BOT}-weaviate", 8080) as http,
        platform.cluster.forward(NAMESPACE, f"svc/{BOT}-weaviate", 50051) as grpc,
        weaviate.connect_to_local(port=http, grpc_port=grpc, auth_credentials=key, skip_init_checks=True) as client,
    ):
        for name, config in client.collections.list_all(simple=False).items():
            if config.multi_tenancy_config.enabled:
                for tenant in client.collections.use(name).tenants.get():
                    found = (
                        client.collections.use(name)
                        .with_tenant(tenant)
                        .query.fetch_object_by_id(message, include_vector=True)
                    )
                    if found and found.vector:
                        return True
    return False


class TestHealing:
    def test_a_deleted_deployment_returns(self, cluster: Cluster, bot: None, figures: Figures) -> None:
        old = cluster.get("-n", NAMESPACE, "deploy", f"{BOT}-auth")["metadata"]["uid"]
        began = time.monotonic()
        cluster.kubectl("-n", NAMESPACE, "delete", "deploy", f"{BOT}-auth", "--wait=false")

        def new() -> bool:
            found = cluster.get("-n", NAMESPACE, "deploy", f"{BOT}-auth")
            return bool(found) and found["metadata"]["uid"] != old

        wait_for("the Deployment to return", new, 30, every=0.1)
        figures.note("deleted Deployment back", time.monotonic() - began)
        wait_for("Ready again", lambda: conditions(cluster)["Ready"]["status"] == "True", 120)

    def test_an_image_set_by_hand_is_taken_back(self, cluster: Cluster, bot: None) -> None:
        def image() -> str:
            spec = cluster.get("-n", NAMESPACE, "deploy", f"{BOT}-auth")["spec"]["template"]["spec"]
            name: str = spec["containers"][0]["image"]
            return name

        wanted = image()
        container = cluster.get("-n", NAMESPACE, "deploy", f"{BOT}-auth")["spec"]["template"]["spec"]["containers"][0]
        cluster.kubectl("-n", NAMESPACE, "set", "image", f"deploy/{BOT}-auth", f"{container['name']}=nowhere:1")
        wait_for("the image to be taken back", lambda: image() == wanted, 30)
        wait_for("Ready again", lambda: conditions(cluster)["Ready"]["status"] == "True", 120)


class TestEdit:
    def test_limits_roll_the_gateway_and_nothing_else(self, cluster: Cluster, bot: None) -> None:
        before = pods(cluster)
        edit(cluster, {"limits": {"perMinute": 100000, "perHour": 1000000, "perDay": 1000000}})
        after = pods(cluster)
        assert not before["gateway"] & after["gateway"]
        assert {part: uids for part, uids in after.items() if part != "gateway"} == {
            part: uids for part, uids in before.items() if part != "gateway"
        }

    def test_an_edited_faq_rolls_who_reads_it(self, cluster: Cluster, bot: None) -> None:
        before = pods(cluster)
        faqs = cluster.get("-n", NAMESPACE, "cm", "harbour-faqs")["data"]["faqs.yaml"]
        told = json.dumps({"data": {"faqs.yaml": faqs + "    # edited\n"}})
        cluster.kubectl("-n", NAMESPACE, "patch", "cm", "harbour-faqs", "--type=merge", "-p", told)

        def rolled() -> bool:
            now = pods(cluster)
            return not now.get("conversation-worker", set()) & before["conversation-worker"]

        wait_for("the worker to be replaced", rolled, 60)
        wait_for("Ready again", lambda: conditions(cluster)["Ready"]["status"] == "True", 120)
        after = pods(cluster)
        assert all(after[part] == before[part] for part in ("gateway", "auth", "chat", "postgres", "redis", "weaviate"))


class TestScaling:
    def test_load_scales_chat(self, platform: Platform, figures: Figures) -> None:
        token = sign_in(platform)
        began = time.monotonic()
        replicas = asyncio.run(load_until(platform, token, lambda: desired(platform.cluster) > 1, seconds=240))
        assert replicas, platform.cluster.kubectl("-n", NAMESPACE, "describe", "hpa", f"{BOT}-chat")
        figures.note("load → chat scaled", time.monotonic() - began)
        wait_for("a second chat pod to be ready", lambda: ready(platform.cluster) > 1, 120)
        # The operator leaves the count to the autoscaler.
        assert desired(platform.cluster) > 1


def desired(cluster: Cluster) -> int:
    count: int = cluster.get("-n", NAMESPACE, "deploy", f"{BOT}-chat")["spec"]["replicas"]
    return count


def ready(cluster: Cluster) -> int:
    count: int = cluster.get("-n", NAMESPACE, "deploy", f"{BOT}-chat")["status"].get("readyReplicas", 0)
    return count


async def load_until(platform: Platform, token: str, done: Any, seconds: float) -> bool:
    """Six people who keep asking, until `done()`; False when it did not come in time."""
    end = time.monotonic() + seconds
    headers = {"Authorization": f"Bearer {token}"}
    finished = asyncio.Event()

    async def person(client: httpx2.AsyncClient) -> None:
        while not finished.is_set():
            response = await client.post("/api/v1/chat/send", json={"content": QUESTION})
            assert response.status_code in (200, 429, 502, 503), response.text

    async def watch() -> bool:
        while time.monotonic() < end:
            if await asyncio.to_thread(done):
                return True
            await asyncio.sleep(2)
        return False

    async with httpx2.AsyncClient(base_url=platform.url, headers=headers, timeout=60) as client:
        people = [asyncio.create_task(person(client)) for _ in range(6)]
        try:
            return await watch()
        finally:
            finished.set()
            await asyncio.gather(*people)


class TestTrace:
    def test_one_request_is_one_trace_in_the_trace_store(self, cluster: Cluster, bot: None) -> None:
        cluster.kubectl("-n", NAMESPACE, "apply", "-f", str(ROOT / "k8s/samples/jaeger.yaml"))
        edit(cluster, {"telemetry": {"otlp": {"endpoint": f"http://jaeger.{NAMESPACE}:4318"}}})
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deploy/jaeger", "--timeout=60s")
        trace = uuid7().hex
        with cluster.forward(NAMESPACE, f"svc/{BOT}-gateway", 80) as port:
            platform = Platform(cluster, f"http://127.0.0.1:{port}")
            ask(platform, sign_in(platform), traceparent=f"00-{trace}-{'1' * 16}-01")
        with cluster.forward(NAMESPACE, "svc/jaeger", 16686) as port:
            wait_for("the whole trace", lambda: whole(f"http://127.0.0.1:{port}", trace, "1" * 16), 60)


def whole(url: str, trace: str, caller: str) -> bool:
    """Whether every service and store that took part is in the trace, and every span hangs on another or the caller."""
    response = httpx2.get(f"{url}/api/traces/{trace}")
    if response.status_code != 200:
        return False
    found = response.json()["data"][0]
    services = {process["serviceName"] for process in found["processes"].values()}
    spans: list[dict[str, Any]] = found["spans"]
    systems = {str(tag["value"]) for span in spans for tag in span["tags"] if tag["key"].startswith("db.system")}
    names = {span["operationName"] for span in spans}
    known = {span["spanID"] for span in spans} | {caller}
    return (
        {"gateway", "chat", "conversation"} <= services
        and {"redis", "postgresql", "weaviate"} <= systems
        and any(name.startswith("PUT /internal/turns") for name in names)
        and all(parent["spanID"] in known for span in spans for parent in span["references"])
    )


class TestRotation:
    """After whatever counts pods: a minute and a half later auth is rolled once more, by the step that follows."""

    def test_no_session_breaks_while_a_key_is_published(self, platform: Platform, figures: Figures) -> None:
        sign_in(platform)
        before = pods(platform.cluster)["auth"]
        with platform.client() as client:
            pair = client.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD}).json()

            def work(seconds: float) -> None:
                """As a client does that keeps calling; nothing is tried again."""
                nonlocal pair
                answer = client.post("/api/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]})
                assert answer.status_code == 200, answer.text
                pair, end = answer.json(), time.monotonic() + seconds
                while time.monotonic() < end:
                    answer = client.get("/api/v1/users/me", headers={"Authorization": f"Bearer {pair['access_token']}"})
                    assert answer.status_code == 200, answer.text
                    time.sleep(0.05)

            def rolled() -> bool:
                work(1)
                return not pods(platform.cluster).get("auth", set()) & before

            assert len(published(client)) == 1
            began = time.monotonic()
            asked = "chatbot-operator.io/rotate-keys=e2e"
            platform.cluster.kubectl("-n", NAMESPACE, "annotate", f"cbd/{BOT}", asked)
            wait_for("auth to be replaced", rolled, 90, every=0)
            figures.note("rotate-keys → published by every pod", time.monotonic() - began)
            # The old pod still serves for a moment, and then lets go of its connections.
            work(8)
            assert len(published(client)) == 2


def published(client: httpx2.Client) -> list[Any]:
    """Keys that tokens may be signed with."""
    found: list[Any] = client.get("/api/v1/.well-known/jwks.json").json()["keys"]
    return found


class TestBadInput:
    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ({"limitz": {}}, "limitz"),
            ({"limits": {"perMinute": "many"}}, "perMinute"),
            ({"components": {"chat": {"scaling": {"mode": "Fixed"}}}}, "replicas"),
        ],
    )
    def test_the_api_server_refuses(self, cluster: Cluster, bot: None, spec: dict[str, Any], said: str) -> None:
        answer = apply_bot(cluster, NAMESPACE, "refused", spec, check=False)
        assert said in answer
        assert cluster.get("-n", NAMESPACE, "cbd", "refused") is None
