"""The cache of answers: given again to who got them, for the same things only, and never what must not be kept."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from chatbot_chat.agent import AgentEvent
from chatbot_chat.caching.kept import LARGEST, NEWEST, Kept
from chatbot_chat.caching.keys import Key, key_of, key_of_body
from chatbot_chat.caching.service import Cache, Use, wished
from chatbot_chat.conversation_client import ConversationClient
from chatbot_chat.providers import Chosen, Finish, Message, ModelRequest, TextDelta, ToolSpec, Usage
from chatbot_chat.settings import CacheSettings, Settings
from chatbot_common.ids import uuid7
from chatbot_conversation.wire import MAX_TEXT
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from tests.chat.running import Chat, parse_sse, running
from tests.conversation.running import eventually
from tests.support.identity import BOT, Keys
from tests.support.model_server import ModelServer

QUESTION = "How tall is the Eiffel tower?"
REQUEST = ModelRequest("m", [Message("system", "Be kind."), Message("user", QUESTION)], QUESTION)
CHANGES: list[Callable[[ModelRequest], ModelRequest]] = [
    lambda request: replace(request, model="other"),
    lambda request: replace(request, max_tokens=7),
    lambda request: replace(request, temperature=0.0),
    lambda request: replace(request, tools=(ToolSpec("t", "A tool", {"type": "object"}),)),
    lambda request: replace(request, must_call=True),
    lambda request: replace(request, messages=[Message("system", "Be short."), *request.messages[1:]]),
    lambda request: replace(request, messages=[Message("user", "Hi"), Message("assistant", "Ho"), *request.messages]),
]


def asking(question: str) -> ModelRequest:
    return replace(REQUEST, messages=[REQUEST.messages[0], Message("user", question)], question=question)


async def answers_of(redis: Redis, user: UUID) -> list[str]:
    """Names of answers that are kept for a user, by the list of them."""
    names: Any = await redis.zrange(f"chat:cache:{{{user}}}:newest", 0, -1)
    return [name.decode().split()[1] for name in names]


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("chat_cache_total", {"outcome": outcome}) or 0


class TestKey:
    @pytest.mark.parametrize("change", CHANGES)
    def test_has_all_that_makes_the_answer(self, change: Callable[[ModelRequest], ModelRequest]) -> None:
        assert key_of("w", change(REQUEST)).rest != key_of("w", REQUEST).rest

    def test_has_the_world_in_which_it_was_given(self) -> None:
        assert key_of("v", REQUEST).exact != key_of("w", REQUEST).exact

    def test_differs_by_the_words_of_the_question_only(self) -> None:
        one, other = key_of("w", REQUEST), key_of("w", asking("What is the height of the Eiffel tower?"))
        assert one.rest == other.rest
        assert one.exact != other.exact

    @pytest.mark.parametrize("other", ["What is 2 + 3?", "What is 2 - 2?", "What is 2 + -2?", "What is 2 + 2 %?"])
    def test_takes_numbers_and_signs_as_they_are(self, other: str) -> None:
        assert key_of("w", asking("What is 2 + 2?")).rest != key_of("w", asking(other)).rest

    def test_takes_the_end_of_a_sentence_for_no_sign(self) -> None:
        assert key_of("w", asking("What's 2 + 2?")).rest == key_of("w", asking("Tell me 2 + 2.")).rest

    def test_of_a_body_has_each_field_in_any_order(self) -> None:
        body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "seed": 1}
        key = key_of_body("w", body)
        assert key == key_of_body("w", dict(reversed(body.items())) | {"stream_options": {"include_usage": True}})
        assert key.question == QUESTION
        for change in ({"seed": 2}, {"stream": True}, {"logprobs": True}):
            assert key_of_body("w", body | change).rest != key.rest

    def test_of_parts_that_are_no_text_has_no_question(self) -> None:
        image = [{"type": "image_url", "image_url": {"url": "data:,a"}}]
        one, other = (
            key_of_body("w", {"messages": [{"role": "user", "content": content}]})
            for content in (image, [*image, {"type": "text", "text": "b"}])
        )
        assert one.question == other.question == ""
        assert one.exact != other.exact


class TestWishes:
    @pytest.mark.parametrize(
        ("header", "use"),
        [
            ("", Use()),
            ("max-age=60", Use()),
            ("no-cache", Use(read=False)),
            ("max-age=0, No-Cache", Use(read=False)),
            ("no-store", Use(read=False, write=False)),
        ],
    )
    def test_of_a_client(self, header: str, use: Use) -> None:
        assert wished(header) == use


class TestKept:
    """`near` and `far` are unit vectors of cosine 0.8 and 0 to the first."""

    FIRST, NEAR, FAR = [1.0, 0.0], [0.8, 0.6], [0.0, 1.0]

    async def test_is_for_its_user(self, redis: Redis) -> None:
        kept, ada, bob, key = Kept(redis, 60), uuid7(), uuid7(), Key("r", "q")
        await kept.put(ada, key, {"said": "a"}, self.FIRST)
        assert (await kept.exactly(ada, key.exact))[0] == {"said": "a"}
        assert (await kept.exactly(bob, key.exact))[0] is None
        assert await kept.similar(bob, "r", self.FIRST, 0.5) is None

    async def test_is_found_by_the_nearest_question(self, redis: Redis) -> None:
        kept, ada = Kept(redis, 60), uuid7()
        for question, vector in [(f"b{number}", self.FAR) for number in range(8)] + [("a", self.FIRST)]:
            await kept.put(ada, Key("r", question), {"said": question}, vector)
        assert await kept.similar(ada, "r", self.NEAR, 0.7) == {"said": "a"}
        assert await kept.similar(ada, "r", self.NEAR, 0.85) is None
        assert await kept.similar(ada, "other", self.FIRST, 0.1) is None
        assert await kept.similar(ada, "r", [1.0, 0.0, 0.0], 0.1) is None

    async def test_ends_by_itself(self, redis: Redis) -> None:
        kept, ada = Kept(redis, 60), uuid7()
        await kept.put(ada, Key("r", "q"), {"said": "a"}, self.FIRST)
        names = [name async for name in redis.scan_iter(match=f"chat:cache:*{ada}*")]
        assert len(names) == 3
        for name in names:
            assert 0 < await redis.ttl(name) <= 60

    async def test_is_forgotten_at_once(self, redis: Redis) -> None:
        kept, ada, bob = Kept(redis, 60), uuid7(), uuid7()
        for user in (ada, bob):
            for rest in "rs":
                await kept.put(user, Key(rest, "q"), {"said": "a"}, self.FIRST)
        await kept.forget(ada)
        assert await redis.keys(f"chat:cache:*{ada}*") == [f"chat:cache:{{{ada}}}:erased".encode()]
        assert await kept.similar(bob, "s", self.FIRST, 0.9)

    async def test_is_not_of_a_question_from_before_something_was_erased(self, redis: Redis) -> None:
        """However long its answer takes."""
        kept, ada, key = Kept(redis, 60), uuid7(), Key("r", "q")
        for _ in range(2):
            _, before = await kept.exactly(ada, key.exact)
            await kept.forget(ada)
            await kept.put(ada, key, {"said": "a"}, None, before)
            assert await answers_of(redis, ada) == []
        _, after = await kept.exactly(ada, key.exact)
        await kept.put(ada, key, {"said": "b"}, None, after)
        assert await kept.exactly(ada, key.exact) == ({"said": "b"}, after)

    async def test_compares_directions_and_not_lengths(self, redis: Redis) -> None:
        kept, ada = Kept(redis, 60), uuid7()
        await kept.put(ada, Key("r", "a"), {"said": "a"}, [30.0, 0.0])
        assert await kept.similar(ada, "r", [16.0, 12.0], 0.85) is None
        assert await kept.similar(ada, "r", [0.016, 0.012], 0.79) == {"said": "a"}
        assert await kept.similar(ada, "r", [0.0, 0.0], 0.01) is None

    async def test_is_one_of_the_newest_of_its_user(self, redis: Redis) -> None:
        kept, ada, bob = Kept(redis, 60), uuid7(), uuid7()
        keys = [Key("rest" if number % 2 else f"rest{number}", f"{number}") for number in range(NEWEST + 9)]
        await kept.put(bob, keys[0], {"said": "b"}, self.FIRST)
        for key in [*keys[:-1], keys[8], keys[-1]]:  # what is kept again is new
            await kept.put(ada, key, {"said": key.question}, self.FIRST)
        found = [key.question for key in keys if (await kept.exactly(ada, key.exact))[0]]
        assert found == [key.question for key in [keys[8], *keys[10:]]]
        names = [name.decode() async for name in redis.scan_iter(match=f"chat:cache:*{ada}*")]
        vectors = [await redis.hlen(name) for name in names if ":vectors:" in name]
        assert (len(names) - len(vectors) - 1, sum(vectors)) == (NEWEST, NEWEST)
        assert await kept.similar(bob, keys[0].rest, self.FIRST, 0.9) == {"said": "b"}

    async def test_leaves_memory_for_what_has_to_be_counted(self, redis: Redis) -> None:
        ada, key = uuid7(), Key("r", "q")
        before: Any = (await redis.config_get("maxmemory"))["maxmemory"]
        await redis.config_set("maxmemory", 1 << 40)
        try:
            await Kept(redis, 60, full=0.0).put(ada, key, {"said": "a"}, self.FIRST)
            assert not await redis.keys(f"chat:cache:*{ada}*")
            await Kept(redis, 60).put(ada, key, {"said": "a"}, self.FIRST)
            assert await answers_of(redis, ada) == [key.exact]
        finally:
            await redis.config_set("maxmemory", before)

    async def test_is_not_too_large(self, redis: Redis) -> None:
        kept, ada, key = Kept(redis, 60), uuid7(), Key("r", "q")
        await kept.put(ada, key, {"said": "x" * LARGEST}, None)
        assert (await kept.exactly(ada, key.exact))[0] is None


async def spoken(text: str) -> AsyncGenerator[AgentEvent, None]:
    for event in (Chosen("m"), TextDelta(text), Usage(1, 1), Finish("stop")):
        yield event


class TestCache:
    async def test_keeps_nothing_of_an_answer_that_ends_when_its_user_has_erased_something(
        self, redis: Redis, conversation: ConversationClient
    ) -> None:
        cache, ada, bob = Cache(conversation, CacheSettings(seconds=60, similarity=None), redis), uuid7(), uuid7()
        begun = [await cache.recall(user, "m", lambda: REQUEST) for user in (ada, bob)]
        await cache.forget(ada)
        begun.append(await cache.recall(ada, "m", lambda: asking("Another")))
        for recall in begun:
            async for _ in recall.through(spoken("324 m")):
                pass
            await recall.keep()
        for user, question, hit in ((ada, QUESTION, False), (bob, QUESTION, True), (ada, "Another", True)):
            assert (await cache.recall(user, "m", lambda asked=question: asking(asked))).hit == hit

    async def test_leaves_an_embedder_alone_that_is_away(self, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("chatbot_chat.caching.service.AWAY_SECONDS", 600)
        before = counted("unavailable"), counted("miss")
        async with httpx2.AsyncClient(base_url="http://127.0.0.1:1") as dead:
            cache = Cache(ConversationClient(dead, dead), CacheSettings(seconds=60, similarity=0.8), redis)
            for _ in range(2):
                assert not (await cache.recall(uuid7(), "m", lambda: REQUEST)).hit
        assert (counted("unavailable"), counted("miss")) == (before[0] + 1, before[1])


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
