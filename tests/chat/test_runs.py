"""Runs: disconnect, resume from any replica, cancel from any replica, attempts, and life without Redis."""

import asyncio
from typing import Any
from uuid import UUID

import httpx2
import pytest
from chatbot_chat.runs import executor
from chatbot_chat.runs.events import Position, event_of
from chatbot_chat.runs.log import RunLog
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from redis.asyncio import Redis

from tests.chat.running import Chat, running
from tests.support import model_server
from tests.support.identity import Keys
from tests.support.patience import within

ADA = uuid7()


async def first_words(chat: Chat, count: int = 3, question: str = "Count for me", **body: Any) -> list[dict[str, Any]]:
    """Events of an endless run up to its first words; then the client disconnects."""
    seen: list[dict[str, Any]] = []
    async with chat.streaming(ADA, question, model="endless", **body) as events:
        async for event in events:
            seen.append(event)
            if len(seen) > count:
                return seen
    raise AssertionError("the run ended early")


async def cancel(chat: Chat, run_id: str) -> None:
    response = await chat.client.post(f"/api/v1/chat/runs/{run_id}/cancel", headers=chat.keys.bearer(ADA))
    assert response.status_code == 202


def text_of(events: list[dict[str, Any]]) -> str:
    """The answer as a client shows it: deltas append, a snapshot replaces."""
    text = ""
    for event in events:
        if event["type"] == "text.delta":
            text += event["text"]
        elif event["type"] == "run.snapshot":
            text = event["text"]
    return text


class TestDisconnect:
    async def test_the_answer_goes_on_and_is_stored(self, chat: Chat) -> None:
        async with chat.streaming(ADA, "one two three four five six", model="echo") as events:
            started = await anext(events)
        view = await chat.ended(ADA, started["run_id"])
        assert view["state"] == "completed"
        assert view["content"].strip() == "You said: one two three four five six"


class TestResume:
    async def test_after_a_position_nothing_is_lost_or_doubled(self, chat: Chat) -> None:
        seen = await first_words(chat)
        following = asyncio.create_task(chat.events(ADA, seen[0]["run_id"], after=f"1-{seen[-1]['seq']}"))
        await asyncio.sleep(0.3)
        await cancel(chat, seen[0]["run_id"])
        rest = await following
        assert [event["seq"] for event in seen + rest] == list(range(1, len(seen + rest) + 1))
        assert rest[-1]["type"] == "run.cancelled"

    async def test_from_another_replica(self, chat: Chat, keys: Keys, told: dict[str, Any]) -> None:
        seen = await first_words(chat)
        async with running(keys, Settings.model_validate(told)) as other:
            following = asyncio.create_task(other.events(ADA, seen[0]["run_id"], after=f"1-{seen[-1]['seq']}"))
            await asyncio.sleep(0.5)
            await cancel(chat, seen[0]["run_id"])
            rest = await following
        assert [event["seq"] for event in seen + rest] == list(range(1, len(seen + rest) + 1))
        assert rest[-1]["type"] == "run.cancelled"
        assert text_of(seen + rest) == (await chat.run(ADA, seen[0]["run_id"]))["content"]

    async def test_after_the_end_from_the_log(self, chat: Chat, keys: Keys, told: dict[str, Any]) -> None:
        events = await chat.stream(ADA, "Short", model="echo")
        async with running(keys, Settings.model_validate(told)) as other:
            assert await other.events(ADA, events[0]["run_id"]) == events

    async def test_after_the_end_without_the_log(self, chat: Chat, redis_url: str) -> None:
        events = await chat.stream(ADA, "Short", model="echo")
        await logged(redis_url, events)
        await flush(redis_url)
        again = await chat.events(ADA, events[0]["run_id"], after="1-2")
        assert [event["type"] for event in again] == ["run.snapshot", "usage", "run.finished"]
        assert again[0]["text"] == events[-1]["content"]
        assert [event["seq"] for event in again] == [3, 4, 5]

    async def test_while_redis_has_lost_the_log(
        self, chat: Chat, keys: Keys, told: dict[str, Any], redis_url: str
    ) -> None:
        seen = await first_words(chat)
        await flush(redis_url)
        async with running(keys, Settings.model_validate(told)) as other:
            following = asyncio.create_task(other.events(ADA, seen[0]["run_id"]))
            await asyncio.sleep(1.5)
            await cancel(chat, seen[0]["run_id"])
            events = await following
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[0]["type"] == "run.started"

    async def test_a_log_shorter_than_what_was_seen_becomes_a_snapshot(self, chat: Chat, redis_url: str) -> None:
        """Redis came back from a copy that is some seconds old."""
        events = await chat.stream(ADA, "Short", model="echo")
        await logged(redis_url, events)
        await flush(redis_url)
        async with Redis.from_url(redis_url) as redis:
            await RunLog(redis, redis).append(UUID(events[0]["run_id"]), 1, [event_of(event) for event in events[:2]])
        again = await chat.events(ADA, events[0]["run_id"], after="1-4")
        assert [event["type"] for event in again] == ["run.snapshot", "usage", "run.finished"]
        assert [event["seq"] for event in again] == [5, 6, 7]

    async def test_run_of_someone_else(self, chat: Chat) -> None:
        events = await chat.stream(ADA, "Mine", model="echo")
        for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
            response = await chat.client.request(
                method, f"/api/v1/chat/runs/{events[0]['run_id']}{path}", headers=chat.keys.bearer(uuid7())
            )
            assert response.status_code == 404

    @pytest.mark.parametrize("after", ["x", "-1", "1-2-3", "1-x", "9" * 30])
    async def test_invalid_position(self, chat: Chat, after: str) -> None:
        response = await chat.client.get(
            f"/api/v1/chat/runs/{uuid7()}/events", params={"after": after}, headers=chat.keys.bearer(ADA)
        )
        assert response.status_code == 422

    def test_position_of_an_older_attempt_starts_over(self) -> None:
        assert Position.parse("1-17").within(2) == 0
        assert Position.parse("17").within(2) == 17
        assert Position.parse("2-17").within(2) == 17


class TestCancel:
    async def test_keeps_the_text_so_far(self, chat: Chat) -> None:
        seen = await first_words(chat)
        await cancel(chat, seen[0]["run_id"])
        view = await chat.ended(ADA, seen[0]["run_id"])
        assert view["state"] == "cancelled"
        assert view["content"].startswith("0 1 2")

    async def test_from_another_replica(self, chat: Chat, keys: Keys, told: dict[str, Any]) -> None:
        seen = await first_words(chat)
        async with running(keys, Settings.model_validate(told)) as other:
            await cancel(other, seen[0]["run_id"])
            assert (await other.ended(ADA, seen[0]["run_id"]))["state"] == "cancelled"

    async def test_after_its_conversation_was_deleted(self, chat: Chat, conversation_url: str) -> None:
        seen = await first_words(chat, question="Whose conversation goes away?")
        async with httpx2.AsyncClient(base_url=conversation_url, headers=chat.keys.bearer(ADA)) as client:
            path = f"/api/v1/conversations/{seen[0]['conversation_id']}"
            assert (await client.delete(path)).status_code == 204
        # 404: the run has found out by itself.
        path = f"/api/v1/chat/runs/{seen[0]['run_id']}/cancel"
        assert (await chat.client.post(path, headers=chat.keys.bearer(ADA))).status_code in (202, 404)
        async with within(30):
            while "Whose conversation goes away?" not in model_server.hung_up:
                await asyncio.sleep(0.02)

    async def test_by_deleting_its_conversation(self, chat: Chat, keys: Keys, told: dict[str, Any]) -> None:
        """Wherever it runs: here at once, elsewhere once that one asks for its lease."""
        async with running(keys, Settings.model_validate(told)) as other:
            for number, replica in enumerate((chat, other)):
                seen = await first_words(chat, question=f"Which conversation goes away {number}?")
                path = f"/api/v1/conversations/{seen[0]['conversation_id']}"
                assert (await replica.client.delete(path, headers=keys.bearer(ADA))).status_code == 204
                async with asyncio.timeout(30 if replica is other else 2):
                    while f"Which conversation goes away {number}?" not in model_server.hung_up:
                        await asyncio.sleep(0.02)

    async def test_a_finished_run_stays_finished(self, chat: Chat) -> None:
        events = await chat.stream(ADA, "Done", model="echo")
        await cancel(chat, events[0]["run_id"])
        assert (await chat.run(ADA, events[0]["run_id"]))["state"] == "completed"


class TestDeadline:
    """Of a run: later, its end could no longer be stored."""

    @pytest.mark.parametrize(("model", "end"), [("hang", "failed"), ("endless", "interrupted")])
    async def test_without_a_word_is_a_failure(
        self, chat: Chat, monkeypatch: pytest.MonkeyPatch, model: str, end: str
    ) -> None:
        monkeypatch.setattr(executor, "_time_left", lambda _: 2.0)
        *_, last = await chat.stream(ADA, "Hello", model=model)
        assert last["type"] == f"run.{end}"
        if end == "failed":
            assert last["error"]["type"].endswith(":provider-timeout")


class TestShutdown:
    async def test_a_run_in_flight_is_closed_with_its_text(self, keys: Keys, told: dict[str, Any], chat: Chat) -> None:
        async with running(keys, Settings.model_validate(told | {"drain_seconds": 1})) as leaving:
            seen = await first_words(leaving)
        view = await chat.run(ADA, seen[0]["run_id"])
        assert view["state"] == "interrupted"
        assert view["content"].startswith("0 1 2")


class TestWithoutRedis:
    @pytest.fixture
    async def alone(self, keys: Keys, told: dict[str, Any]) -> Any:
        async with running(keys, Settings.model_validate(told | {"redis_url": "redis://127.0.0.1:1"})) as chat:
            yield chat

    async def test_streams_and_stores_and_says_so(self, alone: Chat, chat: Chat) -> None:
        events = await alone.stream(ADA, "No Redis here", model="echo")
        assert events[0]["resumable"] is False
        assert events[-1]["type"] == "run.finished"
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        view = await alone.run(ADA, events[0]["run_id"])
        assert (view["state"], view["content"].strip()) == ("completed", "You said: No Redis here")
        assert (await chat.stream(ADA, "Redis here", model="echo"))[0]["resumable"] is True

    async def test_who_follows_elsewhere_gets_all_of_it_at_the_end(self, alone: Chat, chat: Chat) -> None:
        seen = await first_words(alone)
        following = asyncio.create_task(chat.events(ADA, seen[0]["run_id"], after=f"1-{seen[-1]['seq']}"))
        await cancel(alone, seen[0]["run_id"])
        events = await following
        assert [event["type"] for event in events] == ["run.snapshot", "run.cancelled"]
        assert events[0]["text"].startswith("0 1 2")
        assert [event["seq"] for event in events] == [seen[-1]["seq"] + 1, seen[-1]["seq"] + 2]

    async def test_health_says_so(self, alone: Chat) -> None:
        health = (await alone.client.get("/health")).json()
        assert health["status"] == "degraded"
        assert health["checks"]["redis"] != "ok"
        assert health["checks"]["conversation"] == "ok"

    async def test_cancel_elsewhere_says_that_it_cannot(self, alone: Chat, chat: Chat) -> None:
        seen = await first_words(chat)
        path = f"/api/v1/chat/runs/{seen[0]['run_id']}/cancel"
        assert (await alone.client.post(path, headers=alone.keys.bearer(ADA))).status_code == 503
        await cancel(chat, seen[0]["run_id"])


async def logged(redis_url: str, events: list[dict[str, Any]]) -> None:
    """The log gets the end a moment after the client does."""
    async with Redis.from_url(redis_url) as redis, within(20):
        log = RunLog(redis, redis)
        while len(await log.read(UUID(events[0]["run_id"]), 1, 0, wait=False)) < len(events):
            await asyncio.sleep(0.02)


async def flush(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.flushall()
