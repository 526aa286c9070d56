"""Erasing one turn: what was asked and said is gone, and what goes on from it stays."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from chatbot_common.database import Database
from chatbot_common.ids import uuid7
from chatbot_conversation.conversations.indexing import MessageIndexer
from chatbot_conversation.vectors import MESSAGES
from chatbot_conversation.vectors.pgvector import PGVectorStore
from sqlalchemy import Engine, event

from tests.conversation.running import Conversation
from tests.conversation.test_branches import messages_of, regenerate
from tests.conversation.test_feedback import rate

EVERYWHERE = ("messages", "feedback", "conversations", "turns", "ledger", "pgqueuer")
"""Tables in which a turn leaves something."""


async def erase(service: Conversation, user_id: UUID, turn: dict[str, Any]) -> int:
    path = f"/internal/turns/{turn['turn_id']}"
    return (await service.client.delete(path, headers=service.as_chat(user_id))).status_code


@pytest.fixture
def rows() -> Iterator[list[int]]:
    """How many each statement of this process has brought or changed."""
    counted: list[int] = []

    def count(_: Any, cursor: Any, *__: Any) -> None:
        counted.append(cursor.rowcount)

    event.listen(Engine, "after_cursor_execute", count)
    yield counted
    event.remove(Engine, "after_cursor_execute", count)


class ErasingMeanwhile:
    """Embeds for so long that the turn was erased meanwhile, and its vectors were forgotten."""

    name, dimensions = "slow", 16

    def __init__(self, service: Conversation, user_id: UUID, turn: dict[str, Any]) -> None:
        self._turn = service, user_id, turn

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        assert await erase(*self._turn) == 204
        return [[1.0] + [0.0] * 15 for _ in texts]

    async def close(self) -> None:
        pass


class TestErase:
    async def test_the_last_turn_takes_the_conversation_along(self, service: Conversation, ada: UUID) -> None:
        turn = await service.exchange(ada, "one", "eins", earlier=[{"role": "user", "text": "before"}])
        assert await erase(service, ada, turn) == 204
        assert await erase(service, ada, turn) == 404
        assert (await service.get("/conversations", ada)).json()["data"] == []
        assert (await service.get("/history", ada)).json()["data"] == []

    async def test_at_the_end_of_a_conversation(self, service: Conversation, ada: UUID) -> None:
        first = await service.exchange(ada, "one", "eins")
        second = await service.exchange(ada, "two", "zwei", conversation_id=first["conversation_id"])
        assert await erase(service, ada, second) == 204
        assert [message["text"] for message in await messages_of(service, ada, first)] == ["one", "eins"]
        found = (await service.get(f"/conversations/{first['conversation_id']}", ada)).json()
        assert (found["message_count"], found["last_message"]["text"]) == (2, "eins")

    async def test_what_was_told_with_it_goes_along(self, service: Conversation, ada: UUID) -> None:
        """But for that from which something else goes on."""
        told = [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"}, {"role": "user", "text": "c"}]
        first = await service.exchange(ada, "one", "eins")
        place = {"conversation_id": first["conversation_id"]}
        second = await service.exchange(ada, "two", "zwei", earlier=told, **place)
        before = await messages_of(service, ada, first)
        third = await service.exchange(ada, "three", "drei", parent_message_id=before[3]["id"], **place)
        assert await erase(service, ada, second) == 204
        left = ["one", "eins", "a", "b", "three", "drei"]
        assert [message["text"] for message in await messages_of(service, ada, first)] == left
        assert await erase(service, ada, third) == 204
        assert [message["text"] for message in await messages_of(service, ada, first)] == ["one", "eins"]
        assert await erase(service, ada, first) == 204

    async def test_costs_no_more_in_a_long_conversation(
        self, service: Conversation, ada: UUID, rows: list[int]
    ) -> None:
        """Nor does what it was asked with."""
        costs, told = [], [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"}]
        for turns in (1, 4):
            place: dict[str, Any] = {"conversation_id": (await service.exchange(ada, "one", "eins"))["conversation_id"]}
            for _ in range(turns):
                await service.exchange(ada, "more", "mehr", **place)
            last = await service.exchange(ada, "two", "zwei", earlier=told, **place)
            rows.clear()
            found = await service.client.get(f"/internal/turns/{last['turn_id']}/told", headers=service.as_chat(ada))
            assert [message["text"] for message in found.json()["messages"]] == ["a", "b", "two"]
            assert await erase(service, ada, last) == 204
            costs.append(sum(rows))
        assert costs[0] == costs[1]

    async def test_what_goes_on_from_it_stays(self, service: Conversation, ada: UUID, sql: asyncpg.Connection) -> None:
        told = [{"role": "user", "text": "secret life"}, {"role": "assistant", "text": "secret word"}]
        asked = {"client_message_id": "secret name", "earlier": told}
        first = await service.exchange(ada, "secret question", "secret answer", **asked)
        await rate(service, ada, first, comment="secret reason")
        second = await service.exchange(ada, "two", "zwei", conversation_id=first["conversation_id"])
        assert await erase(service, ada, first) == 204
        assert [message["text"] for message in await messages_of(service, ada, second)] == [*[""] * 4, "two", "zwei"]
        stored = [str(await sql.fetch(f"SELECT * FROM {table}")) for table in EVERYWHERE]  # noqa: S608
        assert "two" in stored[0]
        assert "secret" not in str(stored)
        assert (await service.get(f"/conversations/{first['conversation_id']}", ada)).json()["title"] == "two"
        third = await service.started(ada, "three", conversation_id=first["conversation_id"])
        assert [message["text"] for message in third["history"]] == ["two", "zwei"]

    async def test_leaves_no_vector_to_who_embeds_it_just_now(
        self, service: Conversation, ada: UUID, database_url: str
    ) -> None:
        first = await service.exchange(ada, "one", "eins")
        await service.exchange(ada, "two", "zwei", conversation_id=first["conversation_id"])
        database = Database(database_url)
        vectors = PGVectorStore(database, 16)
        indexer = MessageIndexer(database, ErasingMeanwhile(service, ada, first), vectors)
        await indexer.index_message(ada, UUID(first["user_message_id"]))
        assert await vectors.search(MESSAGES, ada, [1.0] + [0.0] * 15, 1) == []
        await database.close()

    async def test_a_title_of_the_users_own_stays(self, service: Conversation, ada: UUID) -> None:
        first = await service.exchange(ada, "one", "eins")
        place = f"/conversations/{first['conversation_id']}"
        await service.exchange(ada, "two", "zwei", conversation_id=first["conversation_id"])
        assert (await service.send("PATCH", place, ada, {"title": "Numbers"})).status_code == 200
        assert await erase(service, ada, first) == 204
        assert (await service.get(place, ada)).json()["title"] == "Numbers"

    async def test_a_question_stays_for_its_other_answer(self, service: Conversation, ada: UUID) -> None:
        turn = await service.exchange(ada, "one", "eins")
        again = (await regenerate(service, ada, turn, options={"model": "x"})).json()
        assert again["options"] == {"model": "x"}
        await service.reply(again, "uno")
        assert await erase(service, ada, turn) == 204
        assert [message["text"] for message in await messages_of(service, ada, turn)] == ["one", "uno"]

    async def test_one_that_is_answered_just_now(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada, "one")
        assert await erase(service, ada, turn) == 204
        assert (await service.reply(turn, "eins")).status_code == 404

    async def test_somebody_elses(self, service: Conversation, ada: UUID, bob: UUID) -> None:
        turn = await service.exchange(ada, "one", "eins")
        assert await erase(service, bob, turn) == 404
        assert await erase(service, ada, turn | {"turn_id": str(uuid7())}) == 404
        assert len(await messages_of(service, ada, turn)) == 2

    async def test_two_at_once_leave_nothing(self, service: Conversation, ada: UUID) -> None:
        first = await service.exchange(ada, "one", "eins")
        second = await service.exchange(ada, "two", "zwei", conversation_id=first["conversation_id"])
        assert await asyncio.gather(erase(service, ada, first), erase(service, ada, second)) == [204, 204]
        assert (await service.get("/history", ada)).json()["data"] == []
