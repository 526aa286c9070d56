"""Turns that wait for the user: who may answer, which answer counts, and what the next attempt is told."""

import asyncio
from typing import Any
from uuid import UUID

import httpx2
from chatbot_common.ids import uuid7

from tests.conversation.running import Conversation
from tests.conversation.test_branches import regenerate

RESUME = {"exchange": ["whatever chat wants back"]}


def waiting(*ids: str) -> dict[str, Any]:
    return {"calls": [{"tool_call_id": name, "name": "order", "arguments": "{}"} for name in ids], "resume": RESUME}


async def waits(service: Conversation, ada: UUID, *ids: str, text: str = "", **body: Any) -> dict[str, Any]:
    """A turn that waits for answers to these calls."""
    turn = await service.started(ada)
    parts = [{"type": "tool_call", "tool_call_id": name} for name in ids]
    response = await service.reply(turn, text, status="requires_action", waiting=waiting(*ids), parts=parts, **body)
    assert response.status_code == 200, response.text
    return turn


async def answer(
    service: Conversation, user: UUID, turn: dict[str, Any], call: str, yes: bool = True
) -> httpx2.Response:
    body = {"tool_call_id": call, "approved": yes}
    path = f"/internal/turns/{turn['turn_id']}/approvals"
    return await service.client.post(path, json=body, headers=service.as_chat(user))


class TestApprovals:
    async def test_the_last_answer_starts_the_next_attempt(self, service: Conversation, ada: UUID) -> None:
        turn = await waits(service, ada, "a", "b")

        first = (await answer(service, ada, turn, "b", yes=False)).json()
        assert (first["state"], first["attempt"], first["reply"]["status"]) == ("requires_action", 1, "requires_action")
        assert [call["approved"] for call in first["waiting"]["calls"]] == [None, False]

        started = (await answer(service, ada, turn, "a")).json()
        assert (started["state"], started["attempt"]) == ("started", 2)
        assert [call["approved"] for call in started["waiting"]["calls"]] == [True, False]
        assert started["waiting"]["resume"] == RESUME

    async def test_of_answers_at_the_same_time_one_starts_it(self, service: Conversation, ada: UUID) -> None:
        turn = await waits(service, ada, "a", "b")
        answers = await asyncio.gather(*(answer(service, ada, turn, name) for name in "abab"))
        assert sorted(response.status_code for response in answers) == [200, 200, 409, 409]
        states = [response.json()["state"] for response in answers if response.is_success]
        assert sorted(states) == ["requires_action", "started"]

    async def test_what_cannot_be_answered(self, service: Conversation, ada: UUID) -> None:
        turn = await waits(service, ada, "a")
        assert (await answer(service, uuid7(), turn, "a")).status_code == 404
        assert (await answer(service, ada, turn, "z")).status_code == 404
        assert (await answer(service, ada, turn, "a")).status_code == 200
        assert (await answer(service, ada, turn, "a")).status_code == 409
        running = await service.started(ada)
        assert (await answer(service, ada, running, "a")).status_code == 409

    async def test_the_next_attempt_goes_on_with_message_and_usage(self, service: Conversation, ada: UUID) -> None:
        thought = {"input_tokens": 3, "output_tokens": 4, "reasoning_tokens": 2}
        turn = await waits(service, ada, "a", text="Let me order.", usage=thought)
        started = (await answer(service, ada, turn, "a")).json()
        await service.reply(started, "Let me order. Done.")
        path = f"/conversations/{turn['conversation_id']}/messages"
        [_, reply] = (await service.get(path, ada)).json()["data"]
        assert (reply["text"], reply["status"]) == ("Let me order. Done.", "completed")
        assert reply["usage"] == {"input_tokens": 6, "output_tokens": 8, "reasoning_tokens": 2}
        assert (await service.get(path.removesuffix("/messages"), ada)).json()["message_count"] == 2

    async def test_who_waits_may_be_cancelled_and_until_then_is_the_only_answer(
        self, service: Conversation, ada: UUID
    ) -> None:
        turn = await waits(service, ada, "a", text="Let me order.")
        assert (await regenerate(service, ada, turn)).status_code == 409

        assert (await service.reply(turn, "", status="interrupted")).status_code == 409
        assert (await service.reply(turn, "", status="cancelled")).status_code == 200

        assert (await answer(service, ada, turn, "a")).status_code == 409
        path = f"/conversations/{turn['conversation_id']}/messages"
        [_, reply] = (await service.get(path, ada)).json()["data"]
        assert (reply["text"], reply["status"]) == ("Let me order.", "cancelled")
        assert (await regenerate(service, ada, turn)).json()["state"] == "started"

    async def test_waiting_is_for_those_who_wait(self, service: Conversation, ada: UUID) -> None:
        turn = await service.started(ada)
        assert (await service.reply(turn, "", status="requires_action")).status_code == 422
        assert (await service.reply(turn, "", waiting=waiting("a"))).status_code == 422

    async def test_a_tool_call_is_kept_where_nothing_was_said(self, service: Conversation, ada: UUID) -> None:
        """Also when an attempt before it had ended without a word."""
        turn = await service.started(ada, client_message_id="m1")
        await service.reply(turn, "", status="failed", parts=[])
        again = (await service.start_turn(ada, client_message_id="m1", retry=True)).json()
        part = {"type": "tool_call", "tool_call_id": "a"}
        await service.reply(again, "", status="requires_action", waiting=waiting("a"), parts=[part])
        found = (await service.start_turn(ada, client_message_id="m1", retry=True)).json()
        assert (found["state"], found["reply"]["parts"]) == ("requires_action", [part])
