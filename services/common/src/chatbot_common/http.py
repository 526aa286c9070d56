"""Calls from one service to another: one client per callee, made at start-up, carrying our own identity."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from json import dumps, loads
from typing import Any, Self
from urllib.parse import urlencode

import httpx2
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind

from chatbot_common.answers import BrokenOff
from chatbot_common.by_httpx import ByHttpx
from chatbot_common.errors import Problem, Unavailable, UpstreamFailed
from chatbot_common.identity import SERVICE_HEADER, ServiceIdentity
from chatbot_common.upstream import Patience, Server, Unreachable, Upstream

tracer = trace.get_tracer(__name__)

PATIENCE = Patience(connect=3, silence=30)
CONNECTIONS = 100
"""To one service from one process; who finds none free waits as long as for an answer."""


class ServiceClient:
    """Of one callee. Every request carries our token for it."""

    def __init__(self, base_url: str, server: Server, identity: ServiceIdentity, callee: str) -> None:
        self.callee = callee
        self._base_url = base_url
        self._server = server
        self._identity = identity

    async def ask(self, method: str, target: str, user_token: str | None = None, body: Any = None) -> tuple[int, bytes]:
        """Status and body of the answer.

        Args:
            target: path and query.
            body: what is sent as JSON.

        Raises:
            Unavailable: the callee could not be reached in time.
        """
        headers = {SERVICE_HEADER: f"Bearer {self._identity.token(self.callee)}"}
        if user_token:
            headers["Authorization"] = f"Bearer {user_token}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        try:
            with self._asking(method, target):
                propagate.inject(headers)
                raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
                answer = await self._server.open(method, target.encode(), raw, data)
            try:
                return answer.status, b"".join([piece async for piece in answer.pieces()])
            finally:
                await self._server.leave(answer)
        except (Unreachable, BrokenOff, TimeoutError) as error:
            raise Unavailable(f"The {self.callee} service cannot be reached.") from error

    def _asking(self, method: str, target: str) -> AbstractContextManager[object]:
        """The call's span, where the trace is sampled."""
        if not trace.get_current_span().is_recording():
            return nullcontext()
        attributes = {"http.request.method": method, "url.full": self._base_url + target.partition("?")[0]}
        return tracer.start_as_current_span(method, kind=SpanKind.CLIENT, attributes=attributes)

    async def aclose(self) -> None:
        await self._server.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def service_client(
    base_url: str,
    identity: ServiceIdentity,
    callee: str,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> ServiceClient:
    """A client for one callee. `transport` lets a test put the real app behind it, in process."""
    base_url = base_url.rstrip("/")
    server: Server = (
        ByHttpx(base_url, httpx2.AsyncClient(transport=transport), PATIENCE.silence)
        if transport
        else Upstream(base_url, PATIENCE, most=CONNECTIONS)
    )
    return ServiceClient(base_url, server, identity, callee)


class UpstreamProblem(Problem):
    """A callee's own 4xx, passed on with its status, type and words."""

    def __init__(self, body: dict[str, Any], status: int) -> None:
        self.status = status
        self.kind = str(body.get("type", "")).rpartition(":")[2] or "upstream-failed"
        self.title = str(body.get("title", "The request was refused"))
        super().__init__(body.get("detail"), errors=body.get("errors", ()))


async def call(
    client: ServiceClient,
    method: str,
    path: str,
    *,
    user_token: str | None = None,
    json: Any = None,
    params: Mapping[str, str] | None = None,
) -> Any:
    """Send one request and return its JSON.

    Args:
        user_token: access token of the user on whose behalf this is; without it the callee sees only the service.

    Raises:
        UpstreamProblem: the callee answered 4xx.
        UpstreamFailed: the callee failed, or answered something unreadable.
        Unavailable: the callee could not be reached in time, or said that it cannot work right now.
    """
    target = f"{path}?{urlencode(params)}" if params else path
    status, answer = await client.ask(method, target, user_token, json)
    if status == 503:
        raise Unavailable(f"The {client.callee} service cannot work right now; try again shortly.")
    if status >= 500:
        raise UpstreamFailed(f"The {client.callee} service failed ({status}).")
    try:
        body = loads(answer) if answer else None
    except ValueError as error:
        raise UpstreamFailed(f"The {client.callee} service answered something that is not JSON.") from error
    if status >= 400:
        raise UpstreamProblem(body if isinstance(body, dict) else {}, status)
    return body
