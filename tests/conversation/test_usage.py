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
NOW = datetime.now(UTC)


def entry(user_id: UUID, **fields: Any) -> dict[str, Any]:
    named = {"user_id": str(user_id), "run_id": str(uuid7()), "attempt": 1, "spent_at": NOW.isoformat()}
    return SPENT | named | fields


async def enter(service: Conversation, *entries: dict[str, Any]) -> httpx2.Response:
    return await service.client.post("/internal/usage", json={"entries": entries}, headers=service.as_chat())


async def total(service: Conversation, user_id: UUID | None, since: datetime = NOW) -> dict[str, Any]:
    body = {"windows": [{"user_id": str(user_id) if user_id else None, "since": since.isoformat()}]}
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

    async def test_come_from_the_chat_service_only(self, service: Conversation, ada: UUID) -> None:
        for path in ("/internal/usage", "/internal/usage/sums"):
            assert (await service.client.post(path, json={}, headers=service.keys.bearer(ada))).status_code in (
                401,
                403,
            )
