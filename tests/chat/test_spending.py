"""What people see of budgets, on every face, and what the ledger holds of every kind of answer."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import openai
import pytest
from chatbot_chat.main import create_app
from chatbot_chat.openai_api.counting import Counting
from chatbot_chat.providers import Usage
from chatbot_chat.providers.server_sent import Frames
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from chatbot_common.leaving import CLIENT_LEFT
from openai import AsyncOpenAI
from redis.asyncio import Redis

from tests.chat.running import Chat, running
from tests.chat.test_socket import opened
from tests.conversation.running import eventually
from tests.support.identity import BOT, Keys
from tests.support.model_server import ModelServer
from tests.support.patience import within

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]
DAY = {"tokens_per_day": 1100, "tokens_per_month": None, "cost_per_day": None, "cost_per_month": None}
NONE = dict.fromkeys(DAY)
PRICES = {"input": "3", "output": "15"}


@pytest.fixture
def told(told: dict[str, Any]) -> dict[str, Any]:
    """Without tools, of which a model is told at a price."""
    return told | {"tools": told["tools"] | {"enabled": []}}


@pytest.fixture
async def bounded(keys: Keys, told: dict[str, Any]) -> AsyncIterator[Chat]:
    """A user may spend 1,100 tokens a day, and an answer may have 1,000; there are no tools to tell a model of."""
    priced = [model | {"prices": PRICES} for model in told["models"]]
    budgets = {"per_user": DAY, "total": NONE, "currency": "EUR"}
    told = told | {"models": priced, "budgets": budgets, "tools": told["tools"] | {"enabled": []}}
    async with running(keys, Settings.model_validate(told)) as service:
        yield service


@pytest.fixture
async def spend(bounded: Chat, ada: UUID) -> None:
    """Two answers of 18 tokens, and one of many."""
    long = " ".join(["word"] * 90)
    for question in ("one", "two"):
        await bounded.stream(ada, question, model="echo")
    body = {"model": "early", "messages": [{"role": "user", "content": long}], "stream": True, "max_tokens": 500}
    await bounded.client.post("/v1/chat/completions", json=body, headers=bounded.keys.bearer(ada))


async def entered(sql: asyncpg.Connection, user_id: UUID) -> list[Any]:
    """Rows of the ledger, once there are any."""

    async def rows() -> list[Any]:
        query = "SELECT model, input_tokens, output_tokens, cost, estimated, run_id, attempt FROM ledger"
        return list(await sql.fetch(query + " WHERE user_id = $1 ORDER BY entered_at", user_id))

    found: list[Any] = await eventually(rows)
    return found


@pytest.mark.usefixtures("spend")
class TestUsedUp:
    async def test_is_told_with_the_budget_and_when_it_renews(self, bounded: Chat, ada: UUID) -> None:
        response = await bounded.send(ada, "three", model="echo", client_message_id="three")
        assert response.status_code == 429
        assert 0 < int(response.headers["retry-after"]) <= 86400
        problem = response.json()
        assert problem["type"] == "urn:chatbot:problem:budget-used-up"
        assert problem["budget"] == "perUser.tokensPerDay"
        assert problem["renews_at"].endswith("T00:00:00Z")
        again = await bounded.send(ada, "three", model="echo", client_message_id="three")
        assert (again.status_code, again.json()["type"]) == (429, problem["type"])

    async def test_before_a_stream_begins(self, bounded: Chat, ada: UUID) -> None:
        headers = bounded.keys.bearer(ada) | {"Accept": "text/event-stream"}
        response = await bounded.client.post("/api/v1/chat/send", json={"content": "three"}, headers=headers)
        assert response.status_code == 429
        assert "retry-after" in response.headers

    async def test_over_the_socket(self, bounded: Chat, ada: UUID) -> None:
        async with opened(bounded, ada) as socket:
            await socket.say("message", content="three", model="echo")
            frame = await socket.hear()
        assert (frame["type"], frame["error"]["status"]) == ("error", 429)
        assert frame["error"]["retry_after"] > 0

    @pytest.mark.parametrize("model", [BOT, "echo", "retrieval"])
    @pytest.mark.parametrize("stream", [True, False])
    async def test_in_openais_shape(self, bounded: Chat, ada: UUID, model: str, stream: bool) -> None:
        async with AsyncOpenAI(
            base_url=f"{bounded.client.base_url}/v1", api_key=bounded.keys.access_token(ada), max_retries=0
        ) as sdk:
            with pytest.raises(openai.RateLimitError) as refused:
                await sdk.chat.completions.create(model=model, messages=HELLO, stream=stream)
        assert (refused.value.code, refused.value.type) == ("insufficient_quota", "insufficient_quota")
        assert "retry-after" in refused.value.response.headers

    async def test_asks_no_provider(self, bounded: Chat, ada: UUID, model_server: ModelServer) -> None:
        model_server.requests.clear()
        await bounded.send(ada, "three", model="echo")
        assert not model_server.requests

    async def test_counts_the_form_of_an_answer(self, bounded: Chat, model_server: ModelServer) -> None:
        """Of somebody who has spent nothing yet."""
        model_server.requests.clear()
        schema = {"type": "object", "description": "x" * 5000}
        body = {"model": "echo", "input": "Hi", "store": False, "max_output_tokens": 50}
        body |= {"text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}}
        response = await bounded.client.post("/v1/responses", json=body, headers=bounded.keys.bearer(uuid7()))
        assert (response.status_code, response.json()["error"]["code"]) == (429, "insufficient_quota")
        assert not model_server.requests

    async def test_is_nobody_elses(self, bounded: Chat) -> None:
        assert (await bounded.send(uuid7(), "one", model="echo")).status_code == 200

    async def test_who_asked_can_ask_for_less(self, bounded: Chat, ada: UUID) -> None:
        body = {"model": "echo", "messages": HELLO, "max_tokens": 50}
        response = await bounded.client.post("/v1/chat/completions", json=body, headers=bounded.keys.bearer(ada))
        assert response.status_code == 200


class TestHeld:
    """Nothing is used up; another answer holds it."""

    async def test_is_told_to_ask_again_in_seconds(self, bounded: Chat, ada: UUID) -> None:
        async with bounded.streaming(ada, "Count", model="silent") as events:
            run = (await anext(events))["run_id"]
            response = await bounded.send(ada, "two", model="echo", client_message_id="two")
            again = await bounded.send(ada, "two", model="echo", client_message_id="two")
            async with AsyncOpenAI(
                base_url=f"{bounded.client.base_url}/v1", api_key=bounded.keys.access_token(ada), max_retries=0
            ) as sdk:
                with pytest.raises(openai.RateLimitError) as refused:
                    await sdk.chat.completions.create(model="echo", messages=HELLO)
        problem = response.json()
        assert (response.status_code, problem["type"]) == (429, "urn:chatbot:problem:budget-held")
        assert (problem["budget"], problem["retry_after"]) == ("perUser.tokensPerDay", 5)
        assert response.headers["retry-after"] == refused.value.response.headers["retry-after"] == "5"
        assert "renews" not in response.text
        assert (again.status_code, again.json()["type"]) == (429, problem["type"])
        assert refused.value.code == "budget_held"
        await bounded.client.post(f"/api/v1/chat/runs/{run}/cancel", headers=bounded.keys.bearer(ada))
        await bounded.ended(ada, run)
        over = await bounded.send(ada, "two", model="echo", client_message_id="two", retry=True)
        assert over.status_code == 200


class TestLedger:
    async def test_has_each_stored_reply(self, bounded: Chat, ada: UUID, sql: asyncpg.Connection) -> None:
        events = await bounded.stream(ada, "Hello", model="echo")
        [row] = await entered(sql, ada)
        assert tuple(row) == ("echo", 11, 7, 11 * 3 + 7 * 15, False, UUID(events[0]["run_id"]), 1)

    async def test_has_what_was_said_where_nobody_counted(
        self, bounded: Chat, ada: UUID, sql: asyncpg.Connection
    ) -> None:
        async with bounded.streaming(ada, "Count", model="endless") as events:
            seen = [await anext(events) for _ in range(6)]
        path = f"/api/v1/chat/runs/{seen[0]['run_id']}/cancel"
        await bounded.client.post(path, headers=bounded.keys.bearer(ada))
        said = (await bounded.ended(ada, seen[0]["run_id"]))["content"]
        [row] = await entered(sql, ada)
        assert (row["output_tokens"], row["estimated"]) == (-(-len(said) // 4), True)
        assert row["input_tokens"] > 0

    @pytest.mark.parametrize("question", ["Count", "Count, but speak first"])
    async def test_has_what_was_written_of_a_call(
        self,
        keys: Keys,
        told: dict[str, Any],
        ada: UUID,
        sql: asyncpg.Connection,
        model_server: ModelServer,
        question: str,
    ) -> None:
        like = next(model for model in told["models"] if model["name"] == "echo")
        model_server.requests.clear()
        writing = {"name": "writing", "deployments": [{"provider": "scripted", "model": "writing", "weight": 1}]}
        async with running(keys, Settings.model_validate(told | {"models": [*told["models"], like | writing]})) as chat:
            async with chat.streaming(ada, question, model="writing") as events:
                run = (await anext(events))["run_id"]
                async with within(20):
                    while not any(body["model"] == "writing" for _, body in model_server.requests):
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.5)
            await chat.client.post(f"/api/v1/chat/runs/{run}/cancel", headers=keys.bearer(ada))
            await chat.ended(ada, run)
        [row] = await entered(sql, ada)
        assert row["estimated"]
        assert row["output_tokens"] > 10

    async def test_has_nothing_of_who_failed_at_once(self, bounded: Chat, ada: UUID, sql: asyncpg.Connection) -> None:
        for _ in range(3):  # each holds more than half of what there is, and gives it back
            assert (await bounded.stream(ada, "Hello", model="refuse"))[-1]["type"] == "run.failed"
        await bounded.stream(ada, "Hello", model="echo")
        assert [row["model"] for row in await entered(sql, ada)] == ["echo"]

    async def test_has_nothing_of_who_was_gone_before_the_first_frame(
        self, keys: Keys, told: dict[str, Any], ada: UUID
    ) -> None:
        """What was held for them, more than half of what there is, is free again."""
        body = {"model": "retrieval", "messages": HELLO, "stream": True}
        headers = [(name.lower().encode(), value.encode()) for name, value in keys.bearer(ada).items()]
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}, "method": "POST", "path": "/v1/chat/completions"}
        scope |= {"headers": [*headers, (b"content-type", b"application/json")], "query_string": b""}
        budgets = {"per_user": DAY, "total": NONE, "currency": "EUR"}
        app = create_app(Settings.model_validate(told | {"budgets": budgets}))

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            assert message["type"] != "http.response.start" or message["status"] in (200, CLIENT_LEFT)

        async with app.router.lifespan_context(app):
            for _ in range(2):
                messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
                await app(scope, receive, send)
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://chat") as client:
                response = await client.post("/v1/chat/completions", json=body, headers=keys.bearer(ada))
        assert response.status_code == 200, response.text

    async def test_has_who_spoke_in_anothers_stead(
        self, keys: Keys, told: dict[str, Any], ada: UUID, sql: asyncpg.Connection
    ) -> None:
        priced = [model | {"prices": PRICES} for model in told["models"]]
        instead = Settings.model_validate(told | {"models": priced, "fallbacks": ["echo"]})
        async with running(keys, instead) as chat:
            await chat.stream(ada, "Hello", model="dead")
        assert [(row["model"], row["cost"]) for row in await entered(sql, ada)] == [("echo", 138)]

    @pytest.mark.parametrize("model", ["echo", "strict"])
    @pytest.mark.parametrize("stream", [True, False])
    async def test_has_relayed_answers(
        self, keys: Keys, told: dict[str, Any], ada: UUID, sql: asyncpg.Connection, model: str, stream: bool
    ) -> None:
        """Also where a client has not asked for the count, which it then does not see, or a server gives none."""
        strict = {"name": "strict", "deployments": [{"provider": "scripted", "model": "strict", "weight": 1}]}
        models = [*told["models"], told["models"][-1] | strict]
        async with running(keys, Settings.model_validate(told | {"models": models})) as chat:
            body = {"model": model, "messages": HELLO, "stream": stream}
            response = await chat.client.post("/v1/chat/completions", json=body, headers=keys.bearer(ada))
        assert response.status_code == 200
        assert ("usage" in response.text) is not stream
        [row] = await entered(sql, ada)
        known = not (stream and model == "strict")
        assert row["estimated"] is not known
        assert (row["output_tokens"] == 7) if known else (row["output_tokens"] > 3)

    async def test_has_what_a_model_thought_aside_and_had_in_its_cache(
        self, keys: Keys, told: dict[str, Any], ada: UUID, sql: asyncpg.Connection
    ) -> None:
        like = next(model for model in told["models"] if model["name"] == "echo")
        aside = {"name": "aside", "deployments": [{"provider": "scripted", "model": "aside", "weight": 1}]}
        aside |= {"prices": {"input": "1", "output": "2", "cached_input": "0.1"}}
        async with running(keys, Settings.model_validate(told | {"models": [*told["models"], like | aside]})) as chat:
            await chat.stream(ada, "Hello", model="aside")
            body = {"model": "aside", "messages": HELLO, "stream": True}
            await chat.client.post("/v1/chat/completions", json=body, headers=chat.keys.bearer(ada))
        rows = await entered(sql, ada)
        assert [(row["input_tokens"], row["output_tokens"], row["estimated"]) for row in rows] == [(9, 1000, False)] * 2
        assert [row["cost"] for row in rows] == [2004] * 2  # 3 of 1, 6 of 0.1 and 1000 of 2, rounded up

    async def test_has_the_assistants_answers(self, chat: Chat, ada: UUID, sql: asyncpg.Connection) -> None:
        body = {"model": BOT, "messages": HELLO}
        await chat.client.post("/v1/chat/completions", json=body, headers=chat.keys.bearer(ada))
        assert [row["model"] for row in await entered(sql, ada)] == ["retrieval"]

    async def test_has_what_a_client_left_alone(self, chat: Chat, ada: UUID, sql: asyncpg.Connection) -> None:
        """Also before its first word: its prompt."""
        for model in ("endless", "silent"):
            body = {"model": model, "messages": HELLO, "stream": True}
            async with chat.client.stream(
                "POST", "/v1/chat/completions", json=body, headers=chat.keys.bearer(ada)
            ) as response:
                await anext(response.aiter_bytes())
                await asyncio.sleep(0.1)
        whole = {"model": "hang", "messages": HELLO}
        with pytest.raises(httpx2.ReadTimeout):
            await chat.client.post("/v1/chat/completions", json=whole, headers=chat.keys.bearer(ada), timeout=0.5)

        async def all_three() -> list[Any]:
            return found if len(found := await entered(sql, ada)) == 3 else []

        rows = {row["model"]: row for row in await eventually(all_three)}
        assert all(row["estimated"] and row["input_tokens"] > 0 for row in rows.values())
        assert rows["silent"]["output_tokens"] == rows["hang"]["output_tokens"] == 0

    async def test_has_nothing_of_who_left_before_the_provider_was_asked(
        self, keys: Keys, told: dict[str, Any], ada: UUID, sql: asyncpg.Connection
    ) -> None:
        """While somebody else has its only place."""
        [hasty] = [item for item in told["providers"] if item["name"] == "hasty"]
        one = hasty | {"max_concurrency": 1, "timeouts": hasty["timeouts"] | {"connect": 5}}
        others = [item for item in told["providers"] if item["name"] != "hasty"]
        body = {"model": "hang", "messages": HELLO}
        async with running(keys, Settings.model_validate(told | {"providers": [*others, one]})) as chat:
            ask = partial(chat.client.post, "/v1/chat/completions", json=body)
            first = asyncio.create_task(ask(headers=keys.bearer(uuid7())))
            await asyncio.sleep(0.3)
            with pytest.raises(httpx2.ReadTimeout):
                await ask(headers=keys.bearer(ada), timeout=0.5)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        assert await sql.fetchval("SELECT count(*) FROM ledger WHERE user_id = $1", ada) == 0  # all that was is entered

    async def test_is_told_of_what_is_under_way(self, chat: Chat, ada: UUID, redis: Redis) -> None:
        """Relayed, and worded here; for as long as they are."""

        async def told(name: str = "chat:budgets:under-way") -> list[Any]:
            entries = [json.loads(text.partition(b" ")[2]) for text in (await redis.hgetall(name)).values()]
            return [entry for entry in entries if entry["user_id"] == str(ada)]

        async def both() -> list[Any]:
            found = [entry for entry in await told() if entry["output_tokens"] > 15]
            return found if len(found) == 2 else []

        async def none() -> bool:
            return not await told()

        heard: list[AsyncIterator[bytes]] = []  # one that is let go of closes its connection
        async with contextlib.AsyncExitStack() as stack:
            for path, more in (
                ("chat/completions", {"messages": HELLO}),
                ("responses", {"input": "x", "store": False}),
            ):
                body = {"model": "endless", "stream": True} | more
                asked = chat.client.stream("POST", f"/v1/{path}", json=body, headers=chat.keys.bearer(ada))
                heard.append((await stack.enter_async_context(asked)).aiter_bytes())
                for _ in range(100):
                    await anext(heard[-1])
            for entry in await eventually(both):
                assert entry["input_tokens"] > 0
                assert entry["output_tokens"] < 600
        await eventually(none)


class TestRelayed:
    """What a client may say of a raw model, where there are budgets."""

    async def test_is_held_and_only_answers_cost(
        self, bounded: Chat, ada: UUID, model_server: ModelServer, sql: asyncpg.Connection
    ) -> None:
        deep: Any = "deep"
        for _ in range(300):
            deep = [deep]

        async def asked(**told: Any) -> int:
            body = {"model": "echo", "messages": HELLO} | told
            response = await bounded.client.post("/v1/chat/completions", json=body, headers=bounded.keys.bearer(ada))
            return response.status_code

        assert await asked() == 200
        assert model_server.requests[-1][1]["max_tokens"] == 1000
        assert await asked(max_tokens=100_000, max_completion_tokens=1) == 429
        assert await asked(model="large", max_tokens=50) == 413
        assert await asked(metadata={"deep": deep}, max_tokens=50) == 400  # deeper than bodies are read
        assert await asked(max_tokens=50) == 200

        async def both() -> list[Any]:
            return found if len(found := await entered(sql, ada)) > 1 else []

        assert [row["model"] for row in await eventually(both)] == ["echo", "echo"]


COUNTED = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\n'
SAID = b'data: {"choices": [{"delta": {"role": "assistant", "content": "Gr\xc3\xbc\xc3\x9f"}}], "usage": null}\n\n'


def cut(stream: bytes, size: int) -> list[bytes]:
    """By whole events, as far as pieces of this size bring them."""
    frames = Frames()
    return [*(frames.feed(stream[start : start + size]) for start in range(0, len(stream), size)), frames.rest()]


class TestCounting:
    @pytest.mark.parametrize("size", [1, 2, 7, 1000])
    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    def test_hides_the_count_and_nothing_else(self, size: int, end: bytes) -> None:
        whole = (SAID + COUNTED + b"data: [DONE]\n\n" + b": the end").replace(b"\n", end)
        counting = Counting(streamed=True, hidden=True)
        shown = b"".join(map(counting.passed, cut(whole, size)))
        assert shown == (SAID + b"data: [DONE]\n\n" + b": the end").replace(b"\n", end)
        assert counting.usage == Usage(3, 4)

    def test_guesses_also_where_frames_are_named(self) -> None:
        """By `event` or `id` before their data."""
        counting = Counting(streamed=True, hidden=False)
        for number in range(100):
            counting.passed(b"event: chunk\nid: %03d\n" % number + SAID)
        assert counting.guess == 100 * 4

    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    def test_guesses_the_same_wherever_the_network_cuts(self, end: bytes) -> None:
        """What a process that is killed has told stays: a frame cut in two would make every other look full."""
        words = [SAID.replace(b"null", b'null, "id": "chatcmpl-0123456789"')] * 200
        stream = (b": hello\n\n" + b"".join(words) + b"data: [DONE]\n\n").replace(b"\n", end)
        guesses = set()
        for size in (1, 7, 60, 149, 1000, len(stream)):
            counting = Counting(streamed=True, hidden=False)
            for events in cut(stream, size):
                counting.passed(events)
            guesses.add(counting.guess)
        assert guesses == {200 * 4}

    def test_shows_it_to_who_asked_for_it(self) -> None:
        counting = Counting(streamed=True, hidden=False)
        assert counting.passed(SAID + COUNTED) == SAID + COUNTED

    def test_counts_words_where_nobody_else_does(self) -> None:
        counting = Counting(streamed=True, hidden=True)
        counting.passed(SAID * 2 + b"data: {broken")
        assert (counting.usage, counting.said) == (None, 12)

    @pytest.mark.parametrize(("body", "said"), [(b'{"error": {"message": "no"}}', 0), (b'{"choices": [{"mess', 19)])
    def test_of_a_whole_answer(self, body: bytes, said: int) -> None:
        counting = Counting(streamed=False, hidden=True)
        assert counting.passed(body) == body
        assert (counting.usage, counting.said) == (None, said)
