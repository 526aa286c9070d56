"""The cache of answers, as turns and completions use it. Without Redis there is none, and answers go on."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar
from uuid import UUID

import structlog
from chatbot_common.errors import Problem, Unavailable
from chatbot_common.http import UpstreamProblem
from fastapi import Depends, Header
from prometheus_client import Counter
from redis import RedisError
from redis.asyncio import Redis

from chatbot_chat.caching.kept import Answer, Kept, Mark, Vector
from chatbot_chat.caching.keys import Key, key_of, key_of_body, named
from chatbot_chat.caching.recall import Recall
from chatbot_chat.conversation_client import ConversationClient
from chatbot_chat.prompt import PromptTooLong
from chatbot_chat.providers import ModelRequest
from chatbot_chat.reach import Reach
from chatbot_chat.settings import CacheSettings, Settings

log = structlog.get_logger(__name__)

ASKED = Counter("chat_cache_total", "Answers looked for in the cache, by what was found", ["outcome"])
PATIENCE_SECONDS = 2.0
"""For Redis and the embedding together; then the answer goes on without."""
AWAY_SECONDS = 1.0
"""After a failure both are left alone for so long: not every question should wait for a time-out."""
FORMAT = 1
"""Of kept answers: what a release writes otherwise, it must not read as its own."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Use:
    """Whether an answer may come from the cache, and whether it may be kept there."""

    read: bool = True
    write: bool = True

    @property
    def anew(self) -> "Use":
        """Another answer is wanted than the one there is; the next who asks gets the new one."""
        return Use(read=False, write=self.write)


USUAL = Use()


@dataclass
class Seen:
    """What is known of a question when it goes to a model: all of it, or as much as there was time for."""

    found: Answer | None = None
    vector: Vector | None = None
    mark: Mark | None = None
    """None is not known."""


def wished(cache_control: Annotated[str, Header()] = "") -> Use:
    """By `Cache-Control` of a request: `no-cache` asks the model, `no-store` also keeps nothing (RFC 9111)."""
    wishes = {wish.strip().lower() for wish in cache_control.split(",")}
    return Use(read=not wishes & {"no-cache", "no-store"}, write="no-store" not in wishes)


CacheUse = Annotated[Use, Depends(wished)]


class Cache:
    """Of this process. Without settings it finds and keeps nothing."""

    def __init__(
        self,
        conversation: ConversationClient,
        settings: CacheSettings | None = None,
        redis: Redis | None = None,
        world: str = "",
        reach: Reach | None = None,
    ) -> None:
        self._conversation = conversation
        self._similarity = settings.similarity if settings else None
        self._kept = Kept(redis, settings.seconds) if settings and redis else None
        self._world = world
        self._away_until = float("-inf")
        self._reach = reach

    async def recall(self, user_id: UUID, model: str, prepare: Callable[[], ModelRequest], use: Use = USUAL) -> Recall:
        """Look for the answer to what `prepare` makes. Raises what that raises, but for `PromptTooLong`."""
        if self._kept is None or not (use.read or use.write):
            return Recall()
        try:
            key = key_of(self._world, prepare())
        except PromptTooLong:  # for who asks the model to tell
            return Recall()
        return await self._recall(self._kept, user_id, model, key, use)

    async def recall_relayed(self, user_id: UUID, model: str, body: Mapping[str, Any], use: Use = USUAL) -> Recall:
        """Look for the bytes that came for this body."""
        if self._kept is None or not (use.read or use.write):
            return Recall()
        return await self._recall(self._kept, user_id, model, key_of_body(self._world, body), use)

    async def forget(self, user_id: UUID) -> None:
        """What is kept for a user. Raises `Unavailable` where Redis is away: it would be given again afterwards."""
        if self._kept is None:
            return
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._kept.forget(user_id)
        except (RedisError, TimeoutError) as error:
            raise Unavailable("The cache of answers cannot be erased right now; try again shortly.") from error

    async def _recall(self, kept: Kept, user_id: UUID, model: str, key: Key, use: Use) -> Recall:
        seen = Seen()
        await self._bounded(self._look(kept, user_id, key, use, seen))
        keep = partial(self._keep, kept, user_id, key, seen) if use.write else None
        return Recall(model, seen.found, keep, "hit" if seen.found else "fwd=miss" if use.read else "fwd=request")

    async def _look(self, kept: Kept, user_id: UUID, key: Key, use: Use, seen: Seen) -> None:
        """For the answer that there is, and the question's vector where it is needed or will be."""
        outcome = "miss"
        found, seen.mark = await kept.exactly(user_id, key.exact)
        if found and use.read:
            outcome, seen.found = "hit", found
        elif self._similarity is not None and key.question.strip():
            vector = seen.vector = await self._vector(key.question)
            if vector and use.read and (found := await kept.similar(user_id, key.rest, vector, self._similarity)):
                outcome, seen.found = "similar", found
        ASKED.labels(outcome if use.read else "refreshed").inc()

    async def _vector(self, question: str) -> Vector | None:
        """None of a question that is refused, as one that is too long for the model: that one is kept as it is."""
        try:
            [vector] = await self._conversation.embed([question])
        except UpstreamProblem as problem:
            log.warning("question is not compared", error=problem.kind)
            return None
        return vector

    async def _keep(self, kept: Kept, user_id: UUID, key: Key, seen: Seen, answer: Answer) -> None:
        if seen.mark is not None:
            await self._bounded(kept.put(user_id, key, answer, seen.vector, seen.mark))

    async def _bounded(self, asked: Coroutine[Any, Any, Result]) -> Result | None:
        """None when it cannot be had right now."""
        if time.monotonic() < self._away_until or (self._reach and self._reach.away):
            asked.close()
            return None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await asked
        except (RedisError, TimeoutError, Problem) as error:
            self._away_until = time.monotonic() + AWAY_SECONDS
            ASKED.labels("unavailable").inc()
            log.warning("cache is not there, answers go on", error=type(error).__name__)
            return None


def make_cache(settings: Settings, conversation: ConversationClient, redis: Redis, reach: Reach) -> Cache:
    """Answers depend on where models run, too: another configuration, another cache."""
    told: Any = settings.model_dump(mode="json", include={"providers", "models"})
    return Cache(conversation, settings.cache, redis, named(FORMAT, told), reach)
