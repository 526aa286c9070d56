"""The ledger: each attempt once, with the reply that it belongs to or without one."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from chatbot_common.ids import uuid7
from chatbot_conversation.usage.store import sums
from sqlalchemy.dialects import postgresql

from tests.conversation.running import Conversation

SPENT = {"model": "main", "input_tokens": 30, "output_tokens": 12, "cost": 270, "estimated": False}
CACHED = SPENT | {"input_tokens": 0, "output_tokens": 0, "cost": 0}
NOW = datetime.now(UTC)


def entry(user_id: UUID, **fields: Any) -> dict[str, Any]:
    named = {"user_id": str(user_id), "run_id": str(uuid7()), "attempt": 1, "spent_at": NOW.isoformat()}
    return SPENT | named | fields


async def enter(service: Conversation, *entries: dict[str, Any]) -> httpx2.Response:
    return await service.client.post("/internal/usage", json={"entries": entries}, headers=service.as_chat())


async def total(
    service: Conversation, user_id: UUID | None, since: datetime = NOW, key_id: UUID | None = None
) -> dict[str, Any]:
    named = {"key_id": str(key_id)} if key_id else {}
    body = {"windows": [{"user_id": str(user_id) if user_id else None, "since": since.isoformat()} | named]}
    response = await service.client.post("/internal/usage/sums", json=body, headers=service.as_chat())
    [found] = response.json()["sums"]
    return dict(found)


class TestReply:
    async def test_brings_what_it_has_cost(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada)
        for _ in range(2):
            assert (await service.reply(turn, spent=SPENT)).json()["user_id"] == str(ada)
        assert await total(service, ada) == {"tokens": 42, "cost": 270, "recent": [f"{turn['turn_id']}:1"]}

    async def test_of_each_attempt_counts(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada, client_message_id="m1")
        await service.reply(turn, "half", status="failed", spent=SPENT)
        again = (await service.start_turn(ada, client_message_id="m1", retry=True)).json()
        await service.reply(again, spent=SPENT)
        assert (await total(service, ada))["cost"] == 540

    async def test_that_comes_too_late_brings_nothing(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada)
        await service.reply(turn)
        assert (await service.reply(turn, "another", spent=SPENT)).status_code == 409
        assert (await total(service, ada))["tokens"] == 0

    async def test_stays_paid_when_its_conversation_is_deleted(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada)
        await service.reply(turn, spent=SPENT)
        await service.send("DELETE", f"/conversations/{turn['conversation_id']}", ada)
        assert (await total(service, ada))["tokens"] == 42


class TestEntries:
    async def test_are_entered_once(self, service: Conversation, ada: UUID, bob: UUID) -> None:
        batch = [entry(ada), entry(ada), entry(bob)]
        for _ in range(2):
            assert (await enter(service, *batch, batch[0])).status_code == 204
        assert (await total(service, ada))["tokens"] == 84
        assert (await total(service, None))["tokens"] == 126

    @pytest.mark.parametrize("counted_first", [True, False])
    async def test_what_a_provider_counted_holds(self, service: Conversation, ada: UUID, counted_first: bool) -> None:
        counted = entry(ada)
        both = [counted, counted | {"estimated": True, "output_tokens": 99}]
        for item in both if counted_first else reversed(both):
            await enter(service, item)
        assert (await total(service, ada))["tokens"] == 42

    @pytest.mark.parametrize("more_first", [True, False])
    async def test_of_two_estimates_the_larger_holds(self, service: Conversation, ada: UUID, more_first: bool) -> None:
        """What others had entered of a process that was late, and what it says itself."""
        less = entry(ada, estimated=True)
        both = [less | {"output_tokens": 99}, less]
        for item in both if more_first else reversed(both):
            await enter(service, item)
        assert (await total(service, ada))["tokens"] == 129

    async def test_count_from_when_they_were_made(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        await enter(service, entry(ada, spent_at=(NOW - timedelta(days=40)).isoformat()), entry(ada))
        assert (await total(service, ada))["tokens"] == 42
        assert (await total(service, ada, NOW - timedelta(days=41)))["tokens"] == 84
        await sql.execute("UPDATE ledger SET entered_at = now() - interval '1 minute'")
        assert (await total(service, ada))["recent"] == []

    async def test_of_all_users_are_summed_by_an_index_alone(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        await enter(service, entry(ada))
        query = sums(None, NOW).compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
        async with sql.transaction():
            await sql.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
            plan = [row[0] for row in await sql.fetch(f"EXPLAIN {query}")]
        assert sum("Index Only Scan" in line for line in plan) == 16

    @pytest.mark.parametrize(
        "wrong", [{"cost": -1}, {"cost": 10**16}, {"cost": 0.5}, {"spent_at": "2026-11-21T00:00:00"}]
    )
    async def test_are_whole_numbers_and_times(self, service: Conversation, ada: UUID, wrong: dict[str, Any]) -> None:
        assert (await enter(service, entry(ada, **wrong))).status_code == 422

    async def test_of_a_key_are_summed_apart(self, service: Conversation, ada: UUID, bob: UUID) -> None:
        first, second = uuid7(), uuid7()
        turn = await service.started(ada)
        await service.reply(turn, spent=SPENT | {"key_id": str(first)})
        just_now = datetime.now(UTC).isoformat()
        mine = [entry(ada, key_id=str(key), run_id=str(uuid7()), spent_at=just_now) for key in (first, second)]
        await enter(service, *mine, entry(ada), entry(bob, key_id=str(first)))
        found = await total(service, ada, key_id=first)
        assert found["tokens"] == 84
        assert sorted(found["recent"]) == sorted([f"{turn['turn_id']}:1", f"{mine[0]['run_id']}:1"])
        assert (await total(service, ada))["tokens"] == 168

    async def test_know_their_variant(self, service: Conversation, ada: UUID, sql: asyncpg.Connection) -> None:
        guessed = entry(ada, estimated=True)
        for item in (guessed, guessed | {"estimated": False, "variant": "short"}, entry(ada)):
            await enter(service, item)
        assert {row["variant"] for row in await sql.fetch("SELECT variant FROM ledger")} == {"short", None}

    async def test_come_from_the_chat_service_only(self, service: Conversation, ada: UUID) -> None:
        for path in ("/internal/usage", "/internal/usage/sums"):
            assert (await service.client.post(path, json={}, headers=service.keys.bearer(ada))).status_code in (
                401,
                403,
            )


async def asked(service: Conversation, **params: Any) -> httpx2.Response:
    """As an administrator."""
    return await service.client.get("/api/v1/admin/usage", params=params, headers=service.keys.bearer(role="admin"))


async def groups(service: Conversation, by: str, **params: Any) -> list[tuple[Any, ...]]:
    response = await asked(service, by=by, **params)
    assert response.status_code == 200, response.text
    return [tuple(group.values()) for group in response.json()["data"]]


async def answered(service: Conversation, user_id: UUID, *ratings: str, **spent: Any) -> dict[str, Any]:
    """An answer of a variant, and what its reader thinks of it."""
    turn = await service.started(user_id)
    variant = spent.get("variant")
    assert (await service.reply(turn, spent=SPENT | spent, variant=variant)).status_code == 200
    for rating in ratings:
        path = f"/conversations/{turn['conversation_id']}/messages/{turn['reply_message_id']}/feedback"
        await service.send("POST", path, user_id, {"rating": rating})
    return turn


class TestUsage:
    async def test_by_variant_with_what_readers_think(self, service: Conversation, ada: UUID, bob: UUID) -> None:
        await answered(service, ada, "down", variant="short", cost=100)
        await answered(service, ada, "down", "up", variant="short", cost=100)
        await answered(service, bob, "up", variant="plain")
        await answered(service, bob)
        turn = await service.started(bob)
        await service.reply(turn, variant="free", spent=CACHED | {"variant": "free"})
        path = f"/conversations/{turn['conversation_id']}/messages/{turn['reply_message_id']}/feedback"
        await service.send("POST", path, bob, {"rating": "down"})
        assert await groups(service, "variant") == [
            ("plain", 1, 30, 12, 270, 1, 0),
            ("-", 1, 30, 12, 270, 0, 0),
            ("short", 2, 60, 24, 200, 1, 1),
            ("free", 1, 0, 0, 0, 0, 1),
        ]

    async def test_of_embeddings_counts_no_answers(self, service: Conversation, ada: UUID) -> None:
        await enter(service, entry(ada), entry(ada, model="minilm", output_tokens=0, cost=0))
        assert await groups(service, "user") == [(str(ada), 1, 60, 12, 270, 0, 0)]
        assert await groups(service, "model") == [("main", 1, 30, 12, 270, 0, 0), ("minilm", 0, 30, 0, 0, 0, 0)]

    async def test_of_several_attempts_is_of_one_answer(self, service: Conversation, ada: UUID) -> None:
        first = entry(ada)
        await enter(service, first, first | {"attempt": 2}, entry(ada, model="dear", cost=10**12))
        assert await groups(service, "model") == [
            ("dear", 1, 30, 12, 10**12, 0, 0),
            ("main", 1, 60, 24, 540, 0, 0),
        ]

    async def test_by_user(self, service: Conversation, ada: UUID, bob: UUID) -> None:
        await answered(service, ada, "up")
        await answered(service, bob, cost=1)
        assert await groups(service, "user") == [(str(ada), 1, 30, 12, 270, 1, 0), (str(bob), 1, 30, 12, 1, 0, 0)]

    async def test_by_day_of_the_last_month(self, service: Conversation, ada: UUID) -> None:
        days = [
            "2026-11-02T23:59:59+00:00",
            "2026-11-03T00:30:00+01:00",
            "2026-11-03T00:00:00Z",
            "2026-10-03T00:00:00Z",
        ]
        await enter(service, *(entry(ada, spent_at=day) for day in days))
        until = "2026-11-04T00:00:00Z"
        assert await groups(service, "day", until=until) == [
            ("2026-11-03", 1, 30, 12, 270, 0, 0),
            ("2026-11-02", 2, 60, 24, 540, 0, 0),
        ]
        assert len(await groups(service, "day", until=until, since="2026-10-03T00:00:00Z")) == 3
        assert await groups(service, "day", until="2026-11-02T00:00:00Z", since="2026-10-04T00:00:00Z") == []

    async def test_in_pages(self, service: Conversation, ada: UUID) -> None:
        costs = {"a": 5, "b": 5, "c": 7, "d": 1, "e": 9}
        await enter(service, *(entry(ada, model=model, cost=cost) for model, cost in costs.items()))
        seen: list[str] = []
        page: dict[str, Any] = {"has_more": True, "last_id": None}
        while page["has_more"]:
            after = {"after": page["last_id"]} if page["last_id"] else {}
            page = (await asked(service, by="model", limit=2, **after)).json()
            seen += [group["id"] for group in page["data"]]
        assert "".join(seen) == "ecbad"
        back = (await asked(service, by="model", limit=2, before="d")).json()
        assert ([group["id"] for group in back["data"]], back["has_more"]) == (["b", "a"], True)

    async def test_is_for_administrators(self, service: Conversation, ada: UUID) -> None:
        assert (await service.get("/admin/usage", ada)).status_code == 403
        assert (await service.client.get("/api/v1/admin/usage")).status_code == 401

    @pytest.mark.parametrize(
        "wrong",
        [
            {"by": "colour"},
            {"since": "yesterday"},
            {"since": "2026-11-02T00:00:00"},
            {"since": "2026-11-02T00:00:00Z", "until": "2026-11-01T00:00:00Z"},
            {"limit": 0},
            {"after": ""},
            {"untill": "2026-11-01T00:00:00Z"},
        ],
        ids=str,
    )
    async def test_says_what_is_wrong_with_a_question(self, service: Conversation, wrong: dict[str, Any]) -> None:
        response = await asked(service, **wrong)
        assert response.status_code == 422
        assert response.json()["errors"]

    async def test_by_key(self, service: Conversation, ada: UUID) -> None:
        key = uuid7()
        await answered(service, ada, "up", key_id=str(key))
        await answered(service, ada, "up", cost=1)
        assert await groups(service, "key") == [(str(key), 1, 30, 12, 270, 0, 0), ("-", 1, 30, 12, 1, 0, 0)]
