"""Kept answers in Redis. The user is part of every name, so nobody's answer can be read for somebody else.

    chat:cache:{USER}:EXACT         an answer
    chat:cache:{USER}:vectors:REST  vectors of questions of the same rest, by the names of their answers
    chat:cache:{USER}:newest        'REST EXACT' of all of these, by the time at which they were kept
    chat:cache:{USER}:erased        another mark each time that all of these are erased

Every key ends by itself, and a user has at most `NEWEST` answers: limits and budgets are in the same Redis, and a full
one counts nobody's requests any more. Every method raises `redis.RedisError`.
"""

import asyncio
import json
from array import array
from base64 import b64decode, b64encode
from collections.abc import Sequence
from math import hypot
from operator import mul
from typing import Any
from uuid import UUID, uuid4

from chatbot_common.redis import Script
from redis.asyncio import Redis

from chatbot_chat.caching.keys import Key

NEWEST = 32
"""Answers of a user; the oldest goes when there is another one."""
LARGEST = 32 * 1024
"""Bytes of an answer; a larger one is not kept."""
AT_ONCE = 4
"""Vectors that are compared before others may go on: of 384 numbers 0.2 ms, of 3,072 1.2, and there are `NEWEST`."""
ERASED_SECONDS = 2 * 60 * 60
"""A mark stays for longer than an answer may take: what began before it, and ends after it, is not kept."""
FULL = 0.75
"""Of the memory that Redis may have; from there on nothing is kept: the rest is for what has to be counted."""

# KEYS: newest, answer, vectors, erased. ARGV: seconds to keep, answer as JSON, 'REST EXACT', vector or '', how many to
# have, how full Redis may be, user's prefix, mark that there was. Whoever may not ask how full it is keeps the answer.
_PUT = """
local mark = redis.call('GET', KEYS[4])
if mark and mark ~= ARGV[8] then return 0 end
local told = redis.pcall('INFO', 'memory')
if type(told) == 'string' then
  local used, most = told:match('used_memory:(%d+)'), told:match('maxmemory:(%d+)')
  if used and most and tonumber(most) > 0 and tonumber(used) > tonumber(most) * tonumber(ARGV[6]) then return 0 end
end
local now = redis.call('TIME')
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[1])
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[3], KEYS[2], ARGV[4])
  redis.call('EXPIRE', KEYS[3], ARGV[1])
end
redis.call('ZADD', KEYS[1], now[1] + now[2] / 1000000, ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[1])
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -ARGV[5] - 1)) do
  local rest, exact = name:match('(%S*) (%S*)')
  redis.call('DEL', ARGV[7] .. exact)
  redis.call('HDEL', ARGV[7] .. 'vectors:' .. rest, ARGV[7] .. exact)
  redis.call('ZREM', KEYS[1], name)
end
return 1
"""

# KEYS: newest, erased. ARGV: user's prefix, mark, seconds that it stays.
_FORGET = """
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local rest, exact = name:match('(%S*) (%S*)')
  redis.call('DEL', ARGV[1] .. exact, ARGV[1] .. 'vectors:' .. rest)
end
return redis.call('DEL', KEYS[1])
"""

Vector = Sequence[float]
Answer = dict[str, Any]
Mark = str
"""Of the last time that a user had something erased; empty where there is none."""


class Kept:
    def __init__(self, redis: Redis, seconds: int, full: float = FULL) -> None:
        self._redis = redis
        self._seconds = seconds
        self._full = full
        self._put = Script(redis, _PUT)
        self._forget = Script(redis, _FORGET)

    async def exactly(self, user_id: UUID, exact: str) -> tuple[Answer | None, Mark]:
        """The answer to the same question, and the mark that `put` needs for another one."""
        own = _of(user_id)
        told: list[Any] = await self._redis.mget(own + exact, own + "erased")
        found, mark = told
        return json.loads(found) if found else None, mark.decode() if mark else ""

    async def similar(self, user_id: UUID, rest: str, vector: Vector, similarity: float) -> Answer | None:
        """The answer to the nearest question that is near enough and whose answer is still there."""
        told: dict[Any, Any] = await self._redis.hgetall(_vectors(user_id, rest))
        unit = _unit(vector)
        near: list[tuple[float, Any]] = []
        for number, (name, packed) in enumerate(told.items()):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            near.append((_cosine(unit, packed), name))
        for score, name in sorted(near, reverse=True):
            if score < similarity:
                break
            if answer := await self._named(name):
                return answer
        return None

    async def put(self, user_id: UUID, key: Key, answer: Answer, vector: Vector | None, mark: Mark = "") -> None:
        """Nothing where the answer is too large, Redis nearly full, or something was erased since this mark."""
        text = json.dumps(answer, separators=(",", ":"))
        if len(text) > LARGEST:
            return
        own = _of(user_id)
        packed = _packed(vector) if vector is not None else ""
        await self._put(
            [f"{own}newest", own + key.exact, _vectors(user_id, key.rest), f"{own}erased"],
            [self._seconds, text, f"{key.rest} {key.exact}", packed, NEWEST, str(self._full), own, mark],
        )

    async def forget(self, user_id: UUID) -> None:
        """All of a user's, also what is being answered: nobody can tell which of them is the one that was erased."""
        own = _of(user_id)
        await self._forget([f"{own}newest", f"{own}erased"], [own, uuid4().hex, ERASED_SECONDS])

    async def _named(self, name: str | bytes) -> Answer | None:
        found = await self._redis.get(name)
        answer: Answer | None = json.loads(found) if found else None
        return answer


def _of(user_id: UUID) -> str:
    """What the names of a user's keys begin with."""
    return f"chat:cache:{{{user_id}}}:"


def _vectors(user_id: UUID, rest: str) -> str:
    return f"{_of(user_id)}vectors:{rest}"


def _packed(vector: Vector) -> str:
    """Made a unit vector: not every model gives such."""
    return b64encode(array("f", _unit(vector)).tobytes()).decode()


def _unit(vector: Vector) -> Vector:
    length = hypot(*vector) or 1.0
    return [number / length for number in vector]


def _cosine(vector: Vector, packed: str | bytes) -> float:
    """Of unit vectors; nothing where they are of different models."""
    other = array("f", b64decode(packed))
    return sum(map(mul, vector, other)) if len(vector) == len(other) else 0.0
