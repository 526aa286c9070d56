"""Answers beside answers, and questions beside questions: regenerate and edit, as the chat service asks for them."""

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from chatbot_common.ids import uuid7

from tests.conversation.running import Conversation, eventually


async def regenerate(service: Conversation, user_id: UUID, turn: dict[str, Any], **body: Any) -> httpx2.Response:
    body = {
        "conversation_id": turn["conversation_id"],
        "message_id": turn["reply_message_id"],
        "client_message_id": str(uuid7()),
    } | body
    return await service.client.post("/internal/turns/regenerations", json=body, headers=service.as_chat(user_id))


async def messages_of(service: Conversation, user_id: UUID, turn: dict[str, Any]) -> list[dict[str, Any]]:
    page = (await service.get(f"/conversations/{turn['conversation_id']}/messages", user_id)).json()
    found: list[dict[str, Any]] = page["data"]
    return found


class TestRegenerate:
    @pytest.mark.parametrize("named", ["reply_message_id", "user_message_id"])
    async def test_adds_an_answer_to_the_same_question(self, service: Conversation, ada: UUID, named: str) -> None:
        first = await service.exchange(ada, "one", "eins")
        turn = await service.exchange(ada, "two", "zwei", conversation_id=first["conversation_id"])

        again = (await regenerate(service, ada, turn, message_id=turn[named])).json()

        assert (again["state"], again["attempt"], again["text"]) == ("started", 1, "two")
        assert again["user_message_id"] == turn["user_message_id"]
        assert again["turn_id"] != turn["turn_id"]
        assert [message["text"] for message in again["history"]] == ["one", "eins"]
        assert (await service.reply(again, "dos")).status_code == 200
        found = await messages_of(service, ada, turn)
        assert [message["text"] for message in found] == ["one", "eins", "two", "zwei", "dos"]
        assert {message["parent_id"] for message in found[3:]} == {turn["user_message_id"]}
        conversation = (await service.get(f"/conversations/{turn['conversation_id']}", ada)).json()
        assert conversation["message_count"] == 5
        assert conversation["last_message"]["text"] == "dos"

    async def test_asks_who_had_answered(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada, "one")
        question = {"message_id": turn["user_message_id"]}
        path = f"/conversations/{turn['conversation_id']}"
        await service.reply(turn, "eins", model="small")
        await service.send("PATCH", path, ada, {"model": "large"})

        second = (await regenerate(service, ada, turn)).json()
        await service.reply(second, "uno", model="large")
        third = (await regenerate(service, ada, turn, **question, client_message_id="m3")).json()
        await service.reply(third, "un", model="large", status="failed")
        retried = (await regenerate(service, ada, turn, client_message_id="m3", retry=True)).json()

        assert [again["model"] for again in (second, third, retried)] == ["small", "large", "small"]

    async def test_leaves_it_to_the_test_that_had_decided(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada, "one")
        await service.reply(turn, "eins", model="small", variant="short")

        of_answer = (await regenerate(service, ada, turn)).json()
        await service.reply(of_answer, "", status="failed", model=None)
        path = f"/conversations/{turn['conversation_id']}"
        await service.send("PATCH", path, ada, {"model": "large"})
        of_question = (await regenerate(service, ada, turn, message_id=turn["user_message_id"])).json()

        assert (of_answer["model"], of_question["model"]) == (None, "large")

    async def test_the_next_question_follows_the_newest_answer_or_the_named_one(
        self, service: Conversation, ada: UUID
    ) -> None:
        turn = await service.exchange(ada, "one", "eins")
        await service.reply((await regenerate(service, ada, turn)).json(), "uno")

        newest = await service.started(ada, "two", conversation_id=turn["conversation_id"])
        named = await service.started(ada, "two", parent_message_id=turn["reply_message_id"])

        assert [message["text"] for message in newest["history"]] == ["one", "uno"]
        assert [message["text"] for message in named["history"]] == ["one", "eins"]

    async def test_a_repeat_attaches(self, service: Conversation, ada: UUID) -> None:
        turn = await service.exchange(ada, "one", "eins", client_message_id="m1")
        again = (await regenerate(service, ada, turn, client_message_id="m1")).json()

        running = (await regenerate(service, ada, turn, client_message_id="m1")).json()
        await service.reply(again, "uno")
        ended = (await regenerate(service, ada, turn, client_message_id="m1", retry=True)).json()
        sent = (await service.start_turn(ada, "one", client_message_id="m1")).json()

        assert (running["state"], running["turn_id"]) == ("running", again["turn_id"])
        assert (ended["state"], ended["reply"]["text"]) == ("completed", "uno")
        assert (sent["turn_id"], sent["reply"]["text"]) == (turn["turn_id"], "eins")

    async def test_a_failed_one_can_be_tried_again(self, service: Conversation, ada: UUID) -> None:
        turn = await service.exchange(ada, "one", "eins")
        again = (await regenerate(service, ada, turn, client_message_id="m1")).json()
        await service.reply(again, "", status="failed")

        retried = (await regenerate(service, ada, turn, client_message_id="m1", retry=True)).json()

        assert (retried["state"], retried["attempt"], retried["turn_id"]) == ("started", 2, again["turn_id"])

    async def test_the_same_name_for_another_message_is_refused(self, service: Conversation, ada: UUID) -> None:
        turn = await service.exchange(ada, "one", "eins")
        other = await service.exchange(ada, "two", "zwei", conversation_id=turn["conversation_id"])
        await regenerate(service, ada, turn, client_message_id="m1")

        response = await regenerate(service, ada, other, client_message_id="m1")

        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == "/client_message_id"

    async def test_waits_for_the_answer_that_is_on_its_way(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        turn = await service.started(ada)
        question = {"message_id": turn["user_message_id"]}

        assert (await regenerate(service, ada, turn, **question)).status_code == 409
        await sql.execute("UPDATE turns SET leased_until = now() - interval '1 second'")
        assert (await regenerate(service, ada, turn, **question)).status_code == 409  # chat may be about to close it
        await sql.execute("UPDATE turns SET leased_until = now() - interval '30 seconds'")
        assert (await regenerate(service, ada, turn, **question)).json()["state"] == "started"

    async def test_runs_beside_no_other_attempt(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada, client_message_id="m1")
        await service.reply(turn, "", status="failed")

        again = (await regenerate(service, ada, turn)).json()
        retried = await service.start_turn(ada, client_message_id="m1", retry=True)
        assert (again["state"], retried.status_code) == ("started", 409)
        assert "is being answered right now" in retried.json()["detail"]
        assert (await service.start_turn(ada, client_message_id="m1")).json()["state"] == "failed"

        await service.reply(again, "", status="failed")
        retried = await service.start_turn(ada, client_message_id="m1", retry=True)
        assert retried.json()["attempt"] == 2
        assert (await regenerate(service, ada, turn)).status_code == 409

    async def test_of_several_at_once_one_runs(self, service: Conversation, ada: UUID, sql: asyncpg.Connection) -> None:
        turn = await service.exchange(ada, "one", "eins")
        waiting = (
            "SELECT count(*) = 4 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = ANY($1)"
        )

        async def all_wait() -> Any:
            await sql.execute("SELECT pg_stat_clear_snapshot()")
            return await sql.fetchval(waiting, ["transactionid", "tuple"])

        async with sql.transaction():
            await sql.execute("SELECT * FROM conversations FOR UPDATE")
            asked = asyncio.gather(*(regenerate(service, ada, turn) for _ in range(4)))
            await eventually(all_wait)
        responses = await asked

        assert sorted(response.status_code for response in responses) == [200, 409, 409, 409]

    async def test_what_is_not_there_is_not_found(self, service: Conversation, ada: UUID, bob: UUID) -> None:
        turn, other = await service.exchange(ada, "one", "eins"), await service.exchange(ada, "two", "zwei")

        assert (await regenerate(service, bob, turn)).status_code == 404
        assert (await regenerate(service, ada, turn, message_id=str(uuid7()))).status_code == 404
        elsewhere = {"conversation_id": other["conversation_id"]}
        assert (await regenerate(service, ada, turn, **elsewhere)).status_code == 404


class TestEdit:
    async def test_asks_in_the_place_of_the_other(self, service: Conversation, ada: UUID) -> None:
        first = await service.exchange(ada, "one", "eins")
        here = {"conversation_id": first["conversation_id"]}
        second = await service.exchange(ada, "two", "zwei", **here)

        edited = await service.started(ada, "deux?", edited_message_id=second["user_message_id"], **here)
        root = await service.started(ada, "un?", edited_message_id=first["user_message_id"], **here)

        assert [message["text"] for message in edited["history"]] == ["one", "eins"]
        assert root["history"] == []
        found = {message["text"]: message for message in await messages_of(service, ada, first)}
        assert found["deux?"]["parent_id"] == found["two"]["parent_id"] == first["reply_message_id"]
        assert found["un?"]["parent_id"] is None

    async def test_a_repeat_attaches(self, service: Conversation, ada: UUID) -> None:
        turn = await service.exchange(ada, "one", "eins")
        edit = {"edited_message_id": turn["user_message_id"], "client_message_id": "m1"}

        edited = await service.started(ada, "un", **edit)
        again = (await service.start_turn(ada, "un", **edit)).json()

        assert (again["state"], again["turn_id"]) == ("running", edited["turn_id"])

    async def test_the_name_of_another_message_is_refused_although_the_text_is_the_same(
        self, service: Conversation, ada: UUID
    ) -> None:
        turn = await service.exchange(ada, "one", "eins", client_message_id="m1")
        named = {"conversation_id": turn["conversation_id"], "client_message_id": "m1"}

        edited = await service.start_turn(ada, "one", edited_message_id=turn["user_message_id"], **named)
        below = await service.start_turn(ada, "one", parent_message_id=turn["reply_message_id"], **named)
        sent = await service.start_turn(ada, "one", **named)

        assert (edited.status_code, below.status_code, sent.status_code) == (422, 422, 200)
        assert edited.json()["errors"] == [
            {"pointer": "/client_message_id", "detail": "already used for another message"}
        ]

    async def test_only_questions_can_be(self, service: Conversation, ada: UUID, bob: UUID) -> None:
        turn = await service.exchange(ada, "one", "eins")

        answer = await service.start_turn(ada, "un", edited_message_id=turn["reply_message_id"])
        foreign = await service.start_turn(bob, "un", edited_message_id=turn["user_message_id"])

        assert answer.status_code == 422
        assert "regenerated" in answer.json()["detail"]
        assert foreign.status_code == 404
