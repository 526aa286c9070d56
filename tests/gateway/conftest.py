"""A gateway over real sockets, with a clean Redis for each test."""

from collections.abc import AsyncIterator

import pytest
from redis import Redis

from tests.gateway.support import Platform, platform
from tests.support.identity import Keys


@pytest.fixture(autouse=True)
def clean_redis(redis_url: str) -> None:
    """All anonymous requests of all tests come from one address and would share its allowance."""
    with Redis.from_url(redis_url) as redis:
        redis.flushdb()


@pytest.fixture
async def bot(keys: Keys, redis_url: str) -> AsyncIterator[Platform]:
    """A gateway and its services as a small resource would set them up."""
    async with platform(keys, redis_url) as running:
        yield running
