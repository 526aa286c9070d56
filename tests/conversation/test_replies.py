"""How turns end, over HTTP: by the reply of the chat service, or by the worker when none came in time."""

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from chatbot_common.ids import uuid7

from tests.conversation.running import Conversation, eventually, working

LATE = "UPDATE turns SET leased_until = now() - interval '2 minutes'"
"""So late that the chat service would have closed it."""


class TestReply:
    async def test_is_stored_with_the_message(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada)

        response = await service.reply(turn, "Good\x00 day", citations=[{"index": 1, "title": "FAQ"}])

        stored = {"state": "completed", "message_id": turn["reply_message_id"], "user_id": str(ada)}
        assert response.json() == stored
        path = f"/conversations/{turn['conversation_id']}/messages"
        question, answer = (await service.get(path, ada)).json()["data"]
        assert answer["id"] == turn["reply_message_id"]
        assert answer["parent_id"] == question["id"] == turn["user_message_id"]
        assert (answer["role"], answer["text"], answer["status"]) == ("assistant", "Good day", "completed")
        assert answer["citations"] == [{"index": 1, "title": "FAQ"}]
        assert answer["usage"] == {"input_tokens": 3, "output_tokens": 4}
        assert answer["model"] == "retrieval"

    async def test_first_of_two_wins(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada)

        responses = await asyncio.gather(*(service.reply(turn, f"answer {number}") for number in range(6)))

        assert sorted(response.status_code for response in responses) == [200] + [409] * 5
        [winner] = [number for number, response in enumerate(responses) if response.status_code == 200]
        path = f"/conversations/{turn['conversation_id']}/messages"
        texts = [message["text"] for message in (await service.get(path, ada)).json()["data"]]
        assert texts == ["Hello there", f"answer {winner}"]

    async def test_the_same_reply_again_gets_the_same_response(self, service: Conversation, ada: UUID) -> None:
        """The response to the first may have been lost."""
        turn = await service.started(ada)

        first, again = [await service.reply(turn, "Good\x00 day") for _ in range(2)]

        assert (again.status_code, again.json()) == (200, first.json())
        conversation = (await service.get(f"/conversations/{turn['conversation_id']}", ada)).json()
        assert conversation["message_count"] == 2

    async def test_also_one_without_text(self, service: Conversation, ada: UUID) -> None:
        """The words that it left are another attempt's."""
        turn = await service.started(ada, client_message_id="m1")
        await service.reply(turn, "half an ans", status="failed")
        retried = (await service.start_turn(ada, client_message_id="m1", retry=True)).json()

        responses = [await service.reply(retried, "", status="cancelled") for _ in range(2)]

        assert [response.status_code for response in responses] == [200, 200]

    async def test_of_another_process_counts_only_while_the_lease_has_ended(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        turn = await service.started(ada)
        end = {"status": "interrupted", "abandoned": True}

        early = await service.reply(turn, "Good", **end)
        await sql.execute(LATE)
        responses = [await service.reply(turn, "Good", **end) for _ in range(2)]

        assert early.status_code == 409
        assert [response.status_code for response in responses] == [200, 200]

    @pytest.mark.parametrize("other", [{"text": "Good night"}, {"status": "failed"}, {"attempt": 2}])
    async def test_another_reply_after_the_first_is_too_late(
        self, service: Conversation, ada: UUID, other: dict[str, object]
    ) -> None:
        turn = await service.started(ada)
        await service.reply(turn)

        assert (await service.reply(turn, **{"text": "Good day"} | other)).status_code == 409

    async def test_why_it_is_not_whole_is_of_the_last_attempt(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada, client_message_id="m1")
        await service.reply(turn, "half an ans", status="failed")
        again = (await service.start_turn(ada, client_message_id="m1", retry=True)).json()
        await service.reply(again, "", parts=[], usage=None, finish_reason="content_filter")

        reply = (await service.start_turn(ada, client_message_id="m1")).json()["reply"]
        assert (reply["text"], reply["finish_reason"]) == ("half an ans", "content_filter")

    async def test_an_attempt_without_text_leaves_the_words_of_the_one_before(
        self, service: Conversation, ada: UUID
    ) -> None:
        turn = await service.started(ada, client_message_id="m1")
        await service.reply(turn, "half an ans", status="failed", citations=[{"index": 1}])
        retried = (await service.start_turn(ada, client_message_id="m1", retry=True)).json()

        await service.reply(retried, "", status="cancelled", parts=[], usage=None, model=None)

        reply = (await service.start_turn(ada, client_message_id="m1")).json()["reply"]
        assert reply == {
            "text": "half an ans",
            "parts": [{"type": "text", "text": "half an ans"}],
            "status": "cancelled",
            "citations": [{"index": 1}],
            "model": "retrieval",
            "usage": {"input_tokens": 3, "output_tokens": 4},
            "error": None,
            "finish_reason": None,
        }

    async def test_reply_of_an_old_attempt_is_too_late(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada, client_message_id="m1")
        await service.reply(turn, "", status="failed")
        await service.start_turn(ada, client_message_id="m1", retry=True)

        late = await service.reply(turn, "thawed")

        assert late.status_code == 409
        assert late.json()["type"] == "urn:chatbot:problem:conflict"

    async def test_unknown_turn_is_not_found(self, service: Conversation) -> None:
        response = await service.reply({"turn_id": str(uuid7()), "attempt": 1})

        assert response.status_code == 404

    async def test_deleted_conversation_takes_its_turn_along(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada)
        await service.send("DELETE", f"/conversations/{turn['conversation_id']}", ada)

        assert (await service.reply(turn)).status_code == 404

    async def test_deletion_and_replies_do_not_deadlock(self, service: Conversation, ada: UUID) -> None:
        for _ in range(5):
            first = await service.exchange(ada, "one", "eins")
            turns = [await service.started(ada, conversation_id=first["conversation_id"]) for _ in range(3)]
            responses = await asyncio.gather(
                *(service.reply(turn) for turn in turns),
                service.send("DELETE", f"/conversations/{first['conversation_id']}", ada),
                service.start_turn(ada, "more", conversation_id=first["conversation_id"]),
            )
            assert responses[3].status_code == 204
            assert {response.status_code for response in responses} <= {200, 204, 404}


class TestOverdue:
    async def test_worker_closes_it_as_interrupted(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        turn = await service.started(ada, client_message_id="m1")
        await sql.execute(LATE)

        async with working(service.settings):
            await eventually(lambda: sql.fetchval("SELECT state <> 'running' FROM turns"))

        assert (await service.reply(turn, "late")).status_code == 409
        repeated = (await service.start_turn(ada, client_message_id="m1")).json()
        assert (repeated["state"], repeated["reply"]["status"]) == ("interrupted", "interrupted")
        retried = (await service.start_turn(ada, client_message_id="m1", retry=True)).json()
        assert (retried["state"], retried["attempt"]) == ("started", 2)

    async def test_the_words_of_an_earlier_attempt_stay(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        turn = await service.started(ada, client_message_id="m1")
        await service.reply(turn, "half an ans", status="failed")
        await service.start_turn(ada, client_message_id="m1", retry=True)
        await sql.execute(LATE)

        async with working(service.settings):
            await eventually(lambda: sql.fetchval("SELECT state <> 'running' FROM turns"))

        repeated = (await service.start_turn(ada, client_message_id="m1")).json()
        assert (repeated["state"], repeated["reply"]["text"]) == ("interrupted", "half an ans")

    async def test_two_workers_close_many_once(self, service: Conversation, ada: UUID, sql: asyncpg.Connection) -> None:
        first = await service.started(ada)
        for _ in range(9):
            await service.started(ada, conversation_id=first["conversation_id"])
        await sql.execute(LATE)

        async with working(service.settings), working(service.settings):
            await eventually(lambda: sql.fetchval("SELECT count(*) = 0 FROM turns WHERE state = 'running'"))

        conversation = (await service.get(f"/conversations/{first['conversation_id']}", ada)).json()
        assert conversation["message_count"] == 20

    async def test_turn_that_chat_may_still_close_is_left_alone(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        turn = await service.started(ada)
        await sql.execute("UPDATE turns SET leased_until = now() - interval '20 seconds'")
        late = await service.started(ada)
        await sql.execute(LATE + " WHERE id = $1", UUID(late["turn_id"]))

        async with working(service.settings):
            await eventually(lambda: sql.fetchval("SELECT count(*) = 1 FROM turns WHERE state = 'running'"))

        assert (await service.reply(turn)).status_code == 200


class TestLeases:
    async def renewed(self, service: Conversation, *turns: dict[str, Any]) -> dict[str, Any]:
        wanted = [{"turn_id": turn["turn_id"], "attempt": turn["attempt"]} for turn in turns]
        response = await service.client.post(
            "/internal/turns/leases", json={"turns": wanted}, headers=service.as_chat()
        )
        assert response.status_code == 200, response.text
        told: dict[str, Any] = response.json()
        return told

    async def test_keep_a_turn_alive(self, service: Conversation, ada: UUID, sql: asyncpg.Connection) -> None:
        turn = await service.started(ada)
        await sql.execute("UPDATE turns SET leased_until = now() - interval '1 second'")
        here = {"turn_id": turn["turn_id"], "attempt": 1}

        assert await self.renewed(service) == {"lost": [], "abandoned": [here]}
        assert await self.renewed(service, turn) == {"lost": [], "abandoned": []}
        assert await self.renewed(service) == {"lost": [], "abandoned": []}

    async def test_begin_with_each_attempt(self, service: Conversation, ada: UUID, sql: asyncpg.Connection) -> None:
        """Who was told to run it may never hear of it: then nobody else gives a sign, and nobody may wait for long."""
        first = await service.started(ada, client_message_id="m1")
        leased = "SELECT leased_until BETWEEN now() AND now() + interval '20 seconds' FROM turns"
        assert await sql.fetchval(leased)
        await service.reply(first, "", status="failed")
        await sql.execute("UPDATE turns SET leased_until = now() - interval '1 second'")
        await service.start_turn(ada, client_message_id="m1", retry=True)
        assert await sql.fetchval(leased)
        assert await self.renewed(service) == {"lost": [], "abandoned": []}

    async def test_of_what_has_ended_are_lost(self, service: Conversation, ada: UUID) -> None:
        ended, running = await service.exchange(ada, "one", "eins"), await service.started(ada, "two")
        unknown = {"turn_id": str(uuid7()), "attempt": 1}
        older = running | {"attempt": 2}

        told = await self.renewed(service, ended, running, unknown)

        assert sorted(told["lost"]) == sorted([ended["turn_id"], unknown["turn_id"]])
        assert (await self.renewed(service, older))["lost"] == [running["turn_id"]]

    async def test_of_a_turn_whose_row_is_locked_are_not_lost(
        self, service: Conversation, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        turn = await service.started(ada)
        async with sql.transaction():
            await sql.execute("SELECT * FROM turns FOR UPDATE")
            assert (await self.renewed(service, turn))["lost"] == []

    async def test_are_for_the_chat_service_alone(self, service: Conversation, ada: UUID) -> None:
        response = await service.client.post(
            "/internal/turns/leases", json={"turns": []}, headers=service.keys.bearer(ada)
        )
        assert response.status_code == 401
