"""Puts the chat service together: settings in, app out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx2
from chatbot_common.app import Probes, create_service, make_identity
from chatbot_common.http import service_client
from chatbot_common.redis import open_redis
from fastapi import FastAPI
from redis.asyncio import Redis
from starlette.middleware import Middleware

from chatbot_chat import routes, socket
from chatbot_chat.budgets.counters import Counters
from chatbot_chat.budgets.service import Budgets
from chatbot_chat.caching.service import make_cache
from chatbot_chat.conversation_client import ConversationClient
from chatbot_chat.moderation.service import make_moderation
from chatbot_chat.openai_api import embeddings, moderations
from chatbot_chat.openai_api import routes as openai_routes
from chatbot_chat.openai_api.embeddings import EmbeddingService
from chatbot_chat.openai_api.responses import routes as response_routes
from chatbot_chat.openai_api.responses.service import ResponseService
from chatbot_chat.openai_api.service import CompletionService
from chatbot_chat.providers.catalog import Catalog
from chatbot_chat.reach import Reach
from chatbot_chat.runs.log import BLOCK_MILLISECONDS, RunLog
from chatbot_chat.runs.service import RunService
from chatbot_chat.settings import Settings
from chatbot_chat.timing import Timed
from chatbot_chat.tools.catalog import ToolCatalog
from chatbot_chat.variants import make_choices

REDIS_SECONDS = 1.0
FOLLOWERS = 2000
"""Waiting reads at once: each stream that follows a run holds a connection for as long as nothing happens."""
FAREWELL_SECONDS = 5.0
"""Kept of the drain for committing cut runs and telling their followers, while connections are still open."""


def create_app(settings: Settings, transport: httpx2.AsyncBaseTransport | None = None) -> FastAPI:
    """The app; nothing is connected before the first request.

    Args:
        transport: replaces the network to conversation, for tests that put the real app behind it in process.
    """
    redis, blocking = _open_redis(settings.redis_url.get_secret_value())
    reach = Reach(redis.ping)
    identity = make_identity("chat", settings)
    client, signs = (
        service_client(settings.conversation_url, identity.service, "conversation", transport) for _ in range(2)
    )
    conversation = ConversationClient(client, signs)
    catalog = Catalog(settings)
    choices = make_choices(settings)
    tools = ToolCatalog(settings.tools, settings.mcp_tokens)
    budgets = Budgets(conversation, settings.budgets, Counters(redis), reach=reach)
    moderation = make_moderation(settings)
    cache = make_cache(settings, conversation, redis, reach)
    run_log = RunLog(redis, blocking, reach)
    runs = RunService(catalog, tools, conversation, run_log, choices, budgets, moderation, settings.bot, cache)

    async def ping_redis() -> None:
        await redis.ping()

    # None takes us out of service: answers flow without Redis, and conversation has readiness of its own.
    probes = Probes(
        reported={
            "conversation": conversation.ping,
            "redis": ping_redis,
            "providers": catalog.ping,
            "tools": tools.ping,
        }
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        drained = asyncio.create_task(_drain_when_leaving(runs, probes, settings.drain_seconds))
        keeping = [asyncio.create_task(work) for work in (runs.leases.keep(), budgets.keep(), tools.keep())]
        yield
        probes.leave()
        await drained
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        await budgets.close()
        await catalog.close()
        await tools.close()
        await moderation.close()
        await client.aclose()
        await signs.aclose()
        await redis.aclose()
        await blocking.aclose()

    app = create_service(
        "chat",
        identity=identity,
        middleware=[Middleware(Timed)],
        probes=probes,
        routers=[
            *(routes.router, routes.messages, routes.conversations, socket.router),
            *(openai_routes.router, response_routes.router, moderations.router, embeddings.router),
        ],
        lifespan=lifespan,
        direct=routes.DIRECT | openai_routes.DIRECT,
    )
    app.state.runs = runs
    app.state.catalog = catalog
    app.state.tools = tools
    app.state.completions = CompletionService(
        settings.bot, catalog, tools, conversation, choices, budgets, moderation, cache
    )
    app.state.responses = ResponseService(app.state.completions, runs, catalog)
    app.state.moderation = moderation
    app.state.embeddings = EmbeddingService(conversation, budgets)
    return app


def _open_redis(url: str) -> tuple[Redis, Redis]:
    """A client for commands, and one for reads that wait."""
    redis = open_redis(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
    patience = BLOCK_MILLISECONDS / 1000 + REDIS_SECONDS
    return redis, open_redis(url, connections=FOLLOWERS, socket_timeout=patience, socket_connect_timeout=REDIS_SECONDS)


async def _drain_when_leaving(runs: RunService, probes: Probes, seconds: float) -> None:
    """Counted from the signal, not from when the last connection closed: connections wait for runs."""
    await probes.leaving.wait()
    await runs.drain(max(seconds - FAREWELL_SECONDS, seconds / 2))
