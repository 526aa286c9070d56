"""Calls from one service to another: one client per callee, made at start-up, carrying our own identity."""

from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit

import httpx2
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind

from chatbot_common.answers import BrokenOff, Connection
from chatbot_common.errors import Problem, Unavailable, UpstreamFailed
from chatbot_common.identity import SERVICE_HEADER, ServiceIdentity
from chatbot_common.upstream import Patience, Unconnected, Unreachable, Upstream

tracer = trace.get_tracer(__name__)

PATIENCE = Patience(connect=3, silence=30)
CONNECTIONS = 100
"""To one service from one process; who finds none free waits as long as for an answer."""


class UpstreamTransport(httpx2.AsyncBaseTransport):
    """httpx2 over our own client: its own transport takes five times the CPU of everything else in a call."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._base = httpx2.URL(upstream.base_url)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if (request.url.scheme, request.url.netloc) != (self._base.scheme, self._base.netloc):
            raise httpx2.UnsupportedProtocol("this client is for one server")
        stack = AsyncExitStack()
        with _asking(request), _worded():
            headers = [(name.lower(), value) for name, value in request.headers.raw if name.lower() not in _CLIENTS]
            asked = self._upstream.ask(request.method, request.url.raw_path, headers, await request.aread() or None)
            answer = await stack.enter_async_context(asked)
        return httpx2.Response(answer.status, headers=answer.headers, stream=_Body(answer, stack))

    async def aclose(self) -> None:
        self._upstream.close()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: Connection, stack: AsyncExitStack) -> None:
        self._answer = answer
        self._stack = stack

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _worded():
            async for piece in self._answer.pieces():
                yield piece

    async def aclose(self) -> None:
        await self._stack.aclose()


@contextmanager
def _worded() -> Iterator[None]:
    """Failures in httpx2's words."""
    try:
        yield
    except Unconnected as error:
        raise httpx2.ConnectTimeout("no connection was made in time") from error
    except Unreachable as error:
        raise httpx2.ConnectError("no connection could be made") from error
    except TimeoutError as error:
        raise httpx2.ReadTimeout("nothing came in time") from error
    except BrokenOff as error:
        raise httpx2.RemoteProtocolError("the answer broke off") from error


_CLIENTS = (b"host", b"content-length", b"transfer-encoding", b"connection")


@contextmanager
def _asking(request: httpx2.Request) -> Iterator[None]:
    """The call's span, where the trace is sampled, and the trace among its headers."""
    with _span(request) if trace.get_current_span().is_recording() else nullcontext():
        propagate.inject(request.headers)
        yield


def _span(request: httpx2.Request) -> AbstractContextManager[object]:
    attributes = {"http.request.method": request.method, "url.full": str(request.url.copy_with(query=None))}
    return tracer.start_as_current_span(request.method, kind=SpanKind.CLIENT, attributes=attributes)


class ServiceAuth(httpx2.Auth):
    """Adds this service's token for one callee to every request."""

    def __init__(self, identity: ServiceIdentity, callee: str) -> None:
        self._identity = identity
        self.callee = callee

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers[SERVICE_HEADER] = f"Bearer {self._identity.token(self.callee)}"
        yield request


def service_client(
    base_url: str,
    identity: ServiceIdentity,
    callee: str,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> httpx2.AsyncClient:
    """A client for one callee. `transport` lets a test put the real app behind it, in process."""
    return httpx2.AsyncClient(
        base_url=base_url,
        auth=ServiceAuth(identity, callee),
        transport=transport or UpstreamTransport(Upstream(origin(base_url), PATIENCE, most=CONNECTIONS)),
    )


def origin(base_url: str) -> str:
    """httpx2 puts the path before that of the request itself."""
    return base_url.removesuffix(urlsplit(base_url).path)


class UpstreamProblem(Problem):
    """A callee's own 4xx, passed on with its status, type and words."""

    def __init__(self, body: dict[str, Any], status: int) -> None:
        self.status = status
        self.kind = str(body.get("type", "")).rpartition(":")[2] or "upstream-failed"
        self.title = str(body.get("title", "The request was refused"))
        super().__init__(body.get("detail"), errors=body.get("errors", ()))


async def call(
    client: httpx2.AsyncClient, method: str, path: str, *, user_token: str | None = None, **kwargs: Any
) -> Any:
    """Send one request and return its JSON.

    Args:
        user_token: access token of the user on whose behalf this is; without it the callee sees only the service.

    Raises:
        UpstreamProblem: the callee answered 4xx.
        UpstreamFailed: the callee failed, or answered something unreadable.
        Unavailable: the callee could not be reached in time, or said that it cannot work right now.
    """
    callee = client.auth.callee if isinstance(client.auth, ServiceAuth) else "other"
    headers = {"Authorization": f"Bearer {user_token}"} if user_token else {}
    try:
        response = await client.request(method, path, headers=headers, **kwargs)
    except httpx2.TransportError as error:
        raise Unavailable(f"The {callee} service cannot be reached.") from error
    if response.status_code == 503:
        raise Unavailable(f"The {callee} service cannot work right now; try again shortly.")
    if response.status_code >= 500:
        raise UpstreamFailed(f"The {callee} service failed ({response.status_code}).")
    try:
        body = response.json() if response.content else None
    except ValueError as error:
        raise UpstreamFailed(f"The {callee} service answered something that is not JSON.") from error
    if response.is_error:
        raise UpstreamProblem(body if isinstance(body, dict) else {}, response.status_code)
    return body
