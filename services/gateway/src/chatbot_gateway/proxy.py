"""The streaming relay: one request to one service and its answer back, byte by byte, as soon as bytes arrive.

A plain ASGI app: a framework's request and response objects would cost more than the relay itself. When the client
goes, the service's stream is closed in the same moment; whether the work goes on is the service's decision.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar
from aiohttp import TCPConnector as Connector
from chatbot_common.errors import Problem, Unavailable, UpstreamFailed
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from prometheus_client import Counter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from chatbot_gateway.body import METHODS_WITH_BODY, Body, Bounds, ClientGone, parse, with_message_id
from chatbot_gateway.edge import Exchange, exchange
from chatbot_gateway.headers import to_client, to_upstream
from chatbot_gateway.service import Door, ServiceName

UPSTREAM_ERRORS = Counter("gateway_upstream_errors_total", "Requests a service failed to answer", ["service", "kind"])

# No limit on the whole: an answer may stream for many minutes. Silence is limited: streams send a comment every 15 s,
# and an answer that comes in one piece is as old as its turn may get.
TIMEOUT = ClientTimeout(total=None, sock_connect=5, sock_read=300)
CLIENT_LEFT = 499  # nobody reads it; it keeps logs and metrics from calling a closed tab our failure
SEND_PATH = "/api/v1/chat/send"
# httpx2 and browsers say what they accept themselves; aiohttp must not speak for them.
NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")

log = structlog.get_logger(__name__)


def open_session() -> ClientSession:
    """The client all requests to services share; it keeps the answer's bytes as they are."""
    return ClientSession(
        # Shorter than the services' own keep-alive, so that a connection is not closed while we pick it up again.
        connector=Connector(limit=0, ttl_dns_cache=10, keepalive_timeout=30),
        timeout=TIMEOUT,
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=NOT_ADDED,
        trace_configs=[create_trace_config(url_filter=_without_query)],
    )


def _without_query(url: URL) -> str:
    return str(url.with_query(None))


class Proxy:
    """ASGI app of the routes that belong to one service."""

    def __init__(self, service: ServiceName, base_url: str, bounds: Bounds) -> None:
        self._service = service
        self._base = base_url.rstrip("/")
        self._bounds = bounds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        current = exchange(scope)
        door: Door = scope["app"].state.door
        await door.admit(scope, current)
        body = Body(Headers(scope=scope), receive, self._bounds)
        try:
            data = await self._body(scope, body, current)
            await _unless_gone(self._relay(scope, body, data, send), body)
        except ClientGone:
            if not current.answered:
                await Response(status_code=CLIENT_LEFT)(scope, receive, send)

    async def _body(self, scope: Scope, body: Body, current: Exchange) -> bytes | AsyncIterator[bytes] | None:
        """What to send on: checked JSON, or a stream of anything else.

        Raises:
            BodyTooLarge, RequestTimeout, MalformedBody, ClientGone
        """
        if scope["method"] not in METHODS_WITH_BODY:
            await _timed(body.read(), current)
            return None
        if not body.is_json:
            return body.chunks()
        raw = await _timed(body.read(), current)
        if not raw:
            return None
        value = parse(raw)
        # An Idempotency-Key names the message as well.
        named = scope["path"] != SEND_PATH or "idempotency-key" in body.headers
        return raw if named else with_message_id(raw, value)

    async def _relay(self, scope: Scope, body: Body, data: Any, send: Send) -> None:
        async with self._answer(scope, body, data) as answer:
            start: Message = {
                "type": "http.response.start",
                "status": answer.status,
                "headers": to_client(answer.raw_headers),
            }
            await send(start)
            try:
                async for chunk in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except (ClientError, TimeoutError) as error:
                last = self._broken_off(scope, answer, error)
            else:
                last = b""
            await send({"type": "http.response.body", "body": last})

    @asynccontextmanager
    async def _answer(self, scope: Scope, body: Body, data: Any) -> AsyncIterator[ClientResponse]:
        """The service's answer, its connection closed afterwards unless it was read to its end."""
        current = exchange(scope)
        session: ClientSession = scope["app"].state.session
        headers = to_upstream(scope, current.request_id)
        length = body.headers.get("content-length")
        if data is not None and not isinstance(data, bytes) and length is not None:
            headers.append(("Content-Length", length))
        try:
            answer = await _timed(
                session.request(scope["method"], self._url(scope), headers=headers, data=data, allow_redirects=False),
                current,
            )
        except (ClientError, TimeoutError) as error:
            raise body.problem or self._unanswered(error) from error
        try:
            yield answer
        finally:
            if answer.content.at_eof():
                answer.release()
            else:
                answer.close()

    def _url(self, scope: Scope) -> URL:
        query = scope["query_string"].decode("latin-1")
        path = scope["raw_path"].decode("latin-1")
        # Encoded already: normalising could make another path of the one that was checked.
        return URL(self._base + path + ("?" + query if query else ""), encoded=True)

    def _unanswered(self, error: Exception) -> Problem:
        UPSTREAM_ERRORS.labels(self._service, "unreachable").inc()
        log.warning("service did not answer", service=self._service, error=type(error).__name__)
        if isinstance(error, ClientConnectorError):
            return Unavailable(f"The {self._service} service cannot be reached; try again shortly.")
        if isinstance(error, TimeoutError):
            return UpstreamFailed(f"The {self._service} service did not answer in time.")
        return UpstreamFailed(f"The {self._service} service broke off before it answered.")

    def _broken_off(self, scope: Scope, answer: ClientResponse, error: Exception) -> bytes:
        """Last bytes of a stream whose service died: an error event where there are events.

        Raises:
            error: anything else ends torn, so that the client cannot take the part for the whole.
        """
        UPSTREAM_ERRORS.labels(self._service, "broken").inc()
        log.warning("service broke off its answer", service=self._service, error=type(error).__name__)
        if answer.content_type != "text/event-stream":
            raise error
        problem = UpstreamFailed(f"The {self._service} service broke off its answer.")
        if scope["path"].startswith("/v1/"):
            return b"\n\ndata: " + json.dumps(problem.as_openai()).encode() + b"\n\n"
        return (
            b"\n\nevent: error\ndata: " + json.dumps({"type": "error", "error": problem.as_json()}).encode() + b"\n\n"
        )


async def _timed(waiting: Coroutine[Any, Any, Any], current: Exchange) -> Any:
    """Await something that is not our own work, and say so."""
    started = time.perf_counter()
    try:
        return await waiting
    finally:
        current.elsewhere += time.perf_counter() - started


async def _unless_gone(relay: Coroutine[Any, Any, None], body: Body) -> None:
    """Run the relay until it ends or the client goes. Raises what the relay raised, or `ClientGone`."""
    work, gone = asyncio.ensure_future(relay), asyncio.ensure_future(body.disconnect())
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientGone
        await work
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
