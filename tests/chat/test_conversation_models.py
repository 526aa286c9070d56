"""Which model answers in a conversation whose user has chosen one."""

from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7

from tests.chat.running import Chat, running
from tests.support.identity import Keys

ADA = uuid7()


@pytest.fixture
async def conversation(keys: Keys, conversation_url: str) -> Any:
    """A conversation of Ada's in which `echo` answers, and how to change it."""
    async with httpx2.AsyncClient(base_url=f"{conversation_url}/api/v1", headers=keys.bearer(ADA)) as client:
        made = (await client.post("/conversations", json={"model": "echo"})).json()

        async def change(model: str | None) -> str:
            response = await client.patch(f"/conversations/{made['id']}", json={"model": model})
            assert response.status_code == 200, response.text
            found: str = response.json()["id"]
            return found

        yield change


async def regenerate(chat: Chat, answer: dict[str, Any], **body: Any) -> dict[str, Any]:
    path = f"/api/v1/conversations/{answer['conversation_id']}/messages/{answer['message_id']}/regenerate"
    response = await chat.client.post(path, json=body, headers=chat.keys.bearer(ADA))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def answered_by(sql: asyncpg.Connection, *answers: dict[str, Any]) -> list[str]:
    query = "SELECT model FROM messages WHERE id = $1"
    return [await sql.fetchval(query, UUID(answer["message_id"])) for answer in answers]


class TestChosen:
    async def test_answers_from_every_replica_until_another_is(
        self, chat: Chat, keys: Keys, told: dict[str, Any], conversation: Any, sql: asyncpg.Connection
    ) -> None:
        place = {"conversation_id": await conversation("echo")}
        async with running(keys, Settings.model_validate(told)) as other:
            first = (await chat.send(ADA, "Hello", **place)).json()
            second = (await other.send(ADA, "Hello", **place)).json()
            named = (await other.send(ADA, "Hello", **place, model="retrieval")).json()
            third = (await chat.send(ADA, "Hello", **place)).json()
            await conversation(None)
            last = (await other.send(ADA, "Hello", **place)).json()
        found = await answered_by(sql, first, second, named, third, last)
        assert found == ["echo", "echo", "retrieval", "echo", "retrieval"]
        assert {answer["model_gone"] for answer in (first, second, named, third, last)} == {None}

    async def test_is_in_no_test(self, keys: Keys, told: dict[str, Any], conversation: Any) -> None:
        place = {"conversation_id": await conversation("echo")}
        variants = [{"name": "all", "weight": 1, "model": "retrieval", "prompt_files": {}}]
        async with running(keys, Settings.model_validate(told | {"variants": variants})) as tested:
            chosen, *_ = await tested.stream(ADA, "Hello", **place)
            await conversation(None)
            drawn, *_ = await tested.stream(ADA, "Hello", **place)
        assert (chosen["model"], chosen.get("variant")) == ("echo", None)
        assert (drawn["model"], drawn["variant"]) == ("retrieval", "all")

    async def test_that_has_gone_leaves_it_to_the_default_which_says_so(
        self, chat: Chat, conversation: Any, sql: asyncpg.Connection
    ) -> None:
        place = {"conversation_id": await conversation("of-yesterday")}
        started, *rest = await chat.stream(ADA, "Hello", **place)
        whole = (await chat.send(ADA, "Hello", **place)).json()
        again = (await chat.run(ADA, whole["run_id"]))["state"]
        assert (started["model"], started["model_gone"]) == ("retrieval", "of-yesterday")
        assert rest[-1]["type"] == "run.finished"
        assert (whole["model_gone"], again) == ("of-yesterday", "completed")
        assert await answered_by(sql, whole) == ["retrieval"]
        refused = await chat.send(ADA, "Hello", **place, model="of-yesterday")
        assert refused.status_code == 404


class TestRegenerate:
    async def test_asks_who_had_answered_unless_another_is_named(
        self, chat: Chat, conversation: Any, sql: asyncpg.Connection
    ) -> None:
        place = {"conversation_id": await conversation("echo")}
        first = (await chat.send(ADA, "Hello", **place)).json()
        await conversation("retrieval")
        again = await regenerate(chat, first)
        named = await regenerate(chat, first, model="retrieval")
        assert await answered_by(sql, first, again, named) == ["echo", "echo", "retrieval"]
