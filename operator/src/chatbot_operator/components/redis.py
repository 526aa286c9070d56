"""Limits, run logs and caches: one Valkey for development. Losing it loses no message, so it has no disk."""

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components import reads, sizes
from chatbot_operator.components.pods import scratch
from chatbot_operator.components.reads import Read
from chatbot_operator.components.stores import Store

PORT = 6379


def address(bot: ChatbotDeployment) -> Read:
    """Where its readers find the connection string."""
    external = bot.spec.stores.redis.external
    if external is not None:
        return reads.user_uri(external.secret_ref, "redis_url", "spec.stores.redis.external.secretRef")
    return reads.generated(names.store(bot.name, "redis"), "uri", "redis_url")


def external(bot: ChatbotDeployment) -> tuple[Read, ...]:
    """The connection string that a user has to bring; none for a Valkey of our own."""
    return tuple(read for read in (address(bot),) if read.origin)


def store(bot: ChatbotDeployment) -> Store | None:
    """None where the user brings one."""
    if bot.spec.stores.redis.mode == "External":
        return None
    size = sizes.redis(bot.spec)
    return Store(
        name="redis",
        ports={"redis": PORT},
        probe={"tcpSocket": {"port": "redis"}},
        started={"exec": {"command": ["/usr/local/bin/chatbot-valkey", "ready"]}},
        size=size,
        passwords=("password",),
        volumes=(scratch("data", size.disk),),
        mounts=({"name": "data", "mountPath": "/data"},),
        env=({"name": "VALKEY_MAXMEMORY", "value": size.budget},),
    )
