"""What the gateway answers itself: the web page, the API's description, and how everything is.

All other routes go to a service; `proxy_routes` says which.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from chatbot_common.app import Probes
from chatbot_common.direct import Direct
from chatbot_common.errors import Forbidden
from chatbot_common.identity import bearer
from fastapi import APIRouter, Request, Response
from starlette.responses import FileResponse, HTMLResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from chatbot_gateway.api_keys import NO_KEYS, PREFIX
from chatbot_gateway.body import Bounds
from chatbot_gateway.edge import exchange
from chatbot_gateway.openapi import Document, joined
from chatbot_gateway.proxy import SEND_PATH, Proxy
from chatbot_gateway.remembered import Remembered
from chatbot_gateway.schema import Health, ServiceHealth, Ticket
from chatbot_gateway.service import EXCEPTIONS, PREFIXES, SERVICES, Door, ServiceName
from chatbot_gateway.settings import Settings
from chatbot_gateway.tickets import TICKET_SECONDS, Tickets

STATIC = Path(__file__).parent / "static"
# Only its files are used: Swagger UI as a wheel, so that the documentation works without a CDN.
SWAGGER = Path((find_spec("fastapi_offline") or STATIC).origin or "").parent / "static"  # type: ignore[union-attr]
SWAGGER_FILES = ("swagger-ui-bundle.js", "swagger-ui.css")
HEALTH_SECONDS = ClientTimeout(total=3)  # a service itself gives each of its dependencies 2 s
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# For how long an answer is remembered: anyone may ask, and each answer costs every service a call.
HEALTH_KEPT_SECONDS = 1.0
DESCRIPTION_KEPT_SECONDS = 60.0
INCOMPLETE_KEPT_SECONDS = 5.0


class _Labelled(BaseRoute):
    """Tells our metrics which route it was; FastAPI does so only for its own kind."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        await super().handle(scope, receive, send)


class PlainRoute(_Labelled, Route):
    """A route outside FastAPI: a proxy or a file."""


class PlainMount(_Labelled, Mount):
    """A folder of files."""


def make_proxies(settings: Settings) -> dict[ServiceName, Proxy]:
    bounds = Bounds(settings.max_body_bytes, settings.body_pause_seconds, settings.body_seconds)
    return {name: Proxy(name, getattr(settings.upstreams, name), bounds) for name in SERVICES}


def direct_routes(proxies: Mapping[ServiceName, Proxy]) -> dict[tuple[str, str], Direct]:
    """Those of the table below that are asked most."""
    return {
        ("POST", "/v1/chat/completions"): Direct(proxies["chat"], "/v1/{path:path}"),
        ("POST", SEND_PATH): Direct(proxies["chat"], "/api/v1/chat/{path:path}"),
    }


def proxy_routes(proxies: Mapping[ServiceName, Proxy]) -> list[BaseRoute]:
    """The routing table. Order matters: the first that fits wins."""
    exceptions = [(path, name, [method]) for method, path, name in EXCEPTIONS]
    prefixes = [(prefix + rest, name, METHODS) for prefix, name in PREFIXES for rest in ("", "/{path:path}")]
    return [
        PlainRoute(path, proxies[name], methods=methods, include_in_schema=False)
        for path, name, methods in [*exceptions, *prefixes]
    ]


def page_routes(bot: str) -> list[BaseRoute]:
    """The web page and the interactive documentation; revalidated on every load, because nothing is fingerprinted."""
    return [
        PlainRoute("/", _page("index.html", bot)),
        PlainRoute("/docs", _page("docs.html", bot)),
        PlainRoute("/favicon.ico", _file(STATIC / "icon.svg")),
        *(PlainRoute(f"/docs/{name}", _file(SWAGGER / name)) for name in SWAGGER_FILES),
        PlainMount("/static", _Revalidated(directory=STATIC)),
    ]


def _page(name: str, bot: str) -> Any:
    """A page with the bot's name in it: `help-desk` is shown as `Help desk`."""
    shown = escape(bot.replace("-", " ").capitalize())
    text = (STATIC / name).read_text().replace("%BOT%", shown)
    headers = {"Cache-Control": "no-cache", "ETag": f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'}

    async def endpoint(_: Request) -> Response:
        return HTMLResponse(text, headers=headers)

    return endpoint


def _file(path: Path) -> Any:
    async def endpoint(_: Request) -> Response:
        return FileResponse(path, headers={"Cache-Control": "no-cache"})

    return endpoint


class _Revalidated(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def ticket_router(tickets: Tickets) -> APIRouter:
    """`POST /chat/ws-ticket`: here and not in chat, because whoever opens a socket has to be known at this door."""
    router = APIRouter(prefix="/api/v1/chat", tags=["chat"])

    @router.post("/ws-ticket", status_code=201)
    async def ws_ticket(request: Request) -> Ticket:
        """A ticket that opens one socket: `GET /api/v1/chat/ws?ticket=…`, within 30 seconds, once."""
        door: Door = request.app.state.door
        await door.admit(request.scope, exchange(request.scope))
        token = bearer(request.headers.get("authorization")) or ""
        if token.startswith(PREFIX):
            raise Forbidden(NO_KEYS)
        return Ticket(ticket=await tickets.issue(token), expires_in=TICKET_SECONDS)

    return router


def health_router(settings: Settings, probes: Probes) -> APIRouter:
    """`GET /health/all`: every service's own `/health` at once. 200 when all is well, else 503."""
    router = APIRouter(tags=["health"])
    remembered = Remembered[dict[str, ServiceHealth]]()

    @router.get("/health/all", responses={503: {"model": Health}})
    @router.get("/api/v1/health/all", responses={503: {"model": Health}})
    async def health_all(request: Request, response: Response) -> Health:
        async def fetch() -> tuple[dict[str, ServiceHealth], float]:
            return await _health_of_all(request.app.state.session, settings, probes), HEALTH_KEPT_SECONDS

        services = await remembered.get(fetch)
        well = all(service.status == "ok" for service in services.values())
        response.status_code = 200 if well else 503
        return Health(status="ok" if well else "degraded", services=services)

    return router


async def _health_of_all(session: ClientSession, settings: Settings, probes: Probes) -> dict[str, ServiceHealth]:
    upstreams = settings.upstreams.model_dump()
    own, others = await asyncio.gather(
        probes.run_all(), asyncio.gather(*(_health_of(session, url) for url in upstreams.values()))
    )
    well = all(state == "ok" for state in own.values())
    gateway = ServiceHealth(status="ok" if well else "degraded", checks=own)
    return {"gateway": gateway} | dict(zip(upstreams, others, strict=True))


async def _health_of(session: ClientSession, url: str) -> ServiceHealth:
    try:
        async with session.get(f"{url}/health", timeout=HEALTH_SECONDS) as answer:
            found: Any = await answer.json(content_type=None)
            return ServiceHealth(status=found["status"], checks=found["checks"])
    except (ClientError, TimeoutError):
        return ServiceHealth(status="unreachable")
    except (ValueError, KeyError, TypeError):
        return ServiceHealth(status="failing")


class Description:
    """`GET /openapi.json`: remembered for a minute; for seconds only while a service is missing."""

    def __init__(self, settings: Settings) -> None:
        self._upstreams = settings.upstreams.model_dump()
        self._title = settings.bot
        self._remembered = Remembered[bytes]()

    async def __call__(self, request: Request) -> Response:
        body = await self._remembered.get(lambda: self._joined(request))
        return Response(body, media_type="application/json")

    async def _joined(self, request: Request) -> tuple[bytes, float]:
        found = await asyncio.gather(
            *(_description_of(request.app.state.session, url) for url in self._upstreams.values())
        )
        services = {name: document for name, document in zip(self._upstreams, found, strict=True) if document}
        missing = [name for name in self._upstreams if name not in services]
        document = joined(self._title, request.app.openapi(), services, missing)
        kept = INCOMPLETE_KEPT_SECONDS if missing else DESCRIPTION_KEPT_SECONDS
        return json.dumps(document).encode(), kept


async def _description_of(session: ClientSession, url: str) -> Document | None:
    try:
        async with session.get(f"{url}/openapi.json", timeout=HEALTH_SECONDS) as answer:
            found: Any = await answer.json(content_type=None)
            return found if answer.status == 200 and isinstance(found, dict) else None
    except (ClientError, TimeoutError, ValueError):
        return None
