"""Feedback: what the reader of an answer thinks of it, once for each message."""

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from chatbot_common.ids import uuid7

from tests.conversation.running import Conversation


async def rate(service: Conversation, user_id: UUID, turn: dict[str, Any], **changes: Any) -> httpx2.Response:
    """The answer of a turn, unless `message` names another of its messages; the other changes are of the body."""
    message = turn[changes.pop("message", "reply_message_id")]
    path = f"/conversations/{turn['conversation_id']}/messages/{message}/feedback"
    return await service.send("POST", path, user_id, {"rating": "up"} | changes)


class TestFeedback:
    async def test_is_kept(self, service: Conversation, ada: UUID) -> None:
        turn = await service.exchange(ada, "Hello", "Good day")
        response = await rate(service, ada, turn, rating="down", comment="Too short.")
        assert response.status_code == 200
        given = response.json()
        assert (given["message_id"], given["rating"], given["comment"]) == (
            turn["reply_message_id"],
            "down",
            "Too short.",
        )
        page = await service.get(f"/conversations/{turn['conversation_id']}/messages", ada)
        read = [message["feedback"] for message in page.json()["data"]]
        assert read == [None, {"rating": "down", "comment": "Too short."}]

    async def test_the_last_counts(self, service: Conversation, ada: UUID, sql: asyncpg.Connection) -> None:
        turn = await service.exchange(ada, "Hello", "Good day")
        first = (await rate(service, ada, turn, comment="Good")).json()
        await asyncio.gather(*(rate(service, ada, turn, rating="down") for _ in range(3)))
        last = (await rate(service, ada, turn, rating="down")).json()
        assert (last["rating"], last["comment"], last["created_at"]) == ("down", None, first["created_at"])
        assert await sql.fetchval("SELECT count(*) FROM feedback") == 1

    async def test_of_someone_elses_answer_is_a_404(
        self, service: Conversation, ada: UUID, bob: UUID, sql: asyncpg.Connection
    ) -> None:
        turn = await service.exchange(ada, "Hello", "Good day")
        other = await service.exchange(ada, "Another", "conversation")
        assert (await rate(service, bob, turn)).status_code == 404
        assert (await rate(service, ada, turn | {"conversation_id": other["conversation_id"]})).status_code == 404
        assert (await rate(service, ada, turn | {"reply_message_id": str(uuid7())})).status_code == 404
        assert await sql.fetchval("SELECT count(*) FROM feedback") == 0

    async def test_is_for_answers(self, service: Conversation, ada: UUID) -> None:
        turn = await service.exchange(ada, "Hello", "Good day")
        response = await rate(service, ada, turn, message="user_message_id")
        assert response.status_code == 422
        assert "question" in response.json()["detail"]

    @pytest.mark.parametrize(
        "wrong", [{"rating": "great"}, {"comment": "x" * 2001}, {"stars": 5}, {"comment": "a\x00"}]
    )
    async def test_is_up_or_down(self, service: Conversation, ada: UUID, wrong: dict[str, Any]) -> None:
        turn = await service.exchange(ada, "Hello", "Good day")
        assert (await rate(service, ada, turn, **wrong)).status_code == 422

    async def test_goes_with_its_conversation(self, service: Conversation, ada: UUID, sql: asyncpg.Connection) -> None:
        turn = await service.exchange(ada, "Hello", "Good day")
        await rate(service, ada, turn)
        assert (await service.send("DELETE", f"/conversations/{turn['conversation_id']}", ada)).status_code == 204
        assert await sql.fetchval("SELECT count(*) FROM feedback") == 0


class TestModeration:
    """Conversation keeps what chat found."""

    async def test_marks_messages(self, service: Conversation, ada: UUID) -> None:
        mark = {"flagged": True, "categories": {"own": True}, "category_scores": {"own": 1.0}}
        turn = await service.started(ada, moderation=mark)
        await service.reply(turn, moderation=mark)
        await service.exchange(ada, "And", "so on", conversation_id=turn["conversation_id"])
        found = (await service.get("/history", ada)).json()["data"]
        assert [message["moderation"] for message in found] == [None, None, mark, mark]
