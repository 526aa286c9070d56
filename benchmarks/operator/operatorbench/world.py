"""Many resources, and what is seen of them and their children: when each thing came to be."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from operatorbench.api import MERGE, METADATA_LIST, Api, Object
from operatorbench.machine import Failed

BOTS = "apis/chatbot-operator.io/v1alpha1"
PER_NAMESPACE = 50
AT_ONCE = 16
BOT = "chatbot-operator.io/bot"
OURS = "app.kubernetes.io/managed-by%3Dchatbot-operator"
FIXED = {"mode": "Fixed", "replicas": 1}
SCALED = {"mode": "HPA", "minReplicas": 1, "maxReplicas": 3}
COMPONENTS = ("gateway", "auth", "chat", "conversation")
CHILDREN = {
    "ConfigMap": "api/v1/configmaps",
    "Secret": "api/v1/secrets",
    "Service": "api/v1/services",
    "ServiceAccount": "api/v1/serviceaccounts",
    "Deployment": "apis/apps/v1/deployments",
    "StatefulSet": "apis/apps/v1/statefulsets",
    "Job": "apis/batch/v1/jobs",
    "PodDisruptionBudget": "apis/policy/v1/poddisruptionbudgets",
}
TIMED = ("ConfigMap", "Service", "Deployment")
"""Kinds whose coming is watched: an edit makes a ConfigMap first, a Service is deleted, a Deployment is made last."""

T = TypeVar("T")
Key = tuple[str, str]
"""Namespace and name of a resource."""


def keys(size: int) -> list[Key]:
    """PER_NAMESPACE to a namespace, as teams share a cluster."""
    return [(f"team-{number // PER_NAMESPACE:03}", f"bot-{number:04}") for number in range(size)]


class World:
    """Times are of the monotonic clock, when the watch told it here."""

    def __init__(self, api: Api, bots: list[Key], scaling: Object) -> None:
        self.api = api
        self.spec = {"profile": "Standard", "components": {name: {"scaling": scaling} for name in COMPONENTS}}
        self.bots = bots
        self.added: defaultdict[tuple[Key, str], list[tuple[float, str]]] = defaultdict(list)
        """By resource and kind: when a child appeared, and its name."""
        self.ready: dict[Key, int] = {}
        """Generation at which each resource was last ready; it is absent while it is not."""

    async def create(self) -> None:
        for namespace in sorted({namespace for namespace, _ in self.bots}):
            await self.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})

        async def one(key: Key) -> None:
            head = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment"}
            body = head | {"metadata": {"name": key[1]}, "spec": self.spec}
            await self.api.request("POST", f"/{BOTS}/namespaces/{key[0]}/chatbotdeployments", body)

        await at_once(one, self.bots)

    async def edit(self, key: Key, per_minute: int) -> float:
        """Change what the gateway is told. When it was sent."""
        began = time.monotonic()
        body = {"spec": {"limits": {"perMinute": per_minute}}}
        await self.api.request("PATCH", f"/{BOTS}/namespaces/{key[0]}/chatbotdeployments/{key[1]}", body, MERGE)
        return began

    async def appeared(self, key: Key, kind: str, since: float, seconds: float) -> float:
        """When the first child of that kind came after `since`."""

        def first() -> float | None:
            return next((when for when, _ in self.added[key, kind] if when > since), None)

        return await until(f"a {kind} of {key[1]}", first, seconds)

    async def count(self) -> int:
        """Children of all resources."""
        found = 0
        for path in CHILDREN.values():
            page = ""
            while True:
                where = f"/{path}?labelSelector={OURS}&limit=500&continue={page}"
                answer = await self.api.request("GET", where, accept=METADATA_LIST)
                found += len(answer["items"])
                page = answer["metadata"].get("continue") or ""
                if not page:
                    break
        return found

    async def watch_children(self, kind: str) -> None:
        async for event in self.api.watch(f"/{CHILDREN[kind]}", OURS, metadata=True):
            metadata = event["object"]["metadata"]
            if event["type"] == "ADDED":
                key = (metadata["namespace"], metadata["labels"][BOT])
                self.added[key, kind].append((time.monotonic(), metadata["name"]))

    async def watch_bots(self) -> None:
        async for event in self.api.watch(f"/{BOTS}/chatbotdeployments"):
            bot = event["object"]
            key = (bot["metadata"]["namespace"], bot["metadata"]["name"])
            if _is_ready(bot):
                self.ready[key] = bot["metadata"]["generation"]
            else:
                self.ready.pop(key, None)


@asynccontextmanager
async def world(api: Api, size: int, scaling: Object) -> AsyncIterator[World]:
    seen = World(api, keys(size), scaling)
    watching = [asyncio.create_task(seen.watch_children(kind)) for kind in TIMED]
    watching.append(asyncio.create_task(seen.watch_bots()))
    try:
        yield seen
    finally:
        for task in watching:
            task.cancel()


def _is_ready(bot: Object) -> bool:
    status = bot.get("status") or {}
    if status.get("observedGeneration") != bot["metadata"]["generation"]:
        return False
    return any(item["type"] == "Ready" and item["status"] == "True" for item in status["conditions"])


async def at_once(work: Callable[[Key], Awaitable[T]], bots: Iterable[Key], limit: int = AT_ONCE) -> list[T]:
    """Results in order, of `limit` requests at a time."""
    slots = asyncio.Semaphore(limit)

    async def one(key: Key) -> T:
        async with slots:
            return await work(key)

    return await asyncio.gather(*map(one, bots))


async def until(what: str, look: Callable[[], float | None], seconds: float) -> float:
    end = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > end:
            raise Failed(f"waited {seconds:.0f} s for {what}")
        await asyncio.sleep(0.02)
    return found
