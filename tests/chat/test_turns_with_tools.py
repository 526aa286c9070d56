"""Turns in which the model uses tools, with both protocols over real sockets, the log in Redis and Postgres behind."""

import json
from typing import Any
from uuid import UUID

import pytest
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7

from tests.chat.running import Chat, running
from tests.support.claude_server import ClaudeServer
from tests.support.identity import Keys
from tests.support.model_server import ModelServer

ADA = uuid7()
TWO = json.dumps([[["calculator", {"expression": "6*7"}], ["current_time", {"timezone": "Mars"}]]])


@pytest.fixture(params=["agent", "claude"])
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def told(told: dict[str, Any], running_claude: tuple[ClaudeServer, str]) -> dict[str, Any]:
    """With the same script in Anthropic's protocol."""
    [some, *_] = told["providers"]
    claude = some | {"name": "claude", "type": "Anthropic", "base_url": running_claude[1]}
    [template] = [item for item in told["models"] if item["name"] == "agent"]
    models = [
        template | {"name": name, "deployments": [{"provider": "claude", "model": script, "weight": 1}]}
        for name, script in (("claude", "agent"), ("claude-signing", "signing"))
    ]
    timeouts = {"timeouts": {"connect": 5, "first_token": 20, "idle": 20}}
    return told | {"providers": [*told["providers"], claude | timeouts], "models": [*told["models"], *models]}


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events if event["type"] != "reasoning.delta"]


def only(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


async def messages(chat: Chat, conversation_url: str, conversation_id: str, user: UUID = ADA) -> list[dict[str, Any]]:
    url = f"{conversation_url}/api/v1/conversations/{conversation_id}/messages"
    response = await chat.client.get(url, headers=chat.keys.bearer(user))
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["data"]
    return found


class TestTurn:
    async def test_calls_results_and_the_answer_are_told_and_stored(
        self, chat: Chat, model: str, conversation_url: str
    ) -> None:
        events = await chat.stream(ADA, TWO, model=model)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert kinds(events) == [
            *("run.started", "tool.started", "tool.started", "tool.finished", "tool.finished"),
            *("text.delta", "usage", "run.finished"),
        ]
        finished = {event["name"]: event for event in only(events, "tool.finished")}
        assert (finished["calculator"]["status"], finished["calculator"]["content"]) == ("completed", "42")
        assert finished["current_time"]["status"] == "failed"
        assert "no time zone 'Mars'" in finished["current_time"]["content"]
        assert "42" in events[-1]["content"]
        [usage] = only(events, "usage")
        assert (usage["input_tokens"], usage["output_tokens"]) == (22, 14)

        [_, reply] = await messages(chat, conversation_url, events[0]["conversation_id"])
        stored = [part["type"] for part in reply["parts"] if part["type"] != "reasoning"]
        assert stored == ["tool_call", "tool_call", "tool_result", "tool_result", "text"]
        calls = {part["tool_call_id"]: part["name"] for part in reply["parts"] if part["type"] == "tool_call"}
        results = {part["tool_call_id"]: part["name"] for part in reply["parts"] if part["type"] == "tool_result"}
        assert calls == results
        assert json.loads(reply["parts"][0]["arguments"]) == {"expression": "6*7"}

    async def test_who_resumes_sees_them_too(
        self, chat: Chat, keys: Keys, told: dict[str, Any], redis_url: str, redis: Any
    ) -> None:
        events = await chat.stream(ADA, TWO, model="agent")
        async with running(keys, Settings.model_validate(told)) as other:
            assert await other.events(ADA, events[0]["run_id"]) == events
            await redis.flushall()
            snapshot, *_ = await other.events(ADA, events[0]["run_id"])
        assert snapshot["type"] == "run.snapshot"
        assert [part["type"] for part in snapshot["parts"]] == [
            *("tool_call", "tool_call", "tool_result", "tool_result", "reasoning", "text")
        ]

    async def test_rounds_follow_each_other_and_end(self, chat: Chat, model: str) -> None:
        rounds = [[["calculator", {"expression": f"{number}+1"}]] for number in range(3)]
        events = await chat.stream(ADA, json.dumps(rounds), model=model)
        assert [event["content"] for event in only(events, "tool.finished")] == ["1", "2", "3"]
        assert events[-1]["content"].strip() == "1 & 2 & 3"
        endless = await chat.stream(ADA, '"forever"', model=model)
        assert len(only(endless, "tool.finished")) == 8
        assert endless[-1]["type"] == "run.finished"

    async def test_what_a_provider_signed_goes_back_to_it(self, chat: Chat, model_server: ModelServer) -> None:
        await chat.stream(ADA, TWO, model="agent")
        _, called, *results = [item for item in model_server.requests[-1][1]["messages"] if item["role"] != "system"]
        signed = [item["extra_content"]["google"]["thought_signature"] for item in called["tool_calls"]]
        assert signed == ["0-0", "0-1"]
        assert {item["tool_call_id"] for item in results} == {item["id"] for item in called["tool_calls"]}
        assert all(item["content"].startswith("<tool_result>\n") for item in results)

    @pytest.mark.parametrize("model", ["signing", "claude-signing"])
    async def test_a_model_gets_back_what_it_insists_on(self, chat: Chat, model: str) -> None:
        rounds = [[["calculator", {"expression": f"{number}+1"}]] * 2 for number in range(2)]
        events = await chat.stream(ADA, json.dumps(rounds), model=model)
        assert events[-1]["content"].strip() == "1 & 1 & 2 & 2"

    async def test_thoughts_are_told_apart(self, chat: Chat) -> None:
        events = await chat.stream(ADA, TWO, model="agent")
        assert [event["text"] for event in only(events, "reasoning.delta")] == ["They have answered."]

    async def test_a_stopped_run_keeps_what_was_done(self, chat: Chat, conversation_url: str) -> None:
        question = json.dumps([[["calculator", {"expression": "6*7"}]], [["weather_of_nowhere", {}]]])
        async with chat.streaming(ADA, question, model="agent") as events:
            seen = []
            async for event in events:
                seen.append(event)
                if event["type"] == "tool.finished":
                    await chat.client.post(f"/api/v1/chat/runs/{event['run_id']}/cancel", headers=chat.keys.bearer(ADA))
        [_, reply] = await messages(chat, conversation_url, seen[0]["conversation_id"])
        assert reply["parts"][:2] == [
            {"type": "tool_call"} | {name: seen[1][name] for name in ("tool_call_id", "name", "arguments")},
            {"type": "tool_result"} | {name: seen[2][name] for name in ("tool_call_id", "name", "status", "content")},
        ]


class TestKnowledge:
    @pytest.mark.usefixtures("knowledge")
    async def test_what_a_search_found_can_be_cited(self, chat: Chat) -> None:
        question = json.dumps([[["knowledge_search", {"query": "How do I return a product?"}]]])
        events = await chat.stream(ADA, question, model="agent")
        [found] = only(events, "tool.finished")
        assert "Send it back within 30 days" in found["content"]
        assert "How do I return a product?" in {event["title"] for event in only(events, "citation")}


class TestReport:
    async def test_of_the_conversation(self, keys: Keys, told: dict[str, Any]) -> None:
        tools = told["tools"] | {"enabled": ["conversation_report"]}
        async with running(keys, Settings.model_validate(told | {"tools": tools})) as chat:
            [first, *_] = await chat.stream(ADA, "Hello there", model="echo")
            question = json.dumps([[["conversation_report", {}]]])
            events = await chat.stream(ADA, question, model="agent", conversation_id=first["conversation_id"])
        [found] = only(events, "tool.finished")
        assert "Questions: 2 with " in found["content"]


class TestAssistant:
    async def test_uses_its_tools_inside(self, keys: Keys, told: dict[str, Any]) -> None:
        async with running(keys, Settings.model_validate(told | {"default_model": "agent"})) as chat:
            asked = {"model": told["bot"], "messages": [{"role": "user", "content": TWO}]}
            response = await chat.client.post("/v1/chat/completions", json=asked, headers=keys.bearer(ADA))
        body = response.json()
        assert body["choices"][0]["finish_reason"] == "stop"
        found = body["choices"][0]["message"]["content"].split(" & ")
        assert sorted(found)[0] == "42"  # in the order in which they were done
        assert len(found) == 2
        assert body["usage"]["prompt_tokens"] == 22

    async def test_a_model_without_tools_answers_without(self, keys: Keys, told: dict[str, Any]) -> None:
        models = [item | {"name": "toolless"} if item["name"] == "echo" else item for item in told["models"]]
        for item in models:
            if item["name"] == "toolless":
                item["deployments"] = [item["deployments"][0] | {"model": "toolless"}]
        async with running(keys, Settings.model_validate(told | {"models": models})) as chat:
            events = await chat.stream(ADA, "Hello there", model="toolless")
        assert events[-1]["content"].strip() == "You said: Hello there"
