"""What the cache of answers holds and counts, as tests look at it."""

from typing import Any
from uuid import UUID

from prometheus_client import REGISTRY
from redis.asyncio import Redis

QUESTION = "How tall is the Eiffel tower?"


async def answers_of(redis: Redis, user: UUID) -> list[str]:
    """Names of answers that are kept for a user, by the list of them."""
    names: Any = await redis.zrange(f"chat:cache:{{{user}}}:newest", 0, -1)
    return [name.decode().split()[1] for name in names]


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("chat_cache_total", {"outcome": outcome}) or 0
