"""Small real services to put behind the gateway, and a way to start a gateway in front of them."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from chatbot_gateway.main import create_app
from chatbot_gateway.settings import Settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from tests.support.configuration import mapping
from tests.support.identity import Keys
from tests.support.serving import in_thread, serving

ANY = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@dataclass
class Seen:
    """One request as the service behind the gateway saw it."""

    service: str
    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name} arrived {len(values)} times"
        return values[0] if values else None


@dataclass
class Upstream:
    """A service that remembers what it got; `streams` answers in steps that a test controls."""

    name: str
    keys: Keys
    seen: list[Seen] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    proceed: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    asked: Counter[str] = field(default_factory=Counter)
    """How often its health and its description were asked for."""
    healthy: bool = True

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    def app(self) -> ASGIApp:
        return Starlette(
            routes=[
                Route("/api/v1/.well-known/jwks.json", self.jwks),
                Route("/health", self.health),
                Route("/openapi.json", self.openapi),
                Route("/api/v1/chat/stream", Step(self, b"text/event-stream"), methods=ANY),
                Route("/v1/stream", Step(self, b"text/event-stream"), methods=ANY),
                Route("/api/v1/chat/download", Step(self, b"application/octet-stream"), methods=ANY),
                Route("/api/v1/chat/hang", Hang(self), methods=ANY),
                WebSocketRoute("/api/v1/chat/ws", self.socket),
                Route("/api/v1/headers", self.headers, methods=ANY),
                Route("/api/v1/teapot", self.teapot, methods=ANY),
                Route("/{path:path}", self.echo, methods=ANY),
            ]
        )

    async def jwks(self, request: Request) -> Response:
        jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": self.keys.user.public_text}
        return JSONResponse({"keys": [jwk]})

    async def health(self, _: Request) -> Response:
        self.asked["health"] += 1
        state = "ok" if self.healthy else "timeout"
        status = "ok" if self.healthy else "degraded"
        return JSONResponse({"status": status, "service": self.name, "checks": {"database": state}})

    async def openapi(self, _: Request) -> Response:
        self.asked["openapi"] += 1
        return JSONResponse(DESCRIPTIONS[self.name])

    async def echo(self, request: Request) -> Response:
        body = await request.body()
        self.seen.append(
            Seen(
                self.name,
                request.method,
                request.scope["raw_path"].decode().removeprefix(f"/{self.name}"),
                request.url.query,
                [(key.decode(), value.decode()) for key, value in request.scope["headers"]],
                body,
            )
        )
        return JSONResponse({"service": self.name})

    async def socket(self, websocket: WebSocket) -> None:
        """Tells the headers it got, then repeats each frame; told `4409 why`, it closes with that."""
        await websocket.accept()
        self.asked["socket"] += 1
        await websocket.send_json(dict(websocket.headers.items()))
        try:
            async for text in websocket.iter_text():
                code, _, reason = text.partition(" ")
                if code.isdigit():
                    return await websocket.close(int(code), reason)
                await websocket.send_text(text)
        finally:
            self.closed.set()

    async def headers(self, request: Request) -> Response:
        response = JSONResponse({}, headers={"ETag": '"1"', "X-Frame-Options": "ALLOWALL", "Keep-Alive": "timeout=9"})
        response.headers["Access-Control-Allow-Origin"] = "https://evil.example"
        response.set_cookie("one", "1")
        response.set_cookie("two", "2")
        return response

    async def teapot(self, _: Request) -> Response:
        return JSONResponse({"type": "urn:chatbot:problem:teapot", "status": 418}, 418)


@dataclass
class Step:
    """Sends one chunk, waits for `proceed`, sends another. Told `?break`, it dies in between."""

    upstream: Upstream
    kind: bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        while message.get("more_body"):
            message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", self.kind)]})
        await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
        if scope["query_string"] == b"break":
            raise ConnectionAbortedError("told to break")
        gone = asyncio.create_task(receive())
        go = asyncio.create_task(self.upstream.proceed.wait())
        await asyncio.wait({gone, go}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            self.upstream.closed.set()
        for task in (gone, go):
            task.cancel()
        await send({"type": "http.response.body", "body": b"data: second\n\n"})


@dataclass
class Hang:
    """Says nothing until the caller has gone."""

    upstream: Upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.upstream.started.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        self.upstream.closed.set()


@dataclass
class Platform:
    """A gateway and the services behind it."""

    url: str
    client: httpx2.AsyncClient
    keys: Keys
    services: dict[str, Upstream]

    @property
    def last(self) -> Seen:
        """The newest request any service saw."""
        (last,) = [service.last for service in self.services.values() if service.seen][-1:]
        return last

    @property
    def reached(self) -> int:
        """How many requests any service saw."""
        return sum(len(service.seen) for service in self.services.values())


def settings(keys: Keys, redis_url: str, urls: dict[Any, str], **changed: Any) -> Settings:
    """Settings of a gateway as a real resource would make them."""
    told = mapping("gateway", keys, urls)
    return Settings.model_validate(told | {"redis_url": redis_url} | changed)


def _services(keys: Keys) -> tuple[dict[str, Upstream], Starlette]:
    """Three services and one server for all of them, because each would cost a test a fifth of a second."""
    services = {name: Upstream(name, keys) for name in ("auth", "chat", "conversation")}
    return services, Starlette(routes=[Mount(f"/{name}", service.app()) for name, service in services.items()])


@dataclass
class Shared:
    """A platform that outlives a test, in threads of its own. Not for `Step` and `Hang`: their events are not."""

    url: str
    keys: Keys
    services: dict[str, Upstream]

    @asynccontextmanager
    async def visit(self) -> AsyncIterator[Platform]:
        """The platform as one test sees it: nothing was sent to any service yet."""
        for service in self.services.values():
            service.seen.clear()
        async with httpx2.AsyncClient(base_url=self.url, timeout=10) as client:
            yield Platform(self.url, client, self.keys, self.services)


@contextmanager
def shared(keys: Keys, redis_url: str, **changed: Any) -> Iterator[Shared]:
    """A gateway over three services that echo, for many tests. `changed` replaces settings."""
    services, behind = _services(keys)
    with in_thread(behind) as base:
        urls = {name: f"{base}/{name}" for name in services}
        with in_thread(create_app(settings(keys, redis_url, urls, **changed))) as url:
            yield Shared(url, keys, services)


@asynccontextmanager
async def platform(keys: Keys, redis_url: str, auth_url: str | None = None, **changed: Any) -> AsyncIterator[Platform]:
    """A gateway over three services that echo, for one test. `changed` replaces settings, `auth_url` auth."""
    services, behind = _services(keys)
    async with serving(behind) as base:
        urls = {name: f"{base}/{name}" for name in services} | ({"auth": auth_url} if auth_url else {})
        async with gateway(keys, redis_url, urls, **changed) as (url, client):
            yield Platform(url, client, keys, services)


@asynccontextmanager
async def gateway(
    keys: Keys, redis_url: str, urls: dict[Any, str], **changed: Any
) -> AsyncIterator[tuple[str, httpx2.AsyncClient]]:
    """A gateway alone, and a client for it."""
    told = settings(keys, redis_url, urls, **changed)
    async with (
        serving(create_app(told), trusted_proxies=told.trusted_proxies) as url,
        httpx2.AsyncClient(base_url=url, timeout=10) as client,
    ):
        yield url, client


def problem(response: httpx2.Response) -> dict[str, Any]:
    """The problem document of a response."""
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = json.loads(response.content)
    assert found["status"] == response.status_code
    return found


def _description(path: str, schema: dict[str, Any], **extra: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Item"}}}
    operation = {"operationId": path, "responses": {"200": {"description": "ok", "content": content}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "x", "version": "1"},
        "paths": {path: {"post": operation}, "/health": {"get": operation}} | extra,
        "components": {"schemas": {"Item": schema, "Secret": {"type": "string"}}},
    }


_INTERNAL = {"/internal/turns": {"post": {"x": {"$ref": "#/components/schemas/Secret"}, "responses": {}}}}
DESCRIPTIONS = {
    "auth": _description("/api/v1/auth/login", {"type": "object", "title": "auth's"}),
    "chat": _description("/api/v1/chat/send", {"type": "object", "title": "chat's"}),
    "conversation": _description("/api/v1/conversations", {"type": "object", "title": "auth's"}, **_INTERNAL),
}
