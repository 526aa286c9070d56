"""A new password: who reads it is rolled, once, and nobody else. The guides tell what that costs.

And what the status says of each: whose it is to change, and when it was changed last.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from chatbot_operator.referenced import written
from chatbot_operator.world import Manifest
from chatbot_resource.status import SecretStatus

from tests.operator import test_cloudnativepg
from tests.operator.running import BOT, Run, World
from tests.operator.simulated import Cluster, make_bot
from tests.operator.specs import DEV, EMBEDDINGS, EXTERNAL, LLM
from tests.operator.test_cloudnativepg import APIS, stores
from tests.support.apiserver import playing_kubelet

pytestmark = pytest.mark.timeout(240)

api_server, cloud_native_pg = test_cloudnativepg.api_server, test_cloudnativepg.cloud_native_pg

WORKERS = {"conversation", "conversation-worker"}
POSTGRES = {"auth-db": {"auth"}, "conversation-db": WORKERS}
READERS = POSTGRES | {
    "cache": {"gateway", "chat"},
    "vectors": WORKERS,
    "openai": {"chat"},
    "embeddings": WORKERS,
    "docs-token": {"chat"},
    "tickets-token": {"chat"},
}
"""Of each Secret that a user brings."""
KEYS = dict.fromkeys(("auth-db", "conversation-db", "cache"), "uri") | {
    "openai": "api-key",
    "embeddings": "api-key",
}
"""The key that is read of it; else `token`."""
BROUGHT: dict[str, Any] = {
    "profile": "Dev",
    "stores": EXTERNAL
    | {
        "vectors": {
            "type": "Weaviate",
            "mode": "External",
            "external": {"url": "https://vectors.example.com", "secretRef": {"name": "vectors", "key": "token"}},
        }
    },
    "llm": {**LLM, "prompts": []},
    "embeddings": EMBEDDINGS,
    "tools": {
        "mcpServers": [
            {
                "name": name,
                "url": f"https://{name}.example.com/mcp",
                "secretRef": {"name": f"{name}-token", "key": "token"},
            }
            for name in ("docs", "tickets")
        ]
    },
}
FIELDS = {
    "stores.postgres.external.authSecretRef": "auth-db",
    "stores.postgres.external.conversationSecretRef": "conversation-db",
    "stores.redis.external.secretRef": "cache",
    "stores.vectors.external.secretRef": "vectors",
    "llm.providers[openai].apiKeySecretRef": "openai",
    "embeddings.apiKeySecretRef": "embeddings",
    "tools.mcpServers[docs].secretRef": "docs-token",
    "tools.mcpServers[tickets].secretRef": "tickets-token",
}
GENERATED = {
    "postgres": {"postgres", "auth"} | WORKERS,
    "redis": {"redis", "gateway", "chat"},
    "weaviate": {"weaviate"} | WORKERS,
}
"""Of each Secret that the operator makes: the store too, which knows one password at a time."""
ROLES = {"postgres-auth": {"auth"}, "postgres-conversation": WORKERS}
"""Of each that it makes for CloudNativePG, which changes the role's password in the running database."""
KEPT = {"gateway-key", "auth-key", "chat-key", "conversation-key", "admin"}
"""Besides, of every bot."""


def generations(world: World) -> dict[str, int]:
    """Of each part: one more for each change, and each change of ours is a rollout."""
    found = [item for kind in ("Deployment", "StatefulSet") for item in world.api.list(kind, world.namespace)]
    return {item["metadata"]["name"].removeprefix(f"{BOT}-"): item["metadata"]["generation"] for item in found}


async def ready(run: Run, world: World) -> None:
    await run.until("Ready", "True")


async def settled(world: World, run: Run, ready: Callable[[Run, World], Awaitable[None]] = ready) -> dict[str, int]:
    """Generations once it is Ready and a reconcile has nothing left to write."""
    before = -1
    while before != world.writes():
        before = world.writes()
        await ready(run, world)
    return generations(world)


def rolled(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Parts and how often."""
    assert before.keys() == after.keys()
    return {part: after[part] - count for part, count in before.items() if after[part] != count}


def told(run: Run) -> dict[str, SecretStatus]:
    """What the status says, by purpose."""
    return {item.purpose: item for item in run.status().secrets}


async def test_that_a_user_brings_rolls_its_readers_once(world: World) -> None:
    for name in READERS:
        values = {KEYS.get(name, "token"): "old"}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
        world.api.create(secret, world.namespace)
    world.create_bot(BROUGHT)
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        before = await settled(world, run)
        rows = told(run)
        assert {row.purpose: row.secret for row in rows.values() if row.rotates == "ByOwner"} == FIELDS
        await asyncio.sleep(1.1)  # what the API server's times are cut down to
        for name, readers in READERS.items():
            world.api.patch("Secret", world.namespace, name, {"stringData": {KEYS.get(name, "token"): "new"}})
            after = await settled(world, run)
            assert rolled(before, after) == dict.fromkeys(readers, 1), name
            before = after
            new, [field] = told(run), [field for field, secret in FIELDS.items() if secret == name]
            assert {purpose for purpose in rows if rows[purpose] != new[purpose]} == {field}
            assert new[field].rotated_at > rows[field].rotated_at
            rows = new
        assert "old" not in str(rows)
        assert "new" not in str(rows)


async def test_of_a_store_of_ours_is_made_by_deleting_it_and_rolls_the_store_too(world: World) -> None:
    world.create_bot({"profile": "Dev", "stores": {"vectors": {"type": "Weaviate"}}})
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        before = await settled(world, run)
        rows = told(run)
        assert {row.purpose for row in rows.values() if row.rotates == "Manual"} == KEPT | GENERATED.keys()
        assert rows["signing-keys"].rotates == "Scheduled"
        assert all(row.secret == f"{BOT}-{row.purpose}" for row in rows.values())
        await asyncio.sleep(1.1)
        for name, readers in GENERATED.items():
            password = run.secret(name)["data"]
            world.api.delete("Secret", world.namespace, f"{BOT}-{name}")
            after = await settled(world, run)
            assert rolled(before, after) == dict.fromkeys(readers, 1)
            assert not password.items() & run.secret(name)["data"].items()
            assert told(run)[name].rotated_at == run.secret(name)["metadata"]["creationTimestamp"]
            assert told(run)[name].rotated_at > rows[name].rotated_at
            before = after


@pytest.mark.usefixtures("cloud_native_pg")
async def test_of_a_role_of_cloudnativepg_rolls_its_readers_and_no_store(world: World) -> None:
    world.create_bot({"profile": "Dev"} | stores())
    run = Run(world, lambda: APIS)
    with playing_kubelet(world.api, world.namespace):
        before = await settled(world, run, test_cloudnativepg.ready)
        assert {row.purpose for row in told(run).values() if row.rotates == "Manual"} == KEPT | ROLES.keys() | {"redis"}
        cluster = world.existing("Cluster", f"{BOT}-postgres")["metadata"]["generation"]
        for name, readers in ROLES.items():
            old = run.secret(name)
            world.api.delete("Secret", world.namespace, f"{BOT}-{name}")
            after = await settled(world, run, test_cloudnativepg.ready)
            assert rolled(before, after) == dict.fromkeys(readers, 1)
            new = run.secret(name)
            assert new["data"]["username"] == old["data"]["username"]
            assert new["data"]["password"] != old["data"]["password"]
            assert new["metadata"]["labels"]["cnpg.io/reload"] == "true", "else CloudNativePG does not see it"
            before = after
        assert world.existing("Cluster", f"{BOT}-postgres")["metadata"]["generation"] == cluster


class TestWritten:
    """When the content of a Secret changed last is what the API server knows of it."""

    @staticmethod
    def secret(*entries: tuple[str, str]) -> Manifest:
        fields = [{"manager": "m", "time": time, "fieldsV1": {field: {}}} for field, time in entries]
        return {"metadata": {"creationTimestamp": "2026-11-01T00:00:00Z", "managedFields": fields}}

    def test_labels_do_not_count(self) -> None:
        live = self.secret(("f:data", "2026-11-02T00:00:00Z"), ("f:metadata", "2026-11-03T00:00:00Z"))
        assert written(live) == "2026-11-02T00:00:00Z"

    def test_the_last_counts(self) -> None:
        live = self.secret(("f:data", "2026-11-02T00:00:00Z"), ("f:data", "2026-11-04T00:00:00Z"))
        assert written(live) == "2026-11-04T00:00:00Z"

    def test_it_is_as_old_as_the_secret_where_nothing_is_kept_of_it(self) -> None:
        assert written(self.secret()) == "2026-11-01T00:00:00Z"


def test_one_that_is_not_there_is_not_told() -> None:
    cluster = Cluster(make_bot(DEV | {"stores": EXTERNAL})).converge()
    del cluster.children["Secret", "demo-chat-key"]
    purposes = {item.purpose for item in cluster.report().secrets}
    assert "chat-key" not in purposes
    assert "stores.redis.external.secretRef" not in purposes, "nobody has read it yet"
