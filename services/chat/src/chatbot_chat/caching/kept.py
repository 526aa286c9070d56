"""Kept answers in Redis. The user is part of every name, so nobody's answer can be read for somebody else.

    chat:cache:{USER}:EXACT      an answer
    chat:cache:{USER}:near:REST  vectors of the newest questions of the same rest, and the names of their answers

Every key ends by itself. Every method raises `redis.RedisError`.
"""

import json
from array import array
from base64 import b64decode, b64encode
from collections.abc import Sequence
from operator import mul
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from chatbot_chat.caching.keys import Key

NEWEST = 50
"""Questions of one rest that are compared: so many dot products take a millisecond or two."""
LARGEST = 256 * 1024
"""Bytes of an answer; a larger one is not kept."""

Vector = Sequence[float]
Answer = dict[str, Any]


class Kept:
    def __init__(self, redis: Redis, seconds: int) -> None:
        self._redis = redis
        self._seconds = seconds

    async def exactly(self, user_id: UUID, exact: str) -> Answer | None:
        found = await self._redis.get(f"{_of(user_id)}:{exact}")
        answer: Answer | None = json.loads(found) if found else None
        return answer

    async def similar(self, user_id: UUID, rest: str, vector: Vector, similarity: float) -> Answer | None:
        """The answer to the nearest question that is near enough and whose answer is still there."""
        listed = await self._redis.lrange(_near(user_id, rest), 0, NEWEST - 1)
        near = [(_cosine(vector, item["vector"]), item["exact"]) for item in map(json.loads, listed)]
        for score, exact in sorted(near, reverse=True):
            if score < similarity:
                break
            if answer := await self.exactly(user_id, exact):
                return answer
        return None

    async def put(self, user_id: UUID, key: Key, answer: Answer, vector: Vector | None) -> None:
        text = json.dumps(answer, separators=(",", ":"))
        if len(text) > LARGEST:
            return
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(f"{_of(user_id)}:{key.exact}", text, ex=self._seconds)
            if vector is not None:
                near = _near(user_id, key.rest)
                pipeline.lpush(near, json.dumps({"exact": key.exact, "vector": _packed(vector)}))
                pipeline.ltrim(near, 0, NEWEST - 1)
                pipeline.expire(near, self._seconds)
            await pipeline.execute()


def _of(user_id: UUID) -> str:
    return f"chat:cache:{{{user_id}}}"


def _near(user_id: UUID, rest: str) -> str:
    return f"{_of(user_id)}:near:{rest}"


def _packed(vector: Vector) -> str:
    return b64encode(array("f", vector).tobytes()).decode()


def _cosine(vector: Vector, packed: str) -> float:
    """Of unit vectors; nothing where they are of different models."""
    other = array("f", b64decode(packed))
    return sum(map(mul, vector, other)) if len(vector) == len(other) else 0.0
