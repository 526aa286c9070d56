"""Whether Redis answers, where the answers are told by a test."""

import asyncio

import pytest
from chatbot_chat import reach
from chatbot_chat.reach import Reach
from redis import RedisError
from redis.exceptions import TimeoutError as TimedOut

from tests.support.patience import within


class TestTrying:
    async def test_goes_on_whatever_goes_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reach, "PAUSE_SECONDS", 0.01)
        failures = [RuntimeError("a bug"), RedisError(), ValueError("another")]

        async def ping() -> None:
            if failures:
                raise failures.pop()

        async def late() -> None:
            raise TimedOut

        found = Reach(ping)
        with pytest.raises(TimedOut):
            await found.ask(late)
        assert found.away
        async with within(5):
            while found.away:
                await asyncio.sleep(0.01)
        assert not failures
        await found.close()
