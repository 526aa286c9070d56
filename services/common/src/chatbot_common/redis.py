"""The client of Redis: of one server, or of whichever server the sentinels name as the master.

A connection that breaks is made anew, and then the sentinels are asked first; so is one whose server has become a
replica. Until they agree on another master, which takes them some seconds, commands fail.

Who finds all connections of a client in use waits for one: redis-py by itself raises what looks as if Redis were away.
"""

import asyncio
from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.exceptions import NoScriptError

from chatbot_common.redis_url import sentinels_of
from chatbot_common.wire import Line

tracer = trace.get_tracer(__name__)

Argument = str | bytes | int | float

SECONDS = 5.0
"""That an answer may take where nobody has said so; redis-py's own."""
CONNECTIONS = 100
"""Of one client. Each is in use for a round trip only, unless the command itself waits."""


class _Heeding(Redis):
    """One of which a command that is cancelled ends, always.

    redis-py writes by `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that comes as the write ends.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        finally:
            if task and task.cancelling() > before:
                raise asyncio.CancelledError


class _Following(_Heeding):
    """Of a master that may change; with it, the connections to the sentinels are closed."""

    asked: Sentinel

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        for sentinel in self.asked.sentinels:
            await sentinel.aclose()


class _Waiting(BlockingConnectionPool, SentinelConnectionPool):
    """Connections to the master, which are waited for."""

    def __init__(self, service_name: str, sentinel_manager: Sentinel, *, ssl: bool = False, **options: Any) -> None:
        kind = SentinelManagedSSLConnection if ssl else SentinelManagedConnection
        own: dict[str, Any] = {
            "service_name": service_name,
            "sentinel_manager": sentinel_manager,
            "connection_class": kind,
        }
        super().__init__(**own, **options)


class Script:
    """A Lua script. All calls of it share a connection, and those of one tick of the loop a write."""

    def __init__(self, redis: Redis, text: str) -> None:
        self._text = text
        self._sha = sha1(text.encode(), usedforsecurity=False).hexdigest()
        pool = redis.connection_pool
        self._line = Line(pool, pool.connection_kwargs.get("socket_timeout") or SECONDS)

    async def __call__(self, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Raises `redis.RedisError`."""
        if not trace.get_current_span().is_recording():
            return await self._ask(keys, args)
        with tracer.start_as_current_span("EVALSHA", kind=SpanKind.CLIENT, attributes={"db.system": "redis"}):
            return await self._ask(keys, args)

    async def _ask(self, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        try:
            return await self._line.ask("EVALSHA", self._sha, len(keys), *keys, *args)
        except NoScriptError:  # a Redis that has just been started does not know it yet
            return await self._line.ask("EVAL", self._text, len(keys), *keys, *args)


def open_redis(url: str, *, connections: int = CONNECTIONS, **options: Any) -> Redis:
    """A client; nothing is connected before its first command.

    Args:
        url: one that redis_url.py takes.
        connections: how many may be open at once; who needs one more waits for it as long as for an answer.
        options: of redis-py's connections, with `socket_timeout` and `socket_connect_timeout`. A sentinel
            is waited for no longer than Redis is.
    """
    told = sentinels_of(url)
    pool: dict[str, Any] = {"max_connections": connections, "timeout": options["socket_timeout"]}
    if told is None:
        return _Heeding.from_pool(BlockingConnectionPool.from_url(url, **pool, **options))
    tls = {"ssl": True} if told.tls else {}
    patience = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), options["socket_connect_timeout"])
    sentinel = Sentinel(told.addresses, sentinel_kwargs=patience | tls | told.own)  # type: ignore[no-untyped-call]
    login: dict[str, Any] = {"username": told.username, "password": told.password, "db": told.database}
    client: _Following = sentinel.master_for(told.service, _Following, _Waiting, **login, **tls, **pool, **options)
    client.asked = sentinel
    return client
