"""Logs, traces and HTTP metrics, set up once per process.

Logs are JSON lines on standard output with the trace and span they belong to. Traces go out over OTLP/HTTP. Metrics
are Prometheus's, with the trace id as exemplar. Query strings, bodies and tokens are in none of them.
"""

import logging
import sys
import time
from collections.abc import Iterable, MutableMapping
from functools import lru_cache
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]  # re-exported without __all__
    BaseInstrumentor,
)
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.tracebacks import ExceptionDictTransformer

from chatbot_common.errors import current_trace_id
from chatbot_common.settings import TelemetrySettings
from chatbot_common.spans import Discreet

HTTP_REQUESTS = Counter("http_requests_total", "Requests answered", ["method", "endpoint", "status"])
HTTP_DURATION = Histogram(
    "http_request_duration_seconds",
    "Time from the request's first byte to the response's last",
    ["method", "endpoint"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
_log = structlog.get_logger("http")
QUIET = "chatbot.quiet"
"""Key in a request's scope, for calls that come by themselves every few seconds: their log line is for debugging."""


class _Output(structlog.WriteLogger):
    """Standard output; `name` is what the line says of where it comes from."""

    def __init__(self, name: str = "") -> None:
        super().__init__(sys.stdout)
        self.name = name


def configure_logging(level: str) -> None:
    """Send structlog's and the standard library's records (uvicorn's too) through one JSON renderer."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
    ]
    # Without locals: those of a frame may hold a password or a message.
    render: list[Any] = [
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(),
    ]
    # Our own lines do not pass the standard library: that would take three times as long, for every request.
    structlog.configure(
        processors=[*shared, *render],
        logger_factory=_Output,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    # One line per outgoing request or alembic step would drown what matters; our own middleware logs requests.
    for name in ("httpx2", "httpx", "alembic", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Below INFO these tell every header and frame.
    for name in ("uvicorn.error", "websockets"):
        logging.getLogger(name).setLevel(max(root.level, logging.INFO))
    logging.getLogger("uvicorn.error").addFilter(_tells_no_address)


def _tells_no_address(record: logging.LogRecord) -> bool:
    """uvicorn writes the whole address of each socket, which may hold a ticket; the gateway has its own line for it."""
    return '"WebSocket %s"' not in str(record.msg)


def _add_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"], event["span_id"] = f"{context.trace_id:032x}", f"{context.span_id:016x}"
    return event


def configure_tracing(
    service: str, bot: str, settings: TelemetrySettings, instrumentors: Iterable[BaseInstrumentor]
) -> TracerProvider:
    """Install the process's tracer provider. Without an endpoint, spans live only long enough to label logs."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.namespace": bot}),
        sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
    )
    if settings.otlp_endpoint:
        exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint.rstrip("/") + "/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(Discreet(exporter), schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=provider)
    return provider


class Unsampled:
    """ASGI middleware of a service that asks no other: no client makes spans for a request that nobody samples.

    A span that is thrown away costs as much as one that is kept until its end; a turn has thirty for its statements.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if trace.get_current_span().is_recording():
            await self._app(scope, receive, send)
            return
        with suppress_instrumentation():
            await self._app(scope, receive, send)


class HttpTelemetry:
    """ASGI middleware: one log line, one count and one duration per request, labelled with the route's template."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            record(scope, status, time.perf_counter() - started)


def record(scope: Scope, status: int, seconds: float) -> None:
    """The line, the count and the duration of a request that has ended."""
    endpoint = getattr(scope.get("route"), "path", "unmatched")
    trace_id = current_trace_id()
    exemplar = {"trace_id": trace_id} if trace_id else None
    requests, duration = _series(scope["method"], endpoint, status)
    requests.inc(exemplar=exemplar)
    duration.observe(seconds, exemplar)
    write = _log.debug if scope.get(QUIET) else _log.info
    write("request", method=scope["method"], endpoint=endpoint, status=status, ms=round(seconds * 1000, 1))


@lru_cache(maxsize=1024)
def _series(method: str, endpoint: str, status: int) -> tuple[Counter, Histogram]:
    """Looked up once: to find them by their labels costs more than to count."""
    return HTTP_REQUESTS.labels(method, endpoint, status), HTTP_DURATION.labels(method, endpoint)
