"""Turns over HTTP, as the chat service uses them."""

import asyncio
from uuid import UUID

import asyncpg
import pytest
from chatbot_common.ids import uuid7

from tests.conversation.running import Conversation

LATE = "UPDATE turns SET leased_until = now() - interval '30 seconds'"
"""So late that chat would have closed it."""


class TestStart:
    async def test_first_message_starts_a_conversation(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada, "How  do I\nreset my password, please? " + "word " * 20, language="en")

        assert turn["attempt"] == 1
        assert turn["history"] == []
        assert turn["summary"] is None
        assert turn["instructions"] is None
        assert turn["reply"] is None
        assert turn["knowledge"] == {"passages": [], "topics": [], "questions": []}
        conversation = (await service.get(f"/conversations/{turn['conversation_id']}", ada)).json()
        assert conversation["title"] == "How do I reset my password, please? word word word word…"
        assert conversation["message_count"] == 1
        assert conversation["language"] == "en"

    async def test_shape_is_exactly_the_agreed_one(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada)

        assert set(turn) == {
            "turn_id", "attempt", "state", "conversation_id", "user_message_id", "reply_message_id", "deadline",
            "text", "history", "summary", "instructions", "knowledge", "options", "waiting", "reply",
        }  # fmt: skip

    async def test_history_follows_the_newest_message(self, service: Conversation, ada: UUID) -> None:
        first = await service.exchange(ada, "one", "eins")
        await service.exchange(ada, "two", "zwei", conversation_id=first["conversation_id"])

        third = await service.started(ada, "three", conversation_id=first["conversation_id"])

        assert [(message["role"], message["text"]) for message in third["history"]] == [
            ("user", "one"),
            ("assistant", "eins"),
            ("user", "two"),
            ("assistant", "zwei"),
        ]

    async def test_history_follows_the_given_parent(self, service: Conversation, ada: UUID) -> None:
        first = await service.exchange(ada, "one", "eins")
        await service.exchange(ada, "two", "zwei", conversation_id=first["conversation_id"])

        branch = await service.started(ada, "another two", parent_message_id=first["reply_message_id"])

        assert branch["conversation_id"] == first["conversation_id"]
        assert [message["text"] for message in branch["history"]] == ["one", "eins"]

    async def test_history_is_as_long_as_there_is_room_for(self, service: Conversation, ada: UUID) -> None:
        earlier = [{"role": role, "text": f"{role} {'é' * 6}"} for _ in range(30) for role in ("user", "assistant")]
        turn = await service.started(ada, "first", earlier=earlier)
        place = {"conversation_id": turn["conversation_id"], "parent_message_id": turn["user_message_id"]}

        # 17 and 22 bytes, and 4 tokens for each message; 2 and 4 for the last one.
        for room, messages in {5: 0, 6: 1, 15: 1, 16: 2, 26: 3, 10_000: 61}.items():
            last = await service.started(ada, "last", **place, history_tokens=room)
            assert len(last["history"]) == messages
        assert last["history"][0]["text"] == "user éééééé"
        assert last["history"][-1]["text"] == "first"

    async def test_history_has_its_room_in_every_attempt(self, service: Conversation, ada: UUID) -> None:
        first = await service.exchange(ada, "one", "eins")
        place = {"conversation_id": first["conversation_id"]}
        turn = await service.started(ada, "two", **place, client_message_id="m2", history_tokens=5)
        await service.reply(turn, "", status="failed")

        again = await service.start_turn(ada, "two", **place, client_message_id="m2", retry=True, history_tokens=5)

        assert [message["text"] for message in again.json()["history"]] == ["eins"]

    @pytest.mark.parametrize("field", ["conversation_id", "parent_message_id"])
    async def test_someone_elses_place_is_not_found(
        self, service: Conversation, ada: UUID, bob: UUID, field: str
    ) -> None:
        theirs = await service.exchange(bob, "secret", "reply")
        foreign = theirs["conversation_id" if field == "conversation_id" else "reply_message_id"]

        assert (await service.start_turn(ada, **{field: foreign})).status_code == 404
        assert (await service.start_turn(ada, **{field: str(uuid7())})).status_code == 404

    async def test_parent_in_another_conversation_is_not_found(self, service: Conversation, ada: UUID) -> None:
        one, two = await service.exchange(ada, "one", "eins"), await service.exchange(ada, "two", "zwei")

        response = await service.start_turn(
            ada, conversation_id=one["conversation_id"], parent_message_id=two["reply_message_id"]
        )

        assert response.status_code == 404

    @pytest.mark.parametrize(
        "wrong",
        [{"text": ""}, {"text": "a\x00b"}, {"text": 5}, {"client_message_id": ""}, {"retry": "yes"}, {"extra": 1},
         {"client_message_id": "x" * 129}, {"conversation_id": "no-uuid"}],
    )  # fmt: skip
    async def test_wrong_body_is_refused(self, service: Conversation, ada: UUID, wrong: dict[str, object]) -> None:
        response = await service.start_turn(ada, **wrong)

        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"


class TestRepeat:
    async def test_running_turn_is_attached_to(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada, client_message_id="m1")

        again = (await service.start_turn(ada, client_message_id="m1")).json()

        assert again["state"] == "running"
        same = ("turn_id", "attempt", "conversation_id", "user_message_id", "reply_message_id")
        assert {name: again[name] for name in same} == {name: turn[name] for name in same}

    async def test_simultaneous_requests_start_one_attempt(self, service: Conversation, ada: UUID) -> None:
        responses = await asyncio.gather(*(service.start_turn(ada, client_message_id="m1") for _ in range(8)))

        turns = [response.json() for response in responses]
        assert sorted(turn["state"] for turn in turns) == ["running"] * 7 + ["started"]
        assert len({(turn["turn_id"], turn["attempt"]) for turn in turns}) == 1
        page = (await service.get("/conversations", ada)).json()
        assert [conversation["message_count"] for conversation in page["data"]] == [1]

    async def test_completed_turn_answers_its_reply(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada, client_message_id="m1")
        await service.reply(turn, "Good day", citations=[{"index": 1}])

        again = (await service.start_turn(ada, client_message_id="m1", retry=True)).json()

        assert again["state"] == "completed"
        assert again["reply"] == {
            "text": "Good day",
            "parts": [{"type": "text", "text": "Good day"}],
            "status": "completed",
            "citations": [{"index": 1}],
            "model": "retrieval",
            "usage": {"input_tokens": 3, "output_tokens": 4},
            "error": None,
            "finish_reason": None,
        }

    async def test_another_text_is_refused(self, service: Conversation, ada: UUID) -> None:
        await service.started(ada, "one", client_message_id="m1")

        response = await service.start_turn(ada, "two", client_message_id="m1")

        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == "/client_message_id"

    async def test_ids_of_different_users_do_not_meet(self, service: Conversation, ada: UUID, bob: UUID) -> None:
        one = await service.started(ada, client_message_id="m1")
        two = await service.started(bob, client_message_id="m1")

        assert one["turn_id"] != two["turn_id"]

    @pytest.mark.parametrize("status", ["failed", "cancelled", "interrupted"])
    async def test_retry_starts_the_next_attempt(self, service: Conversation, ada: UUID, status: str) -> None:
        turn = await service.started(ada, client_message_id="m1")
        await service.reply(turn, "half an ans", status=status, error="provider hung up")

        kept = (await service.start_turn(ada, client_message_id="m1")).json()
        retried = (await service.start_turn(ada, client_message_id="m1", retry=True)).json()

        assert (kept["state"], kept["attempt"], kept["reply"]["error"]) == (status, 1, "provider hung up")
        assert (retried["state"], retried["attempt"]) == ("started", 2)
        assert (await service.reply(retried, "whole answer")).status_code == 200
        path = f"/conversations/{turn['conversation_id']}/messages"
        texts = [message["text"] for message in (await service.get(path, ada)).json()["data"]]
        assert texts == ["Hello there", "whole answer"]
        assert (await service.get(f"/conversations/{turn['conversation_id']}", ada)).json()["message_count"] == 2

    async def test_simultaneous_retries_start_one_attempt(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada, client_message_id="m1")
        await service.reply(turn, "", status="failed")

        responses = await asyncio.gather(
            *(service.start_turn(ada, client_message_id="m1", retry=True) for _ in range(6))
        )

        found = sorted((response.json()["state"], response.json()["attempt"]) for response in responses)
        assert found == [("running", 2)] * 5 + [("started", 2)]

    async def test_overdue_turn_is_started_again(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        first = await service.exchange(ada, "one", "eins")
        turn = await service.started(ada, "two", client_message_id="m2", conversation_id=first["conversation_id"])
        await sql.execute("UPDATE turns SET leased_until = now() - interval '1 second'")
        attached = (await service.start_turn(ada, "two", client_message_id="m2")).json()
        await sql.execute(LATE)

        again = (await service.start_turn(ada, "two", client_message_id="m2")).json()

        assert (attached["state"], attached["attempt"]) == ("running", 1)  # chat may be about to close it
        assert (again["state"], again["attempt"]) == ("started", 2)
        assert [message["text"] for message in again["history"]] == ["one", "eins"]
        assert (await service.reply(turn, "late")).status_code == 409
        assert (await service.reply(again, "in time")).status_code == 200


class TestGet:
    async def test_running_and_ended(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada)
        path = f"/internal/turns/{turn['turn_id']}"

        running = (await service.client.get(path, headers=service.as_chat(ada))).json()
        await service.reply(turn)
        ended = (await service.client.get(path, headers=service.as_chat(ada))).json()

        assert (running["state"], running["reply"]) == ("running", None)
        assert (ended["state"], ended["reply"]["text"]) == ("completed", "Good day")
        assert ended["history"] == []

    async def test_someone_elses_turn_is_not_found(self, service: Conversation, ada: UUID, bob: UUID) -> None:
        turn = await service.started(bob)

        response = await service.client.get(f"/internal/turns/{turn['turn_id']}", headers=service.as_chat(ada))

        assert response.status_code == 404


class TestWhoMayCall:
    async def test_a_user_alone_may_not(self, service: Conversation, ada: UUID) -> None:
        response = await service.client.post(
            "/internal/turns", json={"text": "x", "client_message_id": "m"}, headers=service.keys.bearer(ada)
        )

        assert response.status_code == 401

    async def test_chat_without_a_user_may_not_start(self, service: Conversation) -> None:
        response = await service.client.post(
            "/internal/turns", json={"text": "x", "client_message_id": "m"}, headers=service.as_chat()
        )

        assert response.status_code == 401

    async def test_another_service_may_not(self, service: Conversation, ada: UUID) -> None:
        headers = service.keys.service_headers("gateway", "conversation") | service.keys.bearer(ada)
        response = await service.client.post(
            "/internal/turns", json={"text": "x", "client_message_id": "m"}, headers=headers
        )

        assert response.status_code == 403
