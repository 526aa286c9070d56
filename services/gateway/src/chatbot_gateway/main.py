"""The gateway's app: edge headers, CORS, its own routes, and the proxies of everything else."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import ClientSession, DummyCookieJar
from chatbot_common.app import Probes, create_service, health_router, make_identity
from chatbot_common.http import service_client
from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import WebSocketRoute

from chatbot_gateway import routes
from chatbot_gateway.api_keys import ApiKeys
from chatbot_gateway.edge import Edge
from chatbot_gateway.limits import Limiter, windows
from chatbot_gateway.service import Door
from chatbot_gateway.settings import Settings
from chatbot_gateway.sockets import PATH, Sockets
from chatbot_gateway.tickets import Tickets

ALLOWED_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID", "X-Request-Id")
EXPOSED_HEADERS = ("ETag", "RateLimit", "RateLimit-Policy", "Retry-After", "Server-Timing", "X-Request-Id")


def create_app(settings: Settings) -> FastAPI:
    """The public app; connections are opened by its lifespan, and none is needed to start."""
    redis_url = settings.redis_url.get_secret_value()
    limiter, tickets = Limiter(redis_url, windows(settings.limits)), Tickets(redis_url)
    # Reported only: requests pass without Redis, so losing it must not take every gateway out of service.
    probes = Probes(reported={"redis": limiter.ping})
    identity = make_identity("gateway", settings)
    keys = ApiKeys(service_client(settings.upstreams.auth, identity.service, "auth"))
    proxies = routes.make_proxies(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # For what is not relayed: sockets, and what we ask the services ourselves.
        async with ClientSession(cookie_jar=DummyCookieJar(), skip_auto_headers=["User-Agent"]) as app.state.session:
            yield
        for proxy in proxies.values():
            proxy.close()
        await keys.close()
        await limiter.close()
        await tickets.close()

    app = create_service(
        "gateway",
        identity=identity,
        probes=probes,
        routers=[routes.health_router(settings, probes), _under_api(probes), routes.ticket_router(tickets)],
        lifespan=lifespan,
        middleware=[Middleware(Edge), _cors(settings)],
        direct=routes.direct_routes(proxies),
        openapi_url=None,
    )
    app.state.door = Door(identity.users, limiter, keys)
    app.router.routes += [
        routes.PlainRoute("/openapi.json", routes.Description(settings).__call__),
        *routes.page_routes(settings.bot),
        WebSocketRoute(PATH, Sockets(settings, identity.users, limiter, tickets)),
        *routes.proxy_routes(proxies),
    ]
    return app


def _under_api(probes: Probes) -> APIRouter:
    router = APIRouter(prefix="/api/v1")
    router.include_router(health_router("gateway", probes))
    return router


def _cors(settings: Settings) -> Middleware:
    origins = settings.cors_allow_origins
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        # "Everyone, with their cookies" is never what is meant: a wildcard gets no credentials.
        allow_credentials="*" not in origins,
        allow_methods=routes.METHODS,
        allow_headers=ALLOWED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        max_age=3600,
    )
