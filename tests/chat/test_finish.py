"""Answers that ended by themselves and are not whole: cut at their bound of tokens, or withheld by a filter."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from openai import AsyncOpenAI
from redis.asyncio import Redis

from tests.chat.running import Chat, running
from tests.conversation.running import eventually
from tests.support.identity import Keys
from tests.support.model_server import ModelServer

CUT = pytest.mark.parametrize(("script", "reason"), [("halfway", "length"), ("filtered", "content_filter")])
DETAILS = {"length": "max_output_tokens", "content_filter": "content_filter"}


@pytest.fixture
async def chat(keys: Keys, told: dict[str, Any]) -> AsyncIterator[Chat]:
    """With the scripts that end so among its models."""
    like = next(model for model in told["models"] if model["name"] == "echo")
    names = ("halfway", "half-call", "spent", "filtered")
    scripted = [{"name": name, "deployments": [{"provider": "scripted", "model": name, "weight": 1}]} for name in names]
    more = [like | script for script in scripted]
    async with running(keys, Settings.model_validate(told | {"models": [*told["models"], *more]})) as service:
        yield service


def sdk_of(chat: Chat, user_id: Any) -> AsyncOpenAI:
    base = f"{chat.client.base_url}/v1"
    return AsyncOpenAI(base_url=base, api_key=chat.keys.access_token(user_id), max_retries=0, timeout=20)


class TestTold:
    @CUT
    async def test_in_one_piece_and_as_events(self, chat: Chat, script: str, reason: str) -> None:
        user = uuid7()
        sent = (await chat.send(user, "Why?", model=script)).json()
        assert sent["finish_reason"] == reason
        last = (await chat.stream(user, "Why?", model=script))[-1]
        assert (last["type"], last["finish_reason"]) == ("run.finished", reason)

    async def test_nothing_of_one_that_is_whole(self, chat: Chat) -> None:
        user = uuid7()
        assert (await chat.send(user, "Why?", model="echo")).json()["finish_reason"] is None
        assert "finish_reason" not in (await chat.stream(user, "Why?", model="echo"))[-1]

    @CUT
    async def test_when_only_what_was_stored_is_left(
        self, chat: Chat, redis: Redis, conversation_url: str, script: str, reason: str
    ) -> None:
        user = uuid7()
        sent = (await chat.send(user, "Why?", model=script)).json()
        events: list[dict[str, Any]] = []

        async def read_from_what_is_stored() -> bool:
            await redis.flushall()
            events[:] = await chat.events(user, sent["run_id"])
            return events[0]["type"] == "run.snapshot"

        await eventually(read_from_what_is_stored)
        last = events[-1]
        assert (events[0]["finish_reason"], last["finish_reason"]) == (reason, reason)
        assert (await chat.run(user, sent["run_id"]))["finish_reason"] == reason
        async with httpx2.AsyncClient(base_url=conversation_url, headers=chat.keys.bearer(user)) as client:
            found = await client.get(f"/api/v1/conversations/{sent['conversation_id']}/messages")
        asked, said = found.json()["data"]
        assert (asked["finish_reason"], said["finish_reason"], said["status"]) == (None, reason, "completed")


class TestCall:
    """Half of one is neither made nor handed over."""

    async def test_of_ours(self, chat: Chat, model_server: ModelServer) -> None:
        events = await chat.stream(uuid7(), "Why?", model="half-call")
        assert (events[-1]["type"], events[-1]["finish_reason"]) == ("run.finished", "length")
        assert "tool.started" not in {event["type"] for event in events}
        assert len(model_server.requests) == 1

    @pytest.mark.parametrize("store", [True, False])
    async def test_of_the_clients(self, chat: Chat, store: bool) -> None:
        tool: Any = {"type": "function", "name": "calculate", "parameters": {"type": "object"}}
        async with sdk_of(chat, uuid7()) as sdk:
            response = await sdk.responses.create(model="half-call", input="Why?", store=store, tools=[tool])
        assert (response.status, response.output_text) == ("incomplete", "Let me see.")


class TestNothingSaid:
    """A model that thinks until its bound is reached."""

    async def test_is_a_failure_that_says_what_to_do(self, chat: Chat) -> None:
        user = uuid7()
        *_, last = await chat.stream(user, "Why?", model="spent")
        assert (last["type"], last["error"]["type"]) == ("run.failed", "urn:chatbot:problem:answer-too-long")
        assert "1000 tokens" in last["error"]["title"]
        assert "maxOutputTokens" in last["error"]["title"]

    async def test_without_a_stream(self, chat: Chat) -> None:
        response = await chat.send(uuid7(), "Why?", model="spent")
        assert (response.status_code, response.json()["type"]) == (502, "urn:chatbot:problem:answer-too-long")

    async def test_its_tokens_count(self, chat: Chat, sql: Any) -> None:
        user = uuid7()
        await chat.stream(user, "Why?", model="spent")
        [row] = await sql.fetch("SELECT input_tokens, output_tokens FROM ledger WHERE user_id = $1", user)
        assert tuple(row) == (11, 7)


class TestResponses:
    @pytest.mark.parametrize("store", [True, False])
    @pytest.mark.parametrize(
        ("script", "reason"), [("halfway", "length"), ("spent", "length"), ("filtered", "content_filter")]
    )
    async def test_are_incomplete(self, chat: Chat, script: str, reason: str, store: bool) -> None:
        async with sdk_of(chat, uuid7()) as sdk:
            response = await sdk.responses.create(model=script, input="Why?", store=store)
            assert (response.status, response.incomplete_details.reason) == ("incomplete", DETAILS[reason])  # type: ignore[union-attr]
            said = [item.status for item in response.output if item.type == "message"]
            assert said == (["incomplete"] if script == "halfway" else [])
            if store:
                assert await sdk.responses.retrieve(response.id) == response
            stream = await sdk.responses.create(model=script, input="Why?", store=store, stream=True)
            events = [event async for event in stream]
        assert events[-1].type == "response.incomplete"
        assert events[-1].response.incomplete_details == response.incomplete_details
