"""The client of Redis: of one server, or of whichever server the sentinels name as the master.

A connection that breaks is made anew, and then the sentinels are asked first; so is one whose server has become a
replica. Until they agree on another master, which takes them some seconds, commands fail.
"""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel

from chatbot_common.redis_url import sentinels_of


class _Following(Redis):
    """Of a master that may change; with it, the connections to the sentinels are closed."""

    asked: Sentinel

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        for sentinel in self.asked.sentinels:
            await sentinel.aclose()


def open_redis(url: str, **options: Any) -> Redis:
    """A client; nothing is connected before its first command.

    Args:
        url: one that redis_url.py takes.
        options: of redis-py's connections, such as `socket_timeout`. A sentinel is waited for no longer than Redis is.
    """
    told = sentinels_of(url)
    if told is None:
        return Redis.from_url(url, **options)
    tls = {"ssl": True} if told.tls else {}
    patience = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), options["socket_connect_timeout"])
    sentinel = Sentinel(told.addresses, sentinel_kwargs=patience | tls | told.own)  # type: ignore[no-untyped-call]
    login: dict[str, Any] = {"username": told.username, "password": told.password, "db": told.database}
    client: _Following = sentinel.master_for(told.service, _Following, **login, **tls, **options)  # type: ignore[arg-type]
    client.asked = sentinel
    return client
