"""Answers that are given again, as people and their programs meet them."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from chatbot_conversation.wire import MAX_TEXT
from redis.asyncio import Redis

from tests.chat.caching import QUESTION, answers_of, counted
from tests.chat.running import Chat, parse_sse, running
from tests.conversation.running import eventually
from tests.support.identity import BOT, Keys
from tests.support.model_server import ModelServer

Cached = Callable[..., contextlib.AbstractAsyncContextManager[Chat]]


@pytest.fixture
def cached(keys: Keys, told: dict[str, Any]) -> Cached:
    """Makes a chat whose assistant is `echo`, and whose answers are kept."""
    usual = {"default_model": "echo", "cache": {"seconds": 600, "similarity": None}}
    return lambda **changes: running(keys, Settings.model_validate(told | usual | changes))


@pytest.fixture
async def chat(cached: Cached) -> AsyncIterator[Chat]:
    async with cached() as service:
        yield service


async def complete(chat: Chat, user: UUID, model: str = BOT, **changes: Any) -> httpx2.Response:
    """A chat completion; `headers` are the client's own."""
    headers = chat.keys.bearer(user) | changes.pop("headers", {})
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]} | changes
    return await chat.client.post("/v1/chat/completions", json=body, headers=headers)


class TestTurn:
    async def test_is_answered_again_without_the_model(
        self, chat: Chat, model_server: ModelServer, sql: asyncpg.Connection
    ) -> None:
        ada = uuid7()
        first, again = await chat.stream(ada, QUESTION), await chat.stream(ada, QUESTION)
        assert len(model_server.requests) == 1
        assert {event["type"] for event in first} == {event["type"] for event in again}
        assert first[-1]["content"] == again[-1]["content"] != ""
        [usage] = [event for event in again if event["type"] == "usage"]
        assert (usage["input_tokens"], usage["output_tokens"], usage["cached"]) == (11, 7, True)
        stored = await sql.fetchrow("SELECT * FROM messages WHERE id = $1", UUID(again[-1]["message_id"]))
        assert stored is not None
        assert (stored["text"], stored["model"], stored["status"]) == (first[-1]["content"], "echo", "completed")
        assert "cached" in stored["usage"]
        spent = await sql.fetch("SELECT model, input_tokens + output_tokens FROM ledger WHERE user_id = $1", ada)
        assert sorted(map(tuple, spent)) == [("echo", 0), ("echo", 18)]

    async def test_that_was_erased_is_not_given_again(self, chat: Chat) -> None:
        ada, bob = uuid7(), uuid7()
        for user in (bob, ada):
            run = UUID((await chat.send(user, QUESTION)).json()["run_id"])
        await chat.client.delete(f"/v1/responses/resp_{run.hex}", headers=chat.keys.bearer(ada))
        for user, cached in ((ada, False), (bob, True)):
            assert ("cached" in (await chat.send(user, QUESTION)).json()["usage"]) == cached

    async def test_of_a_conversation_that_was_deleted_is_not_given_again(self, chat: Chat, cached: Cached) -> None:
        ada, bob = uuid7(), uuid7()
        for user in (bob, ada):
            place = (await chat.send(user, QUESTION)).json()["conversation_id"]
        path = f"/api/v1/conversations/{place}"
        async with cached(redis_url="redis://127.0.0.1:1") as away:
            assert (await away.client.delete(path, headers=chat.keys.bearer(ada))).status_code == 503
        assert (await chat.client.delete(path, headers=chat.keys.bearer(bob))).status_code == 404
        assert "cached" not in (await chat.send(bob, QUESTION)).json()["usage"]
        found = [(await chat.client.delete(path, headers=chat.keys.bearer(ada))).status_code for _ in range(2)]
        assert found == [204, 404]
        assert "cached" not in (await chat.send(ada, QUESTION)).json()["usage"]

    async def test_that_cannot_be_erased_here_is_not_erased_at_all(self, chat: Chat, cached: Cached) -> None:
        """So it can be asked for again."""
        ada = uuid7()
        path = f"/v1/responses/resp_{UUID((await chat.send(ada, QUESTION)).json()['run_id']).hex}"
        async with cached(redis_url="redis://127.0.0.1:1") as away:
            assert (await away.client.delete(path, headers=chat.keys.bearer(ada))).status_code == 503
        assert (await chat.client.delete(path, headers=chat.keys.bearer(ada))).status_code == 200
        assert "cached" not in (await chat.send(ada, QUESTION)).json()["usage"]

    async def test_of_somebody_else_is_not(self, chat: Chat, model_server: ModelServer) -> None:
        for user in (uuid7(), uuid7()):
            await chat.send(user, QUESTION)
        assert len(model_server.requests) == 2

    async def test_with_another_history_is_not(self, chat: Chat, model_server: ModelServer) -> None:
        ada = uuid7()
        place = (await chat.send(ada, QUESTION)).json()["conversation_id"]
        answer = (await chat.send(ada, QUESTION, conversation_id=place)).json()
        assert answer["content"].strip().endswith("(after 2 messages)")

    async def test_that_asks_for_the_model_gets_it(self, chat: Chat, model_server: ModelServer) -> None:
        """And the next who asks gets that answer."""
        ada = uuid7()
        headers = chat.keys.bearer(ada) | {"Cache-Control": "no-cache"}
        await chat.send(ada, QUESTION)
        fresh = await chat.client.post("/api/v1/chat/send", json={"content": QUESTION}, headers=headers)
        assert "cached" not in fresh.json()["usage"]
        answer = (await chat.send(ada, QUESTION)).json()
        assert answer["usage"]["cached"]
        path = f"/api/v1/conversations/{answer['conversation_id']}/messages/{answer['message_id']}/regenerate"
        again = await chat.client.post(path, headers=chat.keys.bearer(ada))
        assert "cached" not in again.json()["usage"]
        assert len(model_server.requests) == 3

    @pytest.mark.parametrize("model", ["broken", "cut", "agent"])
    async def test_that_fails_or_calls_tools_is_not_kept(
        self, chat: Chat, model_server: ModelServer, redis: Redis, model: str
    ) -> None:
        ada = uuid7()
        await chat.send(ada, "calculator: 6*7", model=model)
        assert model_server.requests
        assert await answers_of(redis, ada) == []

    async def test_that_is_cancelled_is_not_kept(self, chat: Chat, redis: Redis) -> None:
        ada = uuid7()
        async with chat.streaming(ada, "Count", model="endless") as events:
            started = await anext(events)
        await chat.client.post(f"/api/v1/chat/runs/{started['run_id']}/cancel", headers=chat.keys.bearer(ada))
        await chat.ended(ada, started["run_id"])
        assert await answers_of(redis, ada) == []

    async def test_answered_by_a_fallback_is_not_kept(self, cached: Cached, redis: Redis) -> None:
        ada = uuid7()
        async with cached(default_model="dead", fallbacks=["echo"]) as chat:
            assert (await chat.send(ada, QUESTION)).status_code == 200
        assert await answers_of(redis, ada) == []

    @pytest.mark.parametrize("output", ["Block", "Flag"])
    async def test_that_moderation_marks_is_not_kept(
        self, cached: Cached, redis: Redis, tmp_path: Path, output: str
    ) -> None:
        ada = uuid7()
        (tmp_path / "rules.yaml").write_text("towers: [said]")
        rules = {"input": "Off", "output": output, "provider": None, "rules_file": str(tmp_path / "rules.yaml")}
        async with cached(moderation=rules) as chat:
            await chat.send(ada, QUESTION)
            await complete(chat, ada)
        kept = await answers_of(redis, ada)
        assert len(kept) == (1 if output == "Flag" else 0)  # completions flag nothing

    async def test_that_is_withheld_when_given_again_is_no_answer(
        self, chat: Chat, cached: Cached, model_server: ModelServer, sql: asyncpg.Connection, tmp_path: Path
    ) -> None:
        """To those who count them, unlike one that was given again."""
        ada = uuid7()
        (tmp_path / "rules.yaml").write_text("towers: [said]")
        rules = {"input": "Off", "output": "Block", "provider": None, "rules_file": str(tmp_path / "rules.yaml")}

        async def one_was() -> bool:
            query = "SELECT count(*) = 1 FROM ledger WHERE user_id = $1 AND input_tokens = 0"
            return bool(await sql.fetchval(query, ada))

        await chat.send(ada, QUESTION)
        await complete(chat, ada)
        await eventually(one_was)
        async with cached(moderation=rules) as strict:
            assert "withheld" in (await strict.send(ada, QUESTION)).json()["content"]
            assert "withheld" in (await complete(strict, ada)).text
        assert await one_was()
        assert len(model_server.requests) == 1

    async def test_is_answered_also_when_the_budget_is_used_up(self, cached: Cached) -> None:
        ada = uuid7()
        bounds = dict.fromkeys(("tokens_per_day", "tokens_per_month", "cost_per_day", "cost_per_month"))
        budgets = {"per_user": bounds | {"tokens_per_day": 1500}, "total": bounds, "currency": "USD"}
        async with cached(budgets=budgets) as chat:
            answers = [await chat.send(ada, text) for text in (QUESTION, "x" * 4000, QUESTION)]
        assert [answer.status_code for answer in answers] == [200, 429, 200]

    async def test_goes_on_without_redis(self, cached: Cached, model_server: ModelServer) -> None:
        async with cached(redis_url="redis://127.0.0.1:1") as chat:
            for _ in range(2):
                assert (await chat.send(uuid7(), QUESTION)).status_code == 200
        assert len(model_server.requests) == 2


class TestCompletion:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_of_the_assistant(self, chat: Chat, model_server: ModelServer, stream: bool) -> None:
        ada = uuid7()
        answers = [await complete(chat, ada, stream=stream, stream_options={"include_usage": True}) for _ in range(2)]
        assert [answer.headers["cache-status"] for answer in answers] == ["chatbot; fwd=miss", "chatbot; hit"]
        assert len(model_server.requests) == 1
        first, again = ((parse_sse(answer.text)[-1] if stream else answer.json())["usage"] for answer in answers)
        assert again == first | {"prompt_tokens_details": {"cached_tokens": 11}}

    @pytest.mark.parametrize("stream", [False, True])
    async def test_that_is_relayed(
        self, chat: Chat, model_server: ModelServer, redis: Redis, sql: asyncpg.Connection, stream: bool
    ) -> None:
        ada = uuid7()
        first = await complete(chat, ada, "echo", stream=stream)
        await eventually(lambda: answers_of(redis, ada))  # it is kept once it was passed on
        again = await complete(chat, ada, "echo", stream=stream)
        assert [answer.headers["cache-status"] for answer in (first, again)] == ["chatbot; fwd=miss", "chatbot; hit"]
        assert again.content == first.content
        assert again.headers["content-type"] == first.headers["content-type"]
        fresh = await complete(chat, ada, "echo", stream=stream, headers={"Cache-Control": "no-cache"})
        assert fresh.headers["cache-status"] == "chatbot; fwd=request"
        await complete(chat, uuid7(), "echo", stream=stream)
        assert len(model_server.requests) == 3

        async def entered() -> bool:
            return bool(await sql.fetchval("SELECT count(*) = 3 FROM ledger WHERE user_id = $1", ada))

        await eventually(entered)

    @pytest.mark.parametrize("model", ["broken", "cut", "early", "half"])
    async def test_that_is_relayed_and_breaks_off_is_not_kept(self, chat: Chat, redis: Redis, model: str) -> None:
        ada = uuid7()
        with contextlib.suppress(httpx2.HTTPError):
            await complete(chat, ada, model, stream=True)
        await complete(chat, ada, "echo")
        await eventually(lambda: answers_of(redis, ada))
        assert len(await answers_of(redis, ada)) == 1

    async def test_of_a_model_that_is_not_relayed_asks_the_cache_once(
        self, cached: Cached, told: dict[str, Any], running_claude: tuple[Any, str]
    ) -> None:
        [*_, some] = [item for item in told["providers"] if item["name"] == "scripted"]
        claude = some | {"name": "claude", "type": "Anthropic", "base_url": running_claude[1]}
        model = told["models"][0] | {"name": "m", "deployments": [{"provider": "claude", "model": "echo", "weight": 1}]}
        ada, before = uuid7(), counted("miss")
        async with cached(providers=[*told["providers"], claude], models=[*told["models"], model]) as chat:
            for name, times in (("retrieval", 0), ("m", 1)):
                assert (await complete(chat, ada, name)).status_code == 200
                assert counted("miss") - before == times

    async def test_without_a_cache_says_nothing_of_one(self, cached: Cached) -> None:
        async with cached(cache=None) as chat:
            assert "cache-status" not in (await complete(chat, uuid7())).headers


class TestSimilar:
    async def test_question_gets_the_answer_to_the_one_before(self, cached: Cached, model_server: ModelServer) -> None:
        ada, words = uuid7(), "What is the height of the Eiffel tower?"
        async with cached(cache={"seconds": 600, "similarity": 0.8}) as chat:
            first = (await chat.send(ada, QUESTION)).json()
            again = (await chat.send(ada, words)).json()
            assert (again["content"], again["usage"].get("cached")) == (first["content"], True)
            for user, text in ((ada, "Who built the Berlin wall?"), (uuid7(), words)):
                assert "cached" not in (await chat.send(user, text)).json()["usage"]
        assert len(model_server.requests) == 3

    async def test_question_that_cannot_be_compared_is_kept_as_it_is(self, cached: Cached, redis: Redis) -> None:
        """And the cache stays there for the others."""
        ada, bob, long = uuid7(), uuid7(), [{"role": "user", "content": "[]" + " " * MAX_TEXT}]
        async with cached(cache={"seconds": 600, "similarity": 0.8}) as chat:
            await chat.send(bob, QUESTION)
            await complete(chat, ada, "agent", messages=long, stream=True)
            assert (await chat.send(bob, QUESTION)).json()["usage"]["cached"]
            await eventually(lambda: answers_of(redis, ada))
            again = await complete(chat, ada, "agent", messages=long, stream=True)
        assert again.headers["cache-status"] == "chatbot; hit"
