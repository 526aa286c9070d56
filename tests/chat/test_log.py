"""The run log: who may append, what it asks of the writer, what survives."""

import asyncio
from uuid import UUID

import pytest
from chatbot_chat.reach import Reach
from chatbot_chat.runs.events import Event
from chatbot_chat.runs.log import RunLog
from chatbot_common.ids import uuid7
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ConnectionError as Unconnected


@pytest.fixture
def run_id() -> UUID:
    return uuid7()


def words(run_id: UUID, attempt: int, first: int, last: int) -> list[Event]:
    return [Event("text.delta", run_id, attempt, seq, {"text": f"{seq} "}) for seq in range(first, last + 1)]


class TestAppend:
    async def test_batches_are_read_event_by_event(self, log: RunLog, run_id: UUID) -> None:
        assert await log.append(run_id, 1, words(run_id, 1, 1, 3)) == "ok"
        assert await log.append(run_id, 1, words(run_id, 1, 4, 5)) == "ok"
        assert [event.seq for event in await log.read(run_id, 1, 1, wait=False)] == [2, 3, 4, 5]

    async def test_an_older_attempt_is_refused(self, log: RunLog, run_id: UUID) -> None:
        await log.append(run_id, 2, words(run_id, 2, 1, 1))
        assert await log.append(run_id, 1, words(run_id, 1, 1, 4)) == "superseded"
        assert {event.attempt for event in await log.read(run_id, 2, 0, wait=False)} == {2}

    async def test_a_newer_attempt_starts_over(self, log: RunLog, run_id: UUID) -> None:
        await log.append(run_id, 1, words(run_id, 1, 1, 4))
        assert await log.append(run_id, 2, words(run_id, 2, 1, 1)) == "ok"
        assert await log.read(run_id, 1, 0, wait=False) == []

    async def test_a_lost_log_asks_for_everything_again(self, log: RunLog, redis: Redis, run_id: UUID) -> None:
        await log.append(run_id, 1, words(run_id, 1, 1, 4))
        await redis.flushall()
        assert await log.append(run_id, 1, words(run_id, 1, 5, 6)) == "gap"
        assert await log.append(run_id, 1, words(run_id, 1, 1, 6)) == "ok"
        assert len(await log.read(run_id, 1, 0, wait=False)) == 6

    async def test_a_repeated_batch_leaves_no_double(self, log: RunLog, run_id: UUID) -> None:
        await log.append(run_id, 1, words(run_id, 1, 1, 2))
        await log.append(run_id, 1, words(run_id, 1, 3, 4))
        assert await log.append(run_id, 1, words(run_id, 1, 3, 4)) == "gap"
        assert len(await log.read(run_id, 1, 0, wait=False)) == 4

    async def test_every_key_expires(self, log: RunLog, redis: Redis, run_id: UUID) -> None:
        await log.append(run_id, 1, words(run_id, 1, 1, 2))
        await log.cancel(run_id, 1)
        keys = [key async for key in redis.scan_iter(f"*{run_id}*")]
        assert len(keys) == 2
        assert all([0 < await redis.ttl(key) <= 900 for key in keys])


class TestCancel:
    async def test_is_read_with_the_next_append(self, log: RunLog, run_id: UUID) -> None:
        await log.append(run_id, 1, words(run_id, 1, 1, 1))
        await log.cancel(run_id, 1)
        assert await log.append(run_id, 1, []) == "cancel"

    async def test_before_the_first_append_is_kept(self, log: RunLog, run_id: UUID) -> None:
        await log.cancel(run_id, 1)
        assert await log.append(run_id, 1, words(run_id, 1, 1, 1)) == "cancel"

    async def test_of_an_older_attempt_does_not_stop_the_next(self, log: RunLog, run_id: UUID) -> None:
        await log.append(run_id, 1, words(run_id, 1, 1, 1))
        await log.cancel(run_id, 1)
        assert await log.append(run_id, 2, words(run_id, 2, 1, 1)) == "ok"


class TestFollowers:
    async def test_more_than_there_are_connections_for_make_nobody_else_go_without(
        self, redis: Redis, redis_url: str, run_id: UUID
    ) -> None:
        reach = Reach(redis.ping)
        pool = BlockingConnectionPool.from_url(redis_url, max_connections=1, timeout=0.1)
        async with Redis.from_pool(pool) as blocking:
            log = RunLog(redis, blocking, reach)
            waiting = asyncio.create_task(log.read(run_id, 1, 0, wait=True))
            await asyncio.sleep(0.1)
            with pytest.raises(Unconnected):
                await log.read(run_id, 1, 0, wait=True)
            assert not reach.away
            assert await log.append(run_id, 1, words(run_id, 1, 1, 1)) == "ok"
            assert [event.seq for event in await waiting] == [1]
