"""Stores that cannot be reached: pods say so on their private port, and the resource says which, where and to whom."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from aiohttp import web
from chatbot_common.app import Probes, private_app
from chatbot_operator import names
from chatbot_operator.asking import ask as ask_targets
from chatbot_operator.asking import unready as targets
from chatbot_operator.known import Known
from chatbot_operator.outside import Outside
from chatbot_operator.process import RULES
from chatbot_operator.queue import Key
from chatbot_operator.world import Answer, Manifest
from chatbot_resource.status import Condition, Status

from tests.operator.running import BOT, LOOK_SECONDS, SECONDS, SETTINGS, Run, World
from tests.operator.simulated import Cluster, make_bot
from tests.operator.specs import EXTERNAL
from tests.support.apiserver import Object, playing_kubelet, wait_for
from tests.support.patience import within

pytestmark = pytest.mark.timeout(120)

PGVECTOR = {"type": "PGVector"}
WEAVIATE = {
    "type": "Weaviate",
    "mode": "External",
    "external": {"url": "https://vectors.example.com:8443/deep", "grpcPort": 50051},
}
OWN: dict[str, Any] = {"profile": "Dev", "stores": EXTERNAL | {"vectors": PGVECTOR}}
LOST = {"status": "not-ready", "draining": False, "checks": {"database": "ConnectionRefusedError", "jobs": "timeout"}}
READY = {"status": "ready", "draining": False, "checks": {"database": "ok"}}
OVERDUE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}


def condition(told: Status, kind: str) -> Condition:
    return next(item for item in told.conditions if item.type == kind)


def unready() -> dict[str, Any]:
    """Status of a pod whose container runs."""
    container = {
        "name": "service",
        "image": "service:1",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-11-21T06:00:00Z"}},
    }
    return {
        "phase": "Running",
        "podIP": "127.0.0.1",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [container],
    }


@dataclass
class Service:
    """Stands for a pod's private port."""

    says: Any = field(default_factory=lambda: LOST)
    asked: int = 0
    port: int = 0

    async def readyz(self, _: web.Request) -> web.StreamResponse:
        self.asked += 1
        if isinstance(self.says, web.HTTPException):
            raise self.says
        body = self.says if isinstance(self.says, str) else json.dumps(self.says)
        ready = isinstance(self.says, dict) and self.says.get("status") == "ready"
        return web.Response(text=body, status=200 if ready else 503)


@contextlib.asynccontextmanager
async def serving(service: Service) -> AsyncIterator[Service]:
    app = web.Application()
    app.router.add_get("/readyz", service.readyz)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        service.port = runner.addresses[0][1]
        yield service
    finally:
        await runner.cleanup()


def pod(port: int, name: str = "demo-auth-1", part: str = "auth", **status: Any) -> Manifest:
    labels = {"app.kubernetes.io/name": "chatbot", "app.kubernetes.io/component": part}
    ports = [{"name": "http", "containerPort": 1}, {"name": "private", "containerPort": port}]
    return {
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": part, "ports": ports}]},
        "status": unready() | status,
    }


async def ask(pods: list[Manifest]) -> dict[str, Answer]:
    return await ask_targets(targets(pods))


class TestAsking:
    async def test_hears_which_checks_of_stores_fail(self) -> None:
        async with serving(Service()) as service:
            found = await ask([pod(service.port)])
        assert found == {"demo-auth-1": Answer(ready=False, failing={"database": "ConnectionRefusedError"})}

    async def test_understands_what_services_answer(self) -> None:
        async def away() -> None:
            raise ConnectionRefusedError("postgres.example.com")

        transport = httpx2.ASGITransport(private_app(Probes({"database": away})))
        async with httpx2.AsyncClient(transport=transport, base_url="http://pod") as client:
            body = (await client.get("/readyz?verbose")).json()
        async with serving(Service(body)) as service:
            found = await ask([pod(service.port)])
        assert found == {"demo-auth-1": Answer(ready=False, failing={"database": "ConnectionRefusedError"})}

    async def test_hears_that_it_is_ready_after_all(self) -> None:
        async with serving(Service(READY)) as service:
            assert await ask([pod(service.port)]) == {"demo-auth-1": Answer(ready=True, failing={})}

    @pytest.mark.parametrize(
        "status",
        [
            {"conditions": [{"type": "Ready", "status": "True"}]},
            {"podIP": ""},
            {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            {"containerStatuses": []},
        ],
        ids=["ready", "without an address", "crashed", "not started"],
    )
    async def test_leaves_others_alone(self, status: Mapping[str, Any]) -> None:
        async with serving(Service()) as service:
            assert await ask([pod(service.port, **status)]) == {}
            assert await ask([pod(service.port, part="postgres")]) == {}
        assert service.asked == 0

    async def test_asks_few_of_many(self) -> None:
        async with serving(Service()) as service:
            found = await ask([pod(service.port, f"demo-auth-{number}") for number in range(50)])
        assert len(found) == service.asked == 2

    @pytest.mark.parametrize(
        "says",
        [
            "",
            "no",
            "[]",
            {"status": "not-ready", "checks": {"database": "call 555-0100"}},
            {"status": "not-ready", "checks": {"database": "x" * 65}},
            {"status": "not-ready", "checks": {"database": {"a": "b"}}},
            {"status": "fine"},
            {"status": "not-ready", "more": "x" * 100_000},
            web.HTTPFound("http://127.0.0.1:1/"),
        ],
        ids=lambda says: str(says)[:50],
    )
    async def test_passes_over_what_is_no_answer(self, says: Any) -> None:
        async with serving(Service(says)) as service:
            assert await ask([pod(service.port)]) == {}
            assert service.asked == 1

    async def test_passes_over_who_does_not_listen(self) -> None:
        async with serving(Service()) as service:
            pass
        assert await ask([pod(service.port)]) == {}


def lose(cluster: Cluster, part: str, failing: Mapping[str, str], ready: bool = False) -> Manifest:
    """A component's only pod runs, is not ready, and says why."""
    live = cluster.child("Deployment", f"demo-{part}")
    live["status"] |= {"readyReplicas": 0, "availableReplicas": 0}
    cluster.pod(part, f"demo-{part}-1", unready())
    cluster.answers[f"demo-{part}-1"] = Answer(ready, failing)
    return live


def external(**stores: Any) -> Cluster:
    return Cluster(make_bot(OWN | {"stores": OWN["stores"] | stores})).converge()


class TestStatus:
    def test_names_the_store_and_who_says_so(self) -> None:
        cluster = external()
        assert condition(cluster.report(), "PostgresReady").reason == "External"
        lose(cluster, "auth", {"database": "OperationalError"})
        told = cluster.report()
        text = "Pods of auth cannot use the Postgres whose address is in Secret auth-db: OperationalError."
        for kind in ("PostgresReady", "Ready", "Available"):
            found = condition(told, kind)
            assert (found.status, found.reason, found.message) == ("False", "StoreUnreachable", text)
        assert next(item.reason for item in told.components if item.name == "auth") == f"StoreUnreachable: {text}"
        assert condition(told, "CacheReady").status == "True"
        assert (told.phase, condition(told, "Degraded").status) == ("Failed", "True")

    @pytest.mark.parametrize(
        ("part", "check", "vectors", "kind", "named"),
        [
            ("conversation", "database", PGVECTOR, "PostgresReady", "Secret conversation-db"),
            ("conversation-worker", "vectors", PGVECTOR, "VectorStoreReady", "Secret conversation-db"),
            ("conversation-worker", "vectors", WEAVIATE, "VectorStoreReady", "Weaviate at vectors.example.com:8443:"),
            ("gateway", "redis", PGVECTOR, "CacheReady", "Secret cache"),
        ],
    )
    def test_of_each_store(self, part: str, check: str, vectors: Any, kind: str, named: str) -> None:
        cluster = external(vectors=vectors)
        lose(cluster, part, {check: "timeout"})
        found = condition(cluster.report(), kind)
        assert (found.status, found.reason) == ("False", "StoreUnreachable")
        assert f"of {part} " in found.message
        assert named in found.message

    def test_of_stores_that_we_run(self) -> None:
        cluster = Cluster(make_bot({"profile": "Dev"})).converge()
        lose(cluster, "conversation-worker", {"database": "timeout", "vectors": "timeout"})
        told = cluster.report()
        assert "StatefulSet demo-postgres" in condition(told, "PostgresReady").message
        assert "StatefulSet demo-weaviate" in condition(told, "VectorStoreReady").message

    def test_a_store_that_starts_says_so_itself(self) -> None:
        cluster = Cluster(make_bot({"profile": "Dev"})).converge()
        cluster.child("StatefulSet", "demo-postgres")["status"]["readyReplicas"] = 0
        lose(cluster, "auth", {"database": "timeout"})
        told = cluster.report()
        assert condition(told, "PostgresReady").reason == "Starting"
        assert condition(told, "Degraded").status == "False"

    def test_a_host_name_that_is_none_is_called_so(self) -> None:
        cluster = external()
        lose(cluster, "auth", {"database": "gaierror"})
        assert condition(cluster.report(), "PostgresReady").message.endswith(": its host name is not found.")

    @pytest.mark.parametrize("state", ["ConnectionRefusedError", "TimeoutError", "ConnectTimeout", "OSError"])
    def test_says_the_same_of_each_attempt_and_whichever_pod_answers(self, state: str) -> None:
        cluster = external()
        lose(cluster, "auth", {"database": "timeout"})
        lose(cluster, "gateway", {"redis": "AuthenticationError"})
        before = cluster.report()
        cluster.pod("auth", "demo-auth-2", unready())
        cluster.answers = {
            "demo-auth-2": Answer(False, {"database": state}),
            "demo-gateway-1": Answer(False, {"redis": "AuthenticationError"}),
        }
        assert cluster.report() == before
        assert condition(before, "PostgresReady").message.endswith("auth-db: no connection.")
        assert condition(before, "CacheReady").message.endswith(": AuthenticationError.")

    def test_rolls_out_as_long_as_no_store_is_away(self) -> None:
        cluster = external()
        lose(cluster, "auth", {}, ready=True)
        told = cluster.report()
        assert condition(told, "Ready").reason == "RollingOut"
        assert condition(told, "PostgresReady").reason == "External"


class TestRollback:
    def overdue(self, ready: bool = False, **failing: str) -> Cluster:
        cluster = external()
        cluster.edit(limits={"perMinute": 2})
        lose(cluster, "auth", failing, ready)["status"] |= {"conditions": [OVERDUE]}
        return cluster

    def given_up(self, cluster: Cluster) -> bool:
        chosen = RULES.effective(cluster.bot, cluster.observed, None, SETTINGS)
        return chosen.rolled_back is not None

    def test_mends_no_store(self) -> None:
        cluster = self.overdue(database="timeout")
        assert not self.given_up(cluster)
        assert condition(cluster.report(), "Ready").reason == "StoreUnreachable"

    def test_is_not_begun_when_the_store_is_just_back(self) -> None:
        cluster = self.overdue(ready=True)
        assert not self.given_up(cluster)
        cluster.pods[0]["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        cluster.answers.clear()
        assert not self.given_up(cluster)

    def test_is_for_a_wrong_address(self) -> None:
        """Which is where the pod from before can use its store, and the new one cannot."""
        cluster = self.overdue(database="timeout")
        live = cluster.child("Deployment", "demo-auth")
        live["metadata"]["annotations"] |= {"deployment.kubernetes.io/revision": "2"}
        cluster.children["ReplicaSet", "demo-auth-2"] = {
            "kind": "ReplicaSet",
            "metadata": {
                "name": "demo-auth-2",
                "labels": {"pod-template-hash": "2"},
                "annotations": {"deployment.kubernetes.io/revision": "2"},
                "ownerReferences": [{"uid": live["metadata"]["uid"]}],
            },
            "spec": {"template": {"spec": {}}},
        }
        cluster.pods[0]["metadata"]["labels"]["pod-template-hash"] = "2"
        cluster.pod("auth", "demo-auth-0", {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
        assert self.given_up(cluster)

    def test_is_for_pods_that_say_nothing_or_fail_of_something_else(self) -> None:
        cluster = self.overdue()
        assert self.given_up(cluster)
        cluster.answers.clear()
        assert self.given_up(cluster)


AUTH = f"app.kubernetes.io/component=auth,chatbot-operator.io/bot={BOT}"
CHAT = AUTH.replace("auth", "chat")
NEW = "auth:new"


def is_new(seen: Object) -> bool:
    """Whether it is of the service; a migration of the new image runs."""
    return seen["spec"]["containers"][0]["image"] == NEW and "job-name" not in seen["metadata"]["labels"]


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """On the port that all pods are made with."""
    async with serving(Service()) as found:
        monkeypatch.setattr(names, "PRIVATE_PORT", found.port)
        yield found


def begin(world: World, outside: Outside | None = None, **spec: Any) -> Run:
    for name in ("auth-db", "conversation-db", "cache"):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"uri": "x"}}
        world.api.create(secret, world.namespace)
    world.create_bot(OWN | spec)
    return Run(world, outside=outside)


def become(world: World, status: Mapping[str, Any], pods: str = AUTH) -> None:
    """All pods of auth, or of another component."""
    for found in world.api.list("Pod", world.namespace, pods):
        with contextlib.suppress(httpx2.HTTPStatusError):  # a rollout took it meanwhile
            world.api.patch_status("Pod", world.namespace, found["metadata"]["name"], dict(status))


class TestCluster:
    async def test_is_told_while_it_lasts_and_no_longer(self, world: World, service: Service) -> None:
        queued: list[Key] = []
        outside = Outside(Known(), queued.append)
        run = begin(world, outside)
        with playing_kubelet(world.api, world.namespace):
            await run.until("Ready", "True")
            assert service.asked == 0
            become(world, unready())
            told = await run.until("PostgresReady", "False", "StoreUnreachable")
            assert condition(told, "PostgresReady").message.endswith("in Secret auth-db: no connection.")
            await run.until("Available", "False", "StoreUnreachable")
            writes, asked = world.writes(), service.asked
            again = await run.reconcile(world.key)
            assert again is not None
            assert again < 15
            assert (world.writes(), service.asked) == (writes, asked + 1)

            service.says = READY
            await run.until("PostgresReady", "True", "External")
            become(world, {"conditions": [{"type": "Ready", "status": "True"}]})
            await run.until("Ready", "True")
            asked = service.asked
            async with within(SECONDS):
                # Autoscalers that have not said anything yet are looked at again sooner.
                while (await run.reconcile(world.key) or 0) < 60:
                    await asyncio.sleep(LOOK_SECONDS)
            assert service.asked == asked

            # Those of chat go on without Redis, and nothing but they tells of it.
            become(world, {"podIP": "127.0.0.1"}, CHAT)
            await run.until("CacheReady", "True", "External")
            service.says = READY | {"reported": {"redis": "ConnectionError"}}
            await outside.once()
            assert queued == [world.key]
            told = await run.until("CacheReady", "False", "StoreUnreachable")
            assert condition(told, "Available").status == "True"
            writes = world.writes()
            await run.reconcile(world.key)
            await outside.once()
            assert (world.writes(), queued) == (writes, [world.key])
            service.says = READY
            await outside.once()
            assert len(queued) == 2
            await run.until("Ready", "True")

    async def test_is_no_cause_to_roll_back(self, world: World, service: Service) -> None:
        run = begin(world, rollout={"deadline": "3s"})
        with playing_kubelet(world.api, world.namespace, lambda found: not is_new(found)):
            await run.until("Ready", "True")
            become(world, unready())
            run.edit(images={"auth": NEW})
            await run.until("PostgresReady", "False", "StoreUnreachable")

            async with within(SECONDS):
                while not any(map(is_new, world.api.list("Pod", world.namespace, AUTH))):
                    await run.reconcile(world.key)
            become(world, unready())
            wait_for("the deadline", lambda: self.is_overdue(world))
            for _ in range(3):
                await run.reconcile(world.key)
                assert run.ready(run.status()) == ("False", "StoreUnreachable")
            service.says = READY
            await run.reconcile(world.key)
            become(world, {"conditions": [{"type": "Ready", "status": "True"}]})
            told = await run.until("Ready", "True")
            assert told.version.rolled_back is None
            assert all(map(is_new, world.api.list("Pod", world.namespace, AUTH)))

    def is_overdue(self, world: World) -> bool:
        found = world.existing("Deployment", f"{BOT}-auth")["status"].get("conditions") or []
        return any(item.get("reason") == OVERDUE["reason"] for item in found)
