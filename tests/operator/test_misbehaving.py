"""Reconciles through an API server that misbehaves: each request may fail in each way, and all converges afterwards.

The queue, the reconciler and the client are the real ones, with a plan as small as can be. Watches that misbehave are
in test_watches.py, what each answer means in test_faults.py.
"""

import asyncio
import base64
import contextlib
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from chatbot_operator import cluster as clusters
from chatbot_operator import queue
from chatbot_operator.cluster import Cluster
from chatbot_operator.components.metadata import manifest
from chatbot_operator.connection import KUBECONFIG, api_client, configuration
from chatbot_operator.kinds import OURS
from chatbot_operator.metrics import Metrics
from chatbot_operator.queue import Queue
from chatbot_operator.world import Manifest, Observed
from chatbot_resource.model import ChatbotDeployment

from tests.operator.running import SmallPlan, World, config, deployment, step
from tests.support.apiserver import ApiServer
from tests.support.misbehaviour import answer, cut, halve, hang, lose
from tests.support.patience import clock
from tests.support.proxy import WRITES, Fault, Way, proxy

FAULTS: dict[str, Fault] = {
    "conflict": answer(409, "Conflict"),
    "exists": answer(409, "AlreadyExists"),
    "busy": answer(429, "TooManyRequests", retry_after=1),
    "error": answer(500, "InternalError"),
    "away": answer(503, "ServiceUnavailable"),
    "refused": answer(403, "Forbidden"),
    "webpage": answer(502),
    "silent": hang,
    "cut": cut,
    "lost": lose,
    "halved": halve,
}
KINDS = ("ConfigMap", "Deployment", "Secret")


def plan() -> SmallPlan:
    """A generated Secret, a ConfigMap and a Deployment, named after the resource."""

    def key(bot: ChatbotDeployment) -> Manifest:
        return manifest(bot, "secrets", "Secret", f"{bot.name}-key", {"type": "Opaque"})

    def missing(bot: ChatbotDeployment, observed: Observed) -> list[Manifest]:
        made = key(bot) | {"data": {"key": base64.b64encode(secrets.token_bytes()).decode()}}
        return [] if observed.child("Secret", f"{bot.name}-key") else [made]

    return SmallPlan(
        lambda bot, _: [
            step("secrets", key(bot)),
            step("chat", config(bot, name=f"{bot.name}-config"), deployment(bot)),
        ],
        secrets=missing,
    )


@dataclass
class Scene:
    world: World
    way: Way
    queue: Queue

    def create(self, name: str) -> None:
        self.world.create_bot(name=name)
        self.queue.add((self.world.namespace, name))

    def again(self, name: str) -> None:
        """As an event would have it."""
        self.queue.add((self.world.namespace, name))

    def ready(self, name: str) -> bool:
        found = self.world.existing("ChatbotDeployment", name)
        conditions = found.get("status", {}).get("conditions", [])
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

    def children(self) -> dict[tuple[str, str], Manifest]:
        """What the operator made, of all resources."""
        found = {kind: self.world.api.list(kind, self.world.namespace, OURS) for kind in KINDS}
        return {(kind, item["metadata"]["name"]): item for kind, items in found.items() for item in items}

    def asked(self, name: str, *verbs: str, since: float = 0.0, seconds: float = math.inf) -> int:
        return sum(one.at < since + seconds for one in self.way.asked(*verbs, path=about(name), since=since))


def about(name: str) -> str:
    """Requests that concern one resource: itself, its children, lists of them."""
    return rf"(/{name}(-key|-config|-chat)?([/?]|$))|(bot(=|%3D){name}(&|$))"


async def until(what: str, condition: Callable[[], bool], seconds: float = 30) -> None:
    end = clock() + seconds
    while not condition():
        assert clock() < end, f"waited {seconds:.0f} s for {what}"
        await asyncio.sleep(0.1)


@pytest.fixture
async def scene(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(clusters, "TIMEOUT", aiohttp.ClientTimeout(total=1.5))
    with proxy(api_server, tmp_path) as way:
        monkeypatch.setenv(KUBECONFIG, str(way.kubeconfig))
        metrics = Metrics("0.1.0")
        async with api_client(await configuration(), metrics) as client:
            world = World(api_server, api_server.namespace(), Cluster(client), metrics)
            work = Queue(world.reconciler(plan()), workers=8)
            working = asyncio.create_task(work.run())
            yield Scene(world, way, work)
            work.stop()
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working


class TestOnceInAWhile:
    async def test_every_fault_is_survived_and_nothing_is_made_twice(self, scene: Scene) -> None:
        for name, fault in FAULTS.items():
            scene.way.rule(fault, path=about(name), every=3, times=3)
            scene.create(name)
        scene.create("calm")
        began = time.monotonic()
        await until("who has no trouble", lambda: scene.ready("calm"), 20)
        assert scene.asked("calm", *WRITES) == 4, "Secret, ConfigMap, Deployment, status: as without the others"
        first: dict[tuple[str, str], Manifest] = {}
        while not all(scene.ready(name) for name in FAULTS):
            first = scene.children() | first
            assert time.monotonic() - began < 40, [name for name in FAULTS if not scene.ready(name)]
            await asyncio.sleep(0.2)
        print(f"all ready after {time.monotonic() - began:.1f} s")
        scene.way.heal()
        last = scene.children()
        bots = [*FAULTS, "calm"]
        assert last.keys() == {
            (kind, f"{name}-{end}") for name in bots for kind, end in zip(KINDS, ("config", "chat", "key"), strict=True)
        }
        assert {key: item["metadata"]["uid"] for key, item in (last | first).items()} == {
            key: item["metadata"]["uid"] for key, item in last.items()
        }
        for key, item in first.items():
            assert item.get("data") == last[key].get("data"), key
        assert max(scene.asked(name) for name in FAULTS) < 200


class TestForEver:
    FAULTS = ("conflict", "exists", "error", "refused", "silent", "cut")

    async def test_is_backed_off_from_and_holds_nobody_up_and_heals(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queue, "EAGER_RETRY_SECONDS", 1.0)
        for name in self.FAULTS:
            scene.way.rule(FAULTS[name], *WRITES, path=about(name))
            scene.create(name)
        await asyncio.sleep(3)
        began = time.monotonic()
        scene.create("calm")
        await until("who has no trouble", lambda: scene.ready("calm"))
        await asyncio.sleep(max(0.0, began + 3 - time.monotonic()))
        tried = {name: scene.asked(name, *WRITES, since=began, seconds=3) for name in self.FAULTS}
        print(f"writes tried after the first 3 seconds: {tried}")
        # Two reconciles, and four writes in each where a refused one does not end it.
        assert max(tried.values()) <= 8, tried
        scene.way.heal()
        for name in self.FAULTS:
            scene.again(name)
        await until("all to be ready", lambda: all(scene.ready(name) for name in self.FAULTS), 20)


class TestJustInstalled:
    async def test_what_the_server_has_not_noticed_is_said_once_and_asked_for_again_soon(
        self, scene: Scene, logged: list[dict[str, object]]
    ) -> None:
        said = "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion a/v1"
        rule = scene.way.rule(answer(403, "Forbidden", said), "POST", "PATCH", path="/new-(key|config|chat)")
        scene.create("new")
        await until("some attempts", lambda: rule.met >= 4, 20)
        ready = scene.world.existing("ChatbotDeployment", "new")["status"]["conditions"][0]
        assert (ready["status"], ready["reason"]) == ("False", "NotCreated")
        assert ready["message"].startswith("Secret new-key is made once the API server's admission has noticed")
        scene.way.heal()
        healed = time.monotonic()
        await until("it to be ready", lambda: scene.ready("new"), 20)
        tried = [one.at for one in scene.way.asked("POST", path="/new-key")]
        assert min(at for at in tried if at > healed) - max(at for at in tried if at < healed) < 5
        assert len(scene.way.asked(*WRITES, path="/new/status")) == 2
        # A busy machine answers too late now and then, which is a line of its own.
        lines = (line for line in logged if "no answer to" not in str(line.get("error")))
        told = [line["event"] for line in lines if line["log_level"] != "debug" and line["event"] != "applied"]
        assert told == ["the API server has not noticed the new definition yet"]


class TestRetryAfter:
    async def test_is_honoured_by_that_resource_and_concerns_no_other(self, scene: Scene) -> None:
        rule = scene.way.rule(answer(429, "TooManyRequests", retry_after=3), "PATCH", path="/busy-config", times=1)
        scene.create("busy")
        await until("the answer", lambda: rule.met == 1)
        told = scene.way.asked(path="/busy-config")[-1].at
        scene.again("busy")
        scene.create("calm")
        await until("who was not asked to wait", lambda: scene.ready("calm"), 2.5)
        await until("who was", lambda: scene.ready("busy"), 10)
        after = [one.at for one in scene.way.asked(path=about("busy")) if one.at > told + 0.1]
        assert min(after) - told >= 3
