"""What every answer carries, whoever wrote it: request id, security headers, our own share of the time.

Outermost of our middleware, so that it also sees the answers of CORS, of static files and of a crash.
"""

import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from chatbot_common.errors import Problem, problem_response
from chatbot_common.ids import uuid7
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatbot_gateway.headers import RawHeaders

T = TypeVar("T")

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
EXCHANGE = "chatbot.exchange"

SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "X-XSS-Protection": "0",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
}
_SECURITY = [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


@dataclass
class Exchange:
    """One request and its answer, as the parts of the gateway share it."""

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    elsewhere: float = 0.0
    """Seconds spent waiting for the client's body or for a service: not our doing."""
    headers: dict[str, str] = field(default_factory=dict)
    """Added to the answer, whatever it is."""
    answered: bool = False
    """The first line of the answer is out; nothing can be taken back."""

    async def awaits(self, waiting: Awaitable[T]) -> T:
        """Await something that is not our own work, and say so."""
        started = time.perf_counter()
        try:
            return await waiting
        finally:
            self.elsewhere += time.perf_counter() - started


def exchange(scope: Scope) -> Exchange:
    found: Exchange = scope[EXCHANGE]
    return found


class Edge:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._log = structlog.get_logger(__name__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        current = scope[EXCHANGE] = Exchange(_request_id(scope))
        structlog.contextvars.bind_contextvars(request_id=current.request_id)

        async def finish(message: Message) -> None:
            if message["type"] == "http.response.start":
                current.answered = True
                message["headers"] = _complete(message["headers"], scope, current)
            await send(message)

        try:
            await self._app(scope, receive, finish)
        except Exception as error:
            if current.answered:
                raise
            self._log.error("unhandled error", exc_info=error)
            await problem_response(scope["path"], Problem())(scope, receive, finish)


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
    return given if REQUEST_ID.fullmatch(given) else str(uuid7())


def _complete(headers: RawHeaders, scope: Scope, current: Exchange) -> list[tuple[bytes, bytes]]:
    """The answer's headers with those of ours, which replace any of the same name."""
    own = max(0.0, time.perf_counter() - current.started - current.elsewhere)
    said = [(name.lower().encode(), value.encode("latin-1")) for name, value in current.headers.items()]
    said += _SECURITY
    said.append((b"x-request-id", current.request_id.encode()))
    if scope["scheme"] == "https":
        said.append(_HSTS)
    replaced = {name for name, _ in said}
    kept = [item for item in headers if item[0] not in replaced]
    if scope["path"].startswith(("/api/", "/v1/")) and all(name != b"cache-control" for name, _ in kept):
        kept.append((b"cache-control", b"no-store"))
    return [*kept, *said, (b"server-timing", f"gw;dur={own * 1000:.1f}".encode())]
