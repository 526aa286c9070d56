"""Tools with side effects: the user is asked, the run waits, and goes on from any replica with the answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any
from uuid import UUID

import httpx2
import pytest
from chatbot_chat.runs import executor
from chatbot_chat.runs.log import RunLog
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from redis.asyncio import Redis

from tests.chat.running import Chat, parse_sse, running
from tests.chat.test_socket import opened
from tests.chat.test_turns_with_tools import kinds, messages, only
from tests.conversation.running import eventually
from tests.support.identity import Keys
from tests.support.model_server import ModelServer

ADA = uuid7()
DAY = {"tokens_per_day": 10**6, "tokens_per_month": None, "cost_per_day": None, "cost_per_month": None}
ordered: list[str] = []
released: list[bool] = []


class Order:
    name, description, side_effects = "order", "Orders something.", True
    parameters: Mapping[str, Any] = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}

    async def run(self, arguments: Mapping[str, Any]) -> str:
        ordered.append(arguments["what"])
        return f"Ordered {arguments['what']}."


class Stubborn:
    name, description, side_effects = "stubborn", "Does not stop when it is told to.", False
    parameters: Mapping[str, Any] = {"type": "object", "properties": {}}

    async def run(self, _: Mapping[str, Any]) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            while not released:
                await asyncio.sleep(0.02)
        return "Done."


INSTALLED = EntryPoints(
    [EntryPoint(kind.lower(), f"{__name__}:{kind}", "chatbot.tools") for kind in ("Order", "Stubborn")]
)


def question(*things: str) -> str:
    calls = [["calculator", {"expression": "6*7"}], *(["order", {"what": what}] for what in things)]
    return json.dumps([calls, [["current_time", {}]]])


@pytest.fixture
def told(told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("chatbot_chat.tools.factory.entry_points", lambda group: INSTALLED.select(group=group))
    ordered.clear()
    released.clear()
    return told | {"tools": told["tools"] | {"enabled": ["calculator", "current_time", "order", "stubborn"]}}


@pytest.fixture
async def other(keys: Keys, told: dict[str, Any]) -> AsyncIterator[Chat]:
    """Another replica."""
    async with running(keys, Settings.model_validate(told)) as service:
        yield service


async def answer(
    chat: Chat, asked: dict[str, Any], yes: bool = True, user: UUID = ADA, accept: str = "application/json"
) -> httpx2.Response:
    path = f"/api/v1/chat/runs/{asked['run_id']}/approvals/{asked['tool_call_id']}"
    headers = chat.keys.bearer(user) | {"Accept": accept}
    return await chat.client.post(path, json={"approved": yes}, headers=headers)


async def goes_on(chat: Chat, asked: dict[str, Any], yes: bool = True) -> list[dict[str, Any]]:
    response = await answer(chat, asked, yes, accept="text/event-stream")
    assert response.status_code == 200, response.text
    return parse_sse(response.text)


class TestAsking:
    async def test_the_run_waits_and_goes_on_elsewhere(
        self, chat: Chat, other: Chat, conversation_url: str, model_server: ModelServer
    ) -> None:
        events = await chat.stream(ADA, question("socks"), model="agent")
        assert kinds(events) == [
            *(
                "run.started",
                "tool.started",
                "tool.finished",
                "usage",
                "tool.approval",
            )  # the calculator is not asked about
        ]
        asked = events[-1]
        assert (asked["name"], json.loads(asked["arguments"]), asked["more"]) == ("order", {"what": "socks"}, False)
        view = await chat.run(ADA, asked["run_id"])
        assert (view["state"], view["approvals"][0]["tool_call_id"]) == ("requires_action", asked["tool_call_id"])
        assert not ordered

        after = await goes_on(other, asked)
        assert [event["attempt"] for event in after] == [2] * len(after)
        assert kinds(after) == [
            *("run.started", "run.snapshot", "tool.started", "tool.finished"),
            *("tool.started", "tool.finished", "text.delta", "usage", "run.finished"),
        ]
        assert ordered == ["socks"]
        assert after[-1]["content"].startswith("42 & Ordered socks. & ")
        signed = model_server.requests[-2][1]["messages"][2]["tool_calls"]
        assert [call["extra_content"]["google"]["thought_signature"] for call in signed] == ["0-0", "0-1"]
        [_, reply] = await messages(chat, conversation_url, events[0]["conversation_id"], ADA)
        told = [(part["type"], part.get("name")) for part in reply["parts"] if part["type"].startswith("tool")]
        assert told == [
            *(("tool_call", "calculator"), ("tool_result", "calculator"), ("tool_call", "order")),
            *(("tool_result", "order"), ("tool_call", "current_time"), ("tool_result", "current_time")),
        ]
        assert reply["usage"] == {"input_tokens": 33, "output_tokens": 21}

    async def test_a_no_is_told_to_the_model(self, chat: Chat) -> None:
        events = await chat.stream(ADA, question("socks"), model="agent")
        after = await goes_on(chat, events[-1], yes=False)
        [declined, _] = only(after, "tool.finished")
        assert declined["status"] == "declined"
        assert "The user declined" in after[-1]["content"]
        assert not ordered

    async def test_of_several_calls_each_is_answered(self, chat: Chat, other: Chat) -> None:
        events = await chat.stream(ADA, question("socks", "shoes"), model="agent")
        first, second = only(events, "tool.approval")
        assert (first["more"], second["more"]) == (True, False)
        view = (await answer(chat, second, yes=False)).json()
        assert [item["tool_call_id"] for item in view["approvals"]] == [first["tool_call_id"]]
        after = await goes_on(other, first)
        assert ordered == ["socks"]
        assert after[-1]["type"] == "run.finished"

    async def test_whoever_comes_later_is_asked_again(self, chat: Chat, other: Chat, redis: Redis, log: RunLog) -> None:
        """By the log, and without it."""
        events = await chat.stream(ADA, question("socks"), model="agent", client_message_id="order-1")

        async def logged() -> bool:
            return any(event.terminal for event in await log.said(UUID(events[0]["run_id"]), 1))

        await eventually(logged)  # it is written in batches
        assert await other.events(ADA, events[0]["run_id"]) == events
        await redis.flushall()
        snapshot, *_, asked = await other.stream(ADA, question("socks"), model="agent", client_message_id="order-1")
        assert (snapshot["type"], asked["type"]) == ("run.snapshot", "tool.approval")
        assert [part["type"] for part in snapshot["parts"]] == ["tool_call", "tool_result", "tool_call"]
        assert asked["tool_call_id"] == events[-1]["tool_call_id"]

    async def test_without_a_stream_it_is_a_202(self, chat: Chat) -> None:
        response = await chat.send(ADA, question("socks"), model="agent")
        assert response.status_code == 202
        body = response.json()
        assert (body["state"], body["approvals"][0]["name"]) == ("requires_action", "order")

    async def test_arguments_that_do_not_fit_are_not_asked_about(self, chat: Chat) -> None:
        asked = json.dumps([[["order", {"which": "socks"}]]])
        events = await chat.stream(ADA, asked, model="agent")
        assert events[-1]["type"] == "run.finished"
        assert "'what' is a required property" in events[-1]["content"]


class TestAnswering:
    async def test_only_once(self, chat: Chat, other: Chat) -> None:
        events = await chat.stream(ADA, question("socks"), model="agent")
        answers = await asyncio.gather(*(answer(service, events[-1]) for service in (chat, other, chat, other)))
        assert sorted(response.status_code for response in answers) == [202, 409, 409, 409]
        assert (await chat.ended(ADA, events[0]["run_id"]))["state"] == "completed"
        assert ordered == ["socks"]
        assert (await answer(chat, events[-1])).status_code == 409

    async def test_only_by_whose_it_is(self, chat: Chat) -> None:
        events = await chat.stream(ADA, question("socks"), model="agent")
        assert (await answer(chat, events[-1], user=uuid7())).status_code == 404
        assert (await answer(chat, events[-1] | {"tool_call_id": "another"})).status_code == 404
        assert (await answer(chat, events[-1] | {"run_id": str(uuid7())})).status_code == 404
        assert not ordered

    async def test_by_stopping_the_run(self, chat: Chat, other: Chat) -> None:
        events = await chat.stream(ADA, question("socks"), model="agent", client_message_id="stopped")
        path = f"/api/v1/chat/runs/{events[0]['run_id']}/cancel"
        response = await other.client.post(path, headers=other.keys.bearer(ADA))
        assert (response.status_code, response.json()["state"]) == (202, "cancelled")
        assert (await answer(chat, events[-1])).status_code == 409
        again = await chat.stream(ADA, question("socks"), model="agent", client_message_id="stopped", retry=True)
        assert (again[-1]["type"], again[-1]["attempt"]) == ("tool.approval", 2)
        assert not ordered

    async def test_when_its_model_has_gone(self, chat: Chat, keys: Keys, told: dict[str, Any]) -> None:
        """Whoever answered must not wait for a run that nobody has begun."""
        events = await chat.stream(ADA, question("socks"), model="agent")
        budgets = {"per_user": DAY, "total": DAY, "currency": "EUR"}
        models = [model for model in told["models"] if model["name"] != "agent"]
        async with running(keys, Settings.model_validate(told | {"models": models, "budgets": budgets})) as rolled:
            assert (await answer(rolled, events[-1])).status_code == 404
        assert (await chat.run(ADA, events[0]["run_id"]))["state"] == "failed"

    async def test_over_the_socket(self, chat: Chat) -> None:
        async with opened(chat, ADA) as socket:
            await socket.say("message", content=question("socks"), model="agent")
            *_, asked = await socket.until("tool.approval", "error")
            await socket.say("approve", run_id=asked["run_id"], tool_call_id=asked["tool_call_id"], approved=True)
            *_, response = await socket.until("response", "error")
            assert "Ordered socks." in response["content"]
            await socket.say("approve", run_id=asked["run_id"], tool_call_id=asked["tool_call_id"], approved=True)
            refusal = await socket.hear()
        assert (refusal["type"], refusal["error"]["status"]) == ("error", 409)


class TestStopping:
    async def test_a_tool_that_goes_on_keeps_no_run_from_its_end(
        self, chat: Chat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(executor, "CANCEL_PATIENCE_SECONDS", 0.05)
        async with chat.streaming(ADA, json.dumps([[["stubborn", {}]]]), model="agent") as events:
            seen = [await anext(events), await anext(events)]
            await chat.client.post(f"/api/v1/chat/runs/{seen[0]['run_id']}/cancel", headers=chat.keys.bearer(ADA))
            seen += [event async for event in events]
        released.append(True)
        assert kinds(seen) == ["run.started", "tool.started", "usage", "run.cancelled"]


class TestAssistant:
    async def test_under_v1_nobody_can_be_asked(self, keys: Keys, told: dict[str, Any]) -> None:
        async with running(keys, Settings.model_validate(told | {"default_model": "agent"})) as chat:
            asked = {"model": told["bot"], "messages": [{"role": "user", "content": question("socks")}]}
            response = await chat.client.post("/v1/chat/completions", json=asked, headers=keys.bearer(ADA))
        assert "There is no tool 'order'" in response.json()["choices"][0]["message"]["content"]
        assert not ordered
