"""A real OTLP/HTTP receiver: spans arrive as protobuf over a socket, as any collector would get them."""

import asyncio
import gzip
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.patience import within


@dataclass(frozen=True)
class ReceivedSpan:
    """`kind` is OTLP's: 1 internal, 2 server, 3 client."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str]
    words: list[str]
    """Of its status and its events, such as exceptions."""


@dataclass
class OtlpReceiver:
    spans: list[ReceivedSpan] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/traces", self._receive, methods=["POST"])])

    async def _receive(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            for scope in resource.scope_spans:
                self.spans += [
                    ReceivedSpan(
                        service=service,
                        name=span.name,
                        kind=span.kind,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        attributes={a.key: _text(a.value) for a in span.attributes},
                        words=[word for word in (span.status.message, *map(str, span.events)) if word],
                    )
                    for span in scope.spans
                ]
        return Response(b"", media_type="application/x-protobuf")

    def trace(self, trace_id: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.trace_id == trace_id]

    async def wait_for(self, trace_id: str, services: set[str], seconds: float = 15) -> list[ReceivedSpan]:
        """Spans of the trace, once every service has reported some and no more come for a second."""
        async with within(seconds):
            count = -1
            while {span.service for span in self.trace(trace_id)} < services or count != len(self.trace(trace_id)):
                count = len(self.trace(trace_id))
                await asyncio.sleep(1.2)
        return self.trace(trace_id)


def _text(value: AnyValue) -> str:
    """Numbers too."""
    kind = value.WhichOneof("value")
    return str(getattr(value, kind)) if kind else ""
