"""What may befall a platform in the middle of its answers; after each, `all_is_well` looks at all that it promises."""

import asyncio
import contextlib
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import httpx2
import pytest
from chatbot_chat.providers.metering import AI_SPARED
from chatbot_chat.settings import Settings
from chatbot_common.redis import open_redis

from tests.chat.running import Chat, running, spec
from tests.chat.surviving import (
    LIMIT,
    PATIENCE,
    Asked,
    Replica,
    World,
    approve,
    bounded,
    cancel,
    installed,
    left,
    living,
    services,
)
from tests.conversation.running import eventually
from tests.support.configuration import mapping
from tests.support.identity import BOT, Keys
from tests.support.model_server import ModelServer
from tests.support.stores import Postgres, Valkey

pytestmark = pytest.mark.timeout(240)
NAP = json.dumps([[["calculator", {"expression": "6*7"}], ["nap", {}]]])
LONG = "one two three four five six seven eight nine ten " * 4


def order(what: str) -> str:
    return json.dumps([[["order", {"what": what}]], [["calculator", {"expression": "6*7"}]]])


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    keys: Keys,
    auth_url: str,
    conversation_url: str,
    conversation_database: str,
    running_model: tuple[ModelServer, str],
    postgres: Postgres,
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    redis = Valkey(folder)
    urls = {"auth": auth_url, "conversation": conversation_url}
    told = mapping("chat", keys, urls=urls, spec=spec(running_model[1]))  # type: ignore[arg-type]
    told = bounded(told | {"redis_url": redis.url})
    plugins = installed(folder / "plugins")
    here, there = (Replica(told, folder / name, plugins) for name in ("here", "there"))
    stores = (redis, postgres, conversation_database, conversation_url)
    with living(World(here, there, *stores, running_model[0], keys, Settings.model_validate(told))) as made:
        yield made


@pytest.fixture
async def chats(world: World) -> AsyncIterator[tuple[Chat, Chat]]:
    world.model.requests.clear()
    async with world.chats() as found:
        yield found


async def under_way(chat: Chat, *asked: Asked, until: str = "text.delta") -> "asyncio.Future[Any]":
    """All of them followed, and heard so far."""
    listening = asyncio.ensure_future(asyncio.gather(*(item.listen(chat) for item in asked)))
    for item in asked:
        await item.heard(until)
    return listening


FAILURES = {
    "refuse": "provider-refused",
    "busy": "provider-overloaded",
    "broken": "provider-failed",
    "hang": "provider-timeout",
    "hang-midway": "provider-timeout",
    "garbage": "provider-failed",
    "cut": "provider-unreachable",
    "early": "provider-failed",
    "dead": "provider-unreachable",
}


class TestProvider:
    async def test_that_fails_in_every_way(self, world: World, chats: tuple[Chat, Chat]) -> None:
        chat, _ = chats
        asked = [Asked("Hello there", model) for model in (*FAILURES, "soon", "flaky")]
        await asyncio.gather(*(item.listen(chat) for item in asked))
        for item in asked:
            if kind := FAILURES.get(item.model):
                assert item.seen[-1]["error"]["type"] == f"urn:chatbot:problem:{kind}", item
                assert "sk-upstream-secret" not in str(item.seen)
            else:
                assert item.last == "run.finished", item
        await world.all_is_well(chat, asked)
        failed = [item for item in asked if item.model in FAILURES]
        await asyncio.gather(*(item.listen(chat, model="echo", retry=True) for item in failed))
        assert {item.last for item in failed} == {"run.finished"}
        await world.all_is_well(chat, asked)

    async def test_that_fails_leaves_nothing_open(self, world: World, chats: tuple[Chat, Chat]) -> None:
        chat, _ = chats
        kinds = [name for name in FAILURES if not name.startswith("hang")]

        async def fail() -> list[Asked]:
            asked = [Asked("Hello there", model) for model in kinds for _ in range(4)]
            more = [Asked("Hello there", model) for model in kinds for _ in range(2)]
            turns = (item.listen(chat) for item in asked)
            await asyncio.gather(*turns, *(complete(chat, item, stream) for item in more for stream in (True, False)))
            return asked

        await world.all_is_well(chat, await fail())
        before = await world.footprint(chat)
        for _ in range(2):
            await world.all_is_well(chat, await fail())
        await eventually(lambda: world.nothing_is_left(chat, before, files=12), PATIENCE)

    @pytest.mark.parametrize("relayed", [True, False])
    async def test_that_fails_those_who_store_nothing(
        self, world: World, chats: tuple[Chat, Chat], relayed: bool
    ) -> None:
        """Each provider has one place: who is asked a second time finds out whether it is free again."""
        outside, _ = chats
        providers = [item.model_copy(update={"max_concurrency": 1}) for item in world.settings.providers]
        told = world.settings.model_copy(update={"providers": providers} | ({"moderation": None} if relayed else {}))
        asked = [Asked("Hello there", model) for model in FAILURES]
        full = spared()
        async with running(world.keys, told) as chat:
            for stream in (True, False, True):
                # One that is relayed whole has five minutes to begin.
                some = [item for item in asked if stream or not relayed or item.model != "hang"]
                answers = await asyncio.gather(*(complete(chat, item, stream) for item in some))
                assert not any("sk-upstream-secret" in answer for answer in answers)
            await eventually(lambda: world.budgets_are_right(chat, asked), PATIENCE)
        assert spared() == full
        await world.all_is_well(outside, [])


async def complete(chat: Chat, item: Asked, stream: bool) -> str:
    """All that a client of completions gets."""
    body = {"model": item.model, "messages": [{"role": "user", "content": item.question}], "stream": stream}
    said = b""
    asking = chat.client.stream("POST", "/v1/chat/completions", json=body, headers=chat.keys.bearer(item.user))
    with contextlib.suppress(httpx2.TransportError):
        async with asking as response:
            async for piece in response.aiter_bytes():
                said += piece
    return said.decode()


def spared() -> float:
    """How often a provider had no free place."""
    found = [sample for metric in AI_SPARED.collect() for sample in metric.samples]
    return sum(item.value for item in found if item.name.endswith("_total") and "full" in item.labels.values())


class TestRedis:
    @pytest.mark.parametrize("fault", ["slow", "hanging", "killed"])
    async def test_that_is_away_or_slow(self, world: World, chats: tuple[Chat, Chat], fault: str) -> None:
        chat, other = chats
        speaking, stopped = Asked("Count", "endless"), Asked("Count", "endless")
        waiting, asked = Asked(order("socks"), "agent"), Asked(LONG, "echo")
        listening = await under_way(chat, speaking, stopped)
        await waiting.listen(chat)
        before = await world.footprint(other)
        async with {"slow": slowed, "hanging": hanging, "killed": killed}[fault](world.redis):
            await asked.listen(other)
            assert asked.last == "run.finished"
            assert asked.seen[0]["resumable"] is (fault == "slow")
            await approve(chat, waiting)
            assert waiting.last == "run.finished"
            await cancel(chat, stopped)
            await stopped.heard("run.cancelled")
        await eventually(lambda: left(chat, asked.user, LIMIT - 18), PATIENCE)
        await cancel(other, speaking)  # which by now is in the log again, where the other replica leaves its wish
        await listening
        assert speaking.last == "run.cancelled"
        await world.all_is_well(chat, [speaking, stopped, waiting, asked])
        await eventually(lambda: world.nothing_is_left(other, before, files=12), PATIENCE)

    async def test_that_hangs_is_waited_for_once(self, world: World, chats: tuple[Chat, Chat]) -> None:
        chat, _ = chats
        took = []
        async with hanging(world.redis):
            for _ in range(4):
                asked, begun = Asked("Hello there", "echo"), time.monotonic()
                await asked.listen(chat)
                took.append(time.monotonic() - begun)
                assert asked.last == "run.finished"
                await asyncio.sleep(1.5)  # as long as one that was waited for anew would have been left alone
        assert median(took[1:]) < 1, took  # one of them may have been slow for another reason


@contextlib.asynccontextmanager
async def hanging(redis: Valkey) -> AsyncIterator[None]:
    with redis.hanging():
        yield


@contextlib.asynccontextmanager
async def killed(redis: Valkey) -> AsyncIterator[None]:
    redis.kill()
    try:
        yield
    finally:
        redis.start()


@contextlib.asynccontextmanager
async def slowed(redis: Valkey) -> AsyncIterator[None]:
    """Each command takes up to 0.2 s."""

    async def slow() -> None:
        async with open_redis(redis.url, socket_timeout=5, socket_connect_timeout=5) as client:
            while True:
                await client.client_pause(200)

    task = asyncio.create_task(slow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class TestPostgres:
    async def test_that_is_restarted_mid_turn(self, world: World, chats: tuple[Chat, Chat]) -> None:
        chat, other = chats
        speaking, ending, calling = Asked("Count", "endless"), Asked(LONG, "echo"), Asked(NAP, "agent")
        listening = await under_way(chat, speaking, ending, calling, until="run.started")
        world.postgres.crash()
        try:
            refused = Asked("Are you there?", "echo")
            with pytest.raises(AssertionError, match="cannot work right now"):
                await refused.listen(chat)
            await ending.heard("text.delta")
        finally:
            await asyncio.to_thread(world.postgres.recover)
        await eventually(lambda: answered(refused, chat), PATIENCE)
        await ending.heard("run.finished")
        for item in (speaking, calling):
            await cancel(other, item)
        await listening
        assert [item.last for item in (speaking, calling)] == ["run.cancelled"] * 2
        await world.all_is_well(chat, [speaking, ending, calling, refused])


async def answered(asked: Asked, chat: Chat) -> bool:
    """Sent again and again, as clients do until somebody has heard it."""
    with contextlib.suppress(AssertionError):
        await asked.listen(chat)
    return bool(asked.seen)


class TestClients:
    async def test_that_leave_or_cancel_by_hundreds_at_once(self, world: World, chats: tuple[Chat, Chat]) -> None:
        outside, _ = chats
        patient = world.settings.providers[0].timeouts.model_copy(update={"first_token": 120.0})
        many = {"max_concurrency": 1000, "timeouts": patient}
        providers = [item.model_copy(update=many) for item in world.settings.providers]
        told = world.settings.model_copy(
            update={"moderation": None, "default_model": "endless", "providers": providers}
        )
        async with running(world.keys, told, connections=1000) as chat:
            await Asked("Hello", "echo").listen(chat)
            before = tasks()
            asked = [Asked("Count", "silent") for _ in range(200)]
            listening = await under_way(chat, *asked, until="run.started")
            gone = [Asked("Count", model) for model in ("endless", BOT) for _ in range(40)]
            leaving = [leave(chat, item, at_once=bool(number % 2)) for number, item in enumerate(gone)]
            cancelling = [cancel(where, item) for item in asked for where in (chat, outside)]
            await asyncio.gather(*leaving, *cancelling)
            await listening
            assert {item.last for item in asked} == {"run.cancelled"}
            await world.all_is_well(chat, asked)
            await eventually(lambda: world.budgets_are_right(chat, gone), PATIENCE)
            await eventually(lambda: all_gone(before), PATIENCE)


async def leave(chat: Chat, item: Asked, *, at_once: bool) -> None:
    """A client of completions, gone before the first byte or after it."""
    body = {"model": item.model, "messages": [{"role": "user", "content": item.question}], "stream": True}
    asking = chat.client.stream("POST", "/v1/chat/completions", json=body, headers=chat.keys.bearer(item.user))
    with contextlib.suppress(TimeoutError, httpx2.TransportError):
        async with asyncio.timeout(0.02 if at_once else 60), asking as response:
            await anext(response.aiter_bytes())


def tasks() -> Counter[str]:
    """Of this loop."""
    return services(getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())


async def all_gone(before: Counter[str]) -> bool:
    return not tasks() - before


class TestProcess:
    """Of a replica of chat, with every kind of turn under way. The tests need no order, but are fastest in this one."""

    @pytest.mark.parametrize("fault", ["frozen", "killed"])
    async def test_that_stops_without_a_word(self, world: World, chats: tuple[Chat, Chat], fault: str) -> None:
        here, there = chats
        speaking, calling, waiting = Asked("Count", "endless"), Asked(NAP, "agent"), Asked(order("socks"), "agent")
        approved, ending, before = Asked(order("shoes"), "agent"), Asked(LONG, "echo"), Asked("Before", "echo")
        for item in (before, waiting, approved):
            await item.listen(here)
        beginning = Asked("Now", "echo", user=before.user, body={"conversation_id": before.seen[0]["conversation_id"]})
        listening = [await under_way(here, speaking)]
        listening.append(await under_way(here, calling, until="tool.finished"))
        async with world.sql() as sql:
            async with sql.transaction():
                # What conversation does for these it will have done, and nobody will have heard of it.
                listening.append(await under_way(here, ending, until="run.started"))
                locked = [item.user for item in (approved, ending, beginning)]
                await sql.execute("SELECT * FROM conversations WHERE user_id = ANY($1) FOR UPDATE", locked)
                await sql.execute("SELECT * FROM turns WHERE user_id = ANY($1) FOR UPDATE", locked[:2])
                listening += [asyncio.ensure_future(item) for item in (approve(here, approved), beginning.listen(here))]
                await eventually(lambda: three_wait(sql), PATIENCE)
                world.here.signal(signal.SIGSTOP if fault == "frozen" else signal.SIGKILL)
            await eventually(lambda: all_done(sql, approved, ending, beginning), PATIENCE)
        later = [replace(item, seen=[]) for item in (beginning, approved)]  # their users look elsewhere
        lost = [speaking, calling, *later]
        await world.expire(*lost)
        for item in later:
            await item.listen(there)
            assert item.last == "run.interrupted"
        await approve(there, waiting)
        assert waiting.last == "run.finished"
        for item in lost:
            assert (await there.ended(item.user, item.run_id))["state"] == "interrupted"
        if fault == "frozen":
            world.here.signal(signal.SIGCONT)
        await asyncio.gather(*listening)
        assert (await there.ended(ending.user, ending.run_id))["state"] == "completed"
        asked = [*lost, waiting, ending]
        await world.all_is_well(there, asked, doubted=True)
        for item in (speaking, later[0]):
            await item.listen(there, model="echo", retry=True)
            assert item.last == "run.finished"
        await world.all_is_well(there, asked, doubted=True)

    async def test_that_is_killed_has_told_what_it_spent_on_answers_that_nobody_stores(
        self, world: World, chats: tuple[Chat, Chat]
    ) -> None:
        here, there = chats
        asked, heard = Asked("a long prompt " * 200, "endless"), Counter[str]()

        async def listen() -> None:
            body = {"model": "endless", "messages": [{"role": "user", "content": asked.question}], "stream": True}
            headers = here.keys.bearer(asked.user)
            with contextlib.suppress(httpx2.TransportError):
                async with here.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
                    async for line in response.aiter_lines():
                        heard["words"] += line.startswith("data: ")

        async def long_enough() -> bool:
            return heard["words"] > 300

        async def entered() -> bool:
            return bool(await world.ledger(asked.user))

        listening = asyncio.create_task(listen())
        await eventually(long_enough, PATIENCE)
        world.here.signal(signal.SIGKILL)
        await listening
        await eventually(entered, PATIENCE)
        [row] = await world.ledger(asked.user)
        assert row["estimated"]
        assert 700 + heard["words"] / 3 < row["tokens"] < 800 + 2 * heard["words"]
        await eventually(lambda: world.budgets_are_right(there, [asked]), PATIENCE)

    async def test_that_is_told_to_end(self, world: World, chats: tuple[Chat, Chat]) -> None:
        here, there = chats
        speaking, calling = Asked("Count", "endless"), Asked(NAP, "agent")
        listening = [await under_way(there, speaking), await under_way(there, calling, until="tool.finished")]
        world.there.signal(signal.SIGTERM)
        await asyncio.gather(*listening)
        assert world.there.process
        assert await asyncio.to_thread(world.there.process.wait, 30) == 0
        assert [item.last for item in (speaking, calling)] == ["run.interrupted"] * 2
        await world.all_is_well(here, [speaking, calling])
        logged = world.there.logged()
        assert all(json.loads(line) for line in logged.splitlines())
        assert "sk-test" not in logged


async def three_wait(sql: Any) -> Any:
    await sql.execute("SELECT pg_stat_clear_snapshot()")
    query = "SELECT count(*) = 3 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = ANY($1)"
    return await sql.fetchval(query, ["transactionid", "tuple"])


async def all_done(sql: Any, approved: Asked, ending: Asked, beginning: Asked) -> bool:
    return bool(
        await sql.fetchval("SELECT attempt FROM turns WHERE user_id = $1", approved.user) == 2
        and await sql.fetchval("SELECT state FROM turns WHERE user_id = $1", ending.user) == "completed"
        and await sql.fetchval("SELECT count(*) FROM turns WHERE user_id = $1", beginning.user) == 2
    )
