"""A gateway over real sockets, with a clean Redis for each test."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis

from tests.gateway.support import Platform, Shared, platform, shared
from tests.support.identity import Keys


@pytest.fixture(autouse=True)
def clean_redis(redis_url: str) -> None:
    """All anonymous requests of all tests come from one address and would share its allowance."""
    with Redis.from_url(redis_url) as redis:
        redis.flushdb()


@pytest.fixture(scope="session")
def small_resource(keys: Keys, redis_url: str) -> Iterator[Shared]:
    with shared(keys, redis_url) as running:
        yield running


@pytest.fixture
async def bot(small_resource: Shared) -> AsyncIterator[Platform]:
    """A gateway and its services as a small resource would set them up."""
    async with small_resource.visit() as visited:
        yield visited


@pytest.fixture
async def own_bot(keys: Keys, redis_url: str) -> AsyncIterator[Platform]:
    """The same for this test alone, in its own event loop: for streams that it controls, and answers that are kept."""
    async with platform(keys, redis_url) as running:
        yield running
