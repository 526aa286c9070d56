"""The streaming relay: one request to one service and its answer back, byte by byte, as soon as bytes arrive.

A plain ASGI app: a framework's request and response objects would cost more than the relay itself. When the client
goes, the service's stream is closed in the same moment; whether the work goes on is the service's decision.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext

import structlog
from chatbot_common.answers import BrokenOff, Connection, Data
from chatbot_common.errors import Problem, Unavailable, UpstreamFailed
from chatbot_common.leaving import CLIENT_LEFT, ClientGone, WhileThere
from chatbot_common.upstream import Patience, Unreachable, Upstream
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from prometheus_client import Counter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from chatbot_gateway.body import METHODS_WITH_BODY, Body, Bounds, parse, with_message_id
from chatbot_gateway.edge import Exchange, exchange
from chatbot_gateway.headers import to_client, to_upstream
from chatbot_gateway.service import Door, ServiceName

UPSTREAM_ERRORS = Counter("gateway_upstream_errors_total", "Requests a service failed to answer", ["service", "kind"])

# A stream says something every 15 s; an answer that comes in one piece is as old as its turn may get.
PATIENCE = Patience(connect=5, silence=300)
SEND_PATH = "/api/v1/chat/send"

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)


class Proxy:
    """ASGI app of the routes that belong to one service."""

    def __init__(self, service: ServiceName, base_url: str, bounds: Bounds) -> None:
        self._service = service
        self._base = base_url.rstrip("/")
        self._upstream = Upstream(base_url, PATIENCE)
        self._bounds = bounds

    def close(self) -> None:
        self._upstream.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        current = exchange(scope)
        door: Door = scope["app"].state.door
        await door.admit(scope, current)
        body = Body(Headers(scope=scope), receive, self._bounds)
        try:
            data = await self._body(scope, body, current)
            async with WhileThere(body.disconnect):
                await self._relay(scope, body, data, send)
        except ClientGone:
            if not current.answered:
                await Response(status_code=CLIENT_LEFT)(scope, receive, send)

    async def _body(self, scope: Scope, body: Body, current: Exchange) -> Data:
        """What to send on: checked JSON, or a stream of anything else.

        Raises:
            BodyTooLarge, RequestTimeout, MalformedBody, ClientGone
        """
        if scope["method"] not in METHODS_WITH_BODY:
            await current.awaits(body.read())
            return None
        if not body.is_json:
            return body.chunks()
        raw = await current.awaits(body.read())
        if not raw:
            return None
        value = parse(raw)
        # An Idempotency-Key names the message as well.
        named = scope["path"] != SEND_PATH or "idempotency-key" in body.headers
        return raw if named else with_message_id(raw, value)

    async def _relay(self, scope: Scope, body: Body, data: Data, send: Send) -> None:
        """Read to its end, the answer leaves its connection for others."""
        answer = await self._answer(scope, body, data)
        try:
            start: Message = {
                "type": "http.response.start",
                "status": answer.status,
                "headers": to_client(answer.headers),
            }
            await send(start)
            more, last = True, b""
            try:
                async for chunk in answer.pieces():
                    more = not answer.ended
                    await send({"type": "http.response.body", "body": chunk, "more_body": more})
            except (BrokenOff, TimeoutError) as error:
                last = self._broken_off(scope, answer, error)
            if more:
                await send({"type": "http.response.body", "body": last})
        finally:
            await self._upstream.leave(answer)

    async def _answer(self, scope: Scope, body: Body, data: Data) -> Connection:
        """The service's answer, from its headers on, which somebody must leave."""
        current = exchange(scope)
        with self._span(scope):
            headers = to_upstream(scope, current.request_id)
            length = body.headers.get("content-length")
            if isinstance(data, AsyncIterator) and length is not None:
                headers.append((b"content-length", length.encode()))
            try:
                return await current.awaits(self._upstream.open(scope["method"], _target(scope), headers, data))
            except (Unreachable, BrokenOff, TimeoutError) as error:
                raise self._unanswered(error) from error

    def _span(self, scope: Scope) -> AbstractContextManager[object]:
        """Of the request until its answer begins; none where nobody would see it, as it costs as much as to send."""
        if not trace.get_current_span().is_recording():
            return nullcontext()
        attributes = {"http.request.method": scope["method"], "url.full": self._base + scope["path"]}
        return tracer.start_as_current_span(scope["method"], kind=SpanKind.CLIENT, attributes=attributes)

    def _unanswered(self, error: Exception) -> Problem:
        UPSTREAM_ERRORS.labels(self._service, "unreachable").inc()
        log.warning("service did not answer", service=self._service, error=type(error).__name__)
        if isinstance(error, TimeoutError):
            return UpstreamFailed(f"The {self._service} service did not answer in time.")
        if isinstance(error, Unreachable):
            return Unavailable(f"The {self._service} service cannot be reached; try again shortly.")
        return UpstreamFailed(f"The {self._service} service broke off before it answered.")

    def _broken_off(self, scope: Scope, answer: Connection, error: Exception) -> bytes:
        """Last bytes of a stream whose service died: an error event where there are events.

        Raises:
            error: anything else ends torn, so that the client cannot take the part for the whole.
        """
        UPSTREAM_ERRORS.labels(self._service, "broken").inc()
        log.warning("service broke off its answer", service=self._service, error=type(error).__name__)
        if not any(name == b"content-type" and b"text/event-stream" in value for name, value in answer.headers):
            raise error
        problem = UpstreamFailed(f"The {self._service} service broke off its answer.")
        if scope["path"].startswith("/v1/"):
            return b"\n\ndata: " + json.dumps(problem.as_openai()).encode() + b"\n\n"
        return (
            b"\n\nevent: error\ndata: " + json.dumps({"type": "error", "error": problem.as_json()}).encode() + b"\n\n"
        )


def _target(scope: Scope) -> bytes:
    """Path and query as they came: normalising could make another path of the one that was checked."""
    query: bytes = scope["query_string"]
    return bytes(scope["raw_path"]) + (b"?" + query if query else b"")
