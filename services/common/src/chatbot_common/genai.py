"""OpenTelemetry's conventions for generative AI: the one place that knows their names.

They are still being developed. These are of version 1.41, the last that was published; what has been renamed since is
not in a release yet, and a rename there will be one here. Prometheus writes `_` for a dot, and a unit behind the name.
Nothing that was said is in any of them, and no label is one that people or providers can choose: models and addresses
come from the resource.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, get_current_span, use_span
from prometheus_client import Histogram

_OPERATION = (
    *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
    *("server_address", "server_port"),
)
_BOUNDS = tuple(0.01 * 2**step for step in range(14))
_PORTS = {"http": 80, "https": 443}

OPERATION_SECONDS = Histogram(
    "gen_ai_client_operation_duration_seconds",
    "Time from asking a model to the end of its answer",
    (*_OPERATION, "error_type"),
    buckets=_BOUNDS,
)
FIRST_CHUNK_SECONDS = Histogram(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "Time from asking a model to the first chunk of an answer that streams",
    _OPERATION,
    buckets=_BOUNDS,
)
TOKENS = Histogram(
    "gen_ai_client_token_usage",
    "Tokens of one answer, as its provider counted them",
    (*_OPERATION, "gen_ai_token_type"),
    buckets=tuple(4**step for step in range(14)),
)
AGENT_SECONDS = Histogram(
    "gen_ai_invoke_agent_duration_seconds",
    "Time from the start of a turn to its end",
    ("gen_ai_agent_name", "error_type"),
    buckets=tuple(0.1 * 2**step for step in range(13)),
)
TOOL_SECONDS = Histogram(
    "gen_ai_execute_tool_duration_seconds",
    "Time that a call of a tool took",
    ("gen_ai_tool_name", "error_type"),
    buckets=_BOUNDS,
)


@dataclass(frozen=True)
class Operation:
    """What is asked of which model: the attributes of a span and the labels of metrics, made once.

    Args:
        provider: the protocol by which it is asked.
        model: as the provider calls it.
        url: where; None inside of this process.
    """

    name: str
    provider: str
    model: str
    url: str | None = None

    @cached_property
    def server(self) -> tuple[str, int] | None:
        parts = urlsplit(self.url or "")
        return (parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)) if parts.hostname else None

    @cached_property
    def labels(self) -> tuple[str, ...]:
        address, port = self.server or ("", "")
        return (self.name, self.provider, self.model, address, str(port))

    @cached_property
    def attributes(self) -> dict[str, Any]:
        told = {
            "gen_ai.operation.name": self.name,
            "gen_ai.provider.name": self.provider,
            "gen_ai.request.model": self.model,
        }
        where = dict(zip(("server.address", "server.port"), self.server, strict=True)) if self.server else {}
        return told | where

    def start(self, tracer: Tracer, **more: str) -> Span:
        """A span that its starter ends; in a trace that is not sampled the one that is there, which nobody sees."""
        current = get_current_span()
        if current.get_span_context().is_valid and not current.is_recording():
            return current
        return tracer.start_span(
            f"{self.name} {self.model}", kind=SpanKind.CLIENT, attributes={**self.attributes, **more}
        )

    @contextlib.contextmanager
    def measured(self, tracer: Tracer) -> Iterator[Span]:
        """A block that is one such operation."""
        started, failure, span = perf_counter(), "", self.start(tracer)
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except Exception as error:
                failure = failed(span, error)
                raise
            finally:
                OPERATION_SECONDS.labels(*self.labels, failure).observe(perf_counter() - started)


@contextlib.contextmanager
def traced(tracer: Tracer, name: str, attributes: Mapping[str, str]) -> Iterator[Span]:
    """A block that is one span."""
    span = tracer.start_span(name, attributes=attributes)
    with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except Exception as error:
            failed(span, error)
            raise


def failed(span: Span, error: BaseException | str) -> str:
    """Mark the span, never with the error's words: they may quote. Returns the kind of error."""
    kind = error if isinstance(error, str) else str(getattr(error, "kind", type(error).__name__))
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
    return kind
