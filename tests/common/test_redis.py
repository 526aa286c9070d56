"""One Redis, or the master that sentinels name: real ones, of which the master dies."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from chatbot_chat.runs.events import Event
from chatbot_chat.runs.log import RunLog
from chatbot_common.ids import uuid7
from chatbot_common.redis import Script, open_redis
from chatbot_common.redis_url import sentinels_of
from chatbot_common.wire import Line
from chatbot_gateway.limits import Limiter, Window
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.patience import within
from tests.support.stores import Sentinels, running_sentinels

SECONDS = 60
TIMES: dict[str, Any] = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    with running_sentinels() as running:
        yield running


class TestUrl:
    def test_says_all_of_it(self) -> None:
        told = sentinels_of("redis+sentinel://me:p%40ss@a:1,b,[::1]:3/the-master/2?sentinel_password=s%20x")
        assert told is not None
        assert told.addresses == (("a", 1), ("b", 26379), ("::1", 3))
        assert (told.service, told.database, told.tls) == ("the-master", 2, False)
        assert (told.username, told.password, told.own) == ("me", "p@ss", {"password": "s x"})
        assert "ss" not in repr(told).replace("addresses", "")

    def test_of_one_server_is_for_redis_itself(self) -> None:
        assert sentinels_of("rediss://h/0") is None

    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("http://h", "must start with redis://"),
            ("redis+sentinel://h:26379", "the name of the master"),
            ("redis+sentinel://h/m/x", "the name of the master"),
            ("redis+sentinel://h:99999/m", "host:port"),
            ("redis+sentinel:///m", "host:port"),
            ("redis+sentinel://a,,b/m", "host:port"),
            ("redis+sentinel://:hunter2@h/m?db=3", "asks for db"),
        ],
    )
    def test_what_cannot_be_is_refused_without_its_password(self, url: str, says: str) -> None:
        with pytest.raises(ValueError, match=says) as refused:
            sentinels_of(url)
        assert "hunter2" not in str(refused.value)


class TestConnections:
    async def test_who_finds_none_free_waits(self, redis_url: str) -> None:
        client = open_redis(redis_url, connections=2, **TIMES)
        assert await asyncio.gather(*(client.echo(str(number)) for number in range(50))) == [
            str(number).encode() for number in range(50)
        ]
        await client.aclose()

    async def test_whoever_is_cancelled_ends(self, redis_url: str) -> None:
        """At whichever step of a command: also as its last byte is written."""
        client = open_redis(redis_url, **TIMES)
        for steps in range(60):
            await client.ping()
            asking = asyncio.create_task(_for_ever(client))
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait({asking}, timeout=5)
            assert asking.cancelled(), steps
        await client.aclose()

    async def test_so_does_who_asks_sentinels(self, sentinels: Sentinels) -> None:
        client = open_redis(sentinels.url, connections=2, **TIMES)
        assert all(await asyncio.gather(*(client.ping() for _ in range(50))))
        await client.aclose()


class TestScript:
    """Many calls at once share round trips, which nobody notices."""

    COUNT = """
    if ARGV[1] == '13' then return redis.error_reply('ERR thirteen') end
    return redis.call('INCRBY', KEYS[1], ARGV[1])
    """

    async def test_each_call_gets_its_answer(self, redis_url: str) -> None:
        client = open_redis(redis_url, connections=2, **TIMES)
        script, key = Script(client, self.COUNT), f"script:{uuid7()}"
        found = await asyncio.gather(*(script([key], [number]) for number in range(1, 101)), return_exceptions=True)
        failed = [answer for answer in found if isinstance(answer, Exception)]
        assert [str(error) for error in failed] == ["thirteen"]
        assert await client.get(key) == str(sum(range(101)) - 13).encode()
        await client.aclose()

    async def test_also_of_a_redis_that_has_forgotten_the_script(self, redis_url: str) -> None:
        client = open_redis(redis_url, connections=8, **TIMES)
        script, key = Script(client, self.COUNT), f"script:{uuid7()}"
        await script([key], [0])
        await client.script_flush()
        await asyncio.gather(*(script([key], [1]) for _ in range(60)))
        assert await client.get(key) == b"60"
        await client.aclose()

    async def test_a_connection_that_is_lost_is_noticed_by_none_of_many(self, redis_url: str) -> None:
        client = open_redis(redis_url, connections=8, **TIMES)
        line = Line(client.connection_pool, 5.0)
        await line.ask("PING")
        said = await asyncio.gather(line.ask("QUIT"), *(line.ask("ECHO", str(number)) for number in range(20)))
        assert said == [b"OK", *(str(number).encode() for number in range(20))]
        await client.aclose()

    async def test_a_redis_that_is_away_is_told_to_all(self) -> None:
        client = open_redis("redis://127.0.0.1:1", connections=8, **TIMES)
        script = Script(client, self.COUNT)
        found = await asyncio.gather(*(script(["key"], [1]) for _ in range(20)), return_exceptions=True)
        assert all(isinstance(answer, RedisError) for answer in found)
        await client.aclose()


class TestFailover:
    async def test_a_client_follows_the_master(self, sentinels: Sentinels) -> None:
        client = open_redis(sentinels.url, **TIMES)
        await client.set("kept", "1")
        sentinels.replicate()
        before = sentinels.master()
        sentinels.kill_master()
        await _until(lambda: client.set("answers", "1"))
        assert sentinels.master() != before
        assert await client.get("kept") == b"1"
        await client.aclose()

    async def test_no_request_fails_and_limits_count_again(self, sentinels: Sentinels) -> None:
        limiter = Limiter(sentinels.url, [Window("minute", 1000, 60)])
        assert "RateLimit" in await limiter.spend("user:1")
        sentinels.kill_master()
        async with within(SECONDS):
            assert "RateLimit" not in await limiter.spend("user:1")  # it passes, unchecked
            while "RateLimit" not in await limiter.spend("user:1"):
                await asyncio.sleep(0.1)
        await limiter.close()

    async def test_a_run_is_logged_and_read_on_the_new_master(self, sentinels: Sentinels) -> None:
        plain, blocking = (open_redis(sentinels.url, **TIMES) for _ in range(2))
        log, run = RunLog(plain, blocking), UUID(int=1)
        await log.append(run, 1, [Event("text.delta", run, 1, 1, {"text": "a"})])
        sentinels.replicate()
        sentinels.kill_master()
        await _until(lambda: log.append(run, 1, [Event("text.delta", run, 1, 2, {"text": "b"})]))
        assert [event.seq for event in await log.read(run, 1, 0, wait=False)] == [1, 2]
        for client in (plain, blocking):
            await client.aclose()


async def _for_ever(client: Redis) -> None:
    while True:
        await client.ping()


async def _until(command: Callable[[], Awaitable[object]]) -> None:
    """Until Redis takes it."""
    async with within(SECONDS):
        while True:
            with contextlib.suppress(RedisError, OSError):
                await command()
                return
            await asyncio.sleep(0.1)
