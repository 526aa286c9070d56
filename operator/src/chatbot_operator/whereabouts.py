"""Where a bot and its stores are, for the status: addresses and images, and nothing that a Secret keeps. Pure."""

from collections.abc import Mapping

from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import Endpoints, PostgresStatus, RedisStatus, StoresStatus, VectorsStatus

from chatbot_operator import names
from chatbot_operator.components import exposure, moving, postgres, redis, weaviate
from chatbot_operator.components.context import Context
from chatbot_operator.world import Blocked, Observed

MAX_ADDRESS = 512
"""Of which a status has room; an address of a user's may be longer."""


def endpoints(bot: ChatbotDeployment) -> Endpoints:
    return Endpoints(gateway=exposure.inside(bot), public=list(exposure.public(bot)), openai=f"{exposure.url(bot)}/v1")


def stores(context: Context, found: Mapping[names.Store, Blocked | None]) -> StoresStatus:
    """
    Args:
        found: what is wrong with each.
    """
    return StoresStatus(
        postgres=_postgres(context, found), redis=_redis(context, found), vectors=_vectors(context, found)
    )


def _postgres(context: Context, found: Mapping[names.Store, Blocked | None]) -> PostgresStatus:
    """Of the one that has the data, which is not always the one that the resource names."""
    located = moving.located(context)
    host = {"Dev": names.child(context.bot.name, "postgres"), "CloudNativePG": f"{context.bot.name}-postgres-rw"}
    seen = {
        "address": _inside(context.bot, host.get(located.mode), postgres.PORT),
        "image": _image(context.observed, context.bot, "postgres", moving.RUN_BY.get(located.mode)),
        "ready": found["postgres"] is None,
    }
    return located.model_copy(update=seen)


def _redis(context: Context, found: Mapping[names.Store, Blocked | None]) -> RedisStatus:
    bot, told = context.bot, context.bot.spec.stores.redis
    ours = told.external is None
    return RedisStatus(
        mode=told.mode,
        secret=told.external.secret_ref.name if told.external else "",
        address=_inside(bot, names.child(bot.name, "redis") if ours else None, redis.PORT),
        image=_image(context.observed, bot, "redis", "StatefulSet" if ours else None),
        ready=found["redis"] is None,
    )


def _vectors(context: Context, found: Mapping[names.Store, Blocked | None]) -> VectorsStatus:
    bot, told = context.bot, context.bot.spec.stores.vectors
    if not weaviate.used(bot):
        return VectorsStatus(type=told.type, ready=found["postgres"] is None)
    ours = weaviate.managed(bot)
    key = told.external.secret_ref if told.external else None
    address = _inside(bot, names.child(bot.name, "weaviate"), weaviate.PORT) if ours else weaviate.host(bot)
    return VectorsStatus(
        type=told.type,
        mode=told.mode,
        secret=key.name if key else "",
        address=address[:MAX_ADDRESS],
        image=_image(context.observed, bot, "weaviate", "StatefulSet" if ours else None),
        ready=found["weaviate"] is None,
    )


def _inside(bot: ChatbotDeployment, service: str | None, port: int) -> str:
    """Host and port of a store that the operator runs; another's is in a Secret."""
    return f"{service}.{bot.metadata.namespace}.svc:{port}" if service else ""


def _image(observed: Observed, bot: ChatbotDeployment, store: names.Store, kind: str | None) -> str:
    """Of what runs it now; a Cluster may leave it to CloudNativePG, which says what it has chosen."""
    live = observed.child(kind, names.child(bot.name, store)) if kind else None
    if live is None:
        return ""
    if kind == "Cluster":
        return str(live["spec"].get("imageName") or (live.get("status") or {}).get("image") or "")
    return str(live["spec"]["template"]["spec"]["containers"][0]["image"])
