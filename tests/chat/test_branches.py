"""Regenerate and edit, as a client asks for them: each starts a run like any other."""

from typing import Any

import httpx2
from chatbot_common.ids import uuid7

from tests.chat.running import Chat, parse_sse

ADA = uuid7()


async def post(chat: Chat, answer: dict[str, Any], route: str, body: Any = None, **headers: str) -> httpx2.Response:
    """To the question or the answer of an exchange; `route` is `user_message_id/edit` or the like."""
    named, _, action = route.partition("/")
    path = f"/api/v1/conversations/{answer['conversation_id']}/messages/{answer[named]}/{action}"
    return await chat.client.post(path, json=body, headers=chat.keys.bearer(ADA) | headers)


class TestRegenerate:
    async def test_answers_again(self, chat: Chat) -> None:
        first = (await chat.send(ADA, "Hello", model="echo")).json()
        response = await post(chat, first, "message_id/regenerate", {"model": "echo"}, accept="text/event-stream")
        events = parse_sse(response.text)
        assert (events[0]["type"], events[-1]["type"]) == ("run.started", "run.finished")
        assert events[-1]["content"].strip() == "You said: Hello"
        assert events[0]["user_message_id"] == first["user_message_id"]
        assert events[0]["message_id"] != first["message_id"]
        assert events[0]["run_id"] != first["run_id"]
        again = (await chat.run(ADA, events[0]["run_id"]))["content"]
        assert again == events[-1]["content"]

    async def test_needs_no_body(self, chat: Chat) -> None:
        first = (await chat.send(ADA, "Hello", model="echo")).json()
        second = await post(chat, first, "user_message_id/regenerate")
        assert second.status_code == 200
        assert second.json()["user_message_id"] == first["user_message_id"]

    async def test_the_same_idempotency_key_answers_once(self, chat: Chat) -> None:
        first = (await chat.send(ADA, "Hello", model="echo")).json()
        key = {"Idempotency-Key": "k"}
        answers = [(await post(chat, first, "message_id/regenerate", {"model": "echo"}, **key)).json() for _ in "ab"]
        assert answers[0] == answers[1]

    async def test_of_someone_else_is_not_found(self, chat: Chat) -> None:
        answer = {"conversation_id": str(uuid7()), "message_id": str(uuid7())}
        assert (await post(chat, answer, "message_id/regenerate")).status_code == 404
        assert (await post(chat, answer, "message_id/edit", {"content": "x"})).status_code == 404


class TestEdit:
    async def test_asks_instead(self, chat: Chat) -> None:
        first = (await chat.send(ADA, "Hello", model="echo")).json()
        edited = (await post(chat, first, "user_message_id/edit", {"content": "Goodbye", "model": "echo"})).json()
        assert edited["content"].strip() == "You said: Goodbye"
        assert edited["conversation_id"] == first["conversation_id"]
        assert edited["user_message_id"] != first["user_message_id"]

    async def test_wrong_bodies(self, chat: Chat) -> None:
        first = (await chat.send(ADA, "Hello", model="echo")).json()
        for body in ({"content": " "}, {}, {"content": "x", "conversation_id": first["conversation_id"]}):
            assert (await post(chat, first, "user_message_id/edit", body)).status_code == 422
        answer = await post(chat, first, "message_id/edit", {"content": "x"})
        assert answer.status_code == 422
