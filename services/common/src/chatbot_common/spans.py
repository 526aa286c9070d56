"""What leaves with a span: names, numbers, times, kinds of errors. Never what somebody said, nor who they are.

Libraries add more than we do: the words of exceptions, which quote (Postgres names the row that is there twice), whole
addresses, whose paths and queries hold what people and models look for and the secrets of links, and from where people
come. It is left behind here, in the exporter's thread: a request does not wait for it.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status
from opentelemetry.util.types import Attributes

_ADDRESSES = ("url.full", "http.url")
_WORDS = ("url.path", "url.query", "http.target")
_WHENCE = ("client.address", "client.port", "network.peer.address", "network.peer.port", "net.peer.ip", "net.peer.port")


class Discreet(SpanExporter):
    """Another exporter, which is told no more than it may."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_told(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _told(span: ReadableSpan) -> ReadableSpan:
    """Without its events, which are exceptions."""
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_kept(span.attributes, span.kind),
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _kept(attributes: Attributes, kind: SpanKind) -> Attributes:
    left_out = _WORDS + (_WHENCE if kind is SpanKind.SERVER else ())
    kept: dict[str, Any] = {name: value for name, value in (attributes or {}).items() if name not in left_out}
    return kept | {name: _origin(str(kept[name])) for name in _ADDRESSES if name in kept}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
