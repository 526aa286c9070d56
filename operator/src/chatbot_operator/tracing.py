"""One span per reconcile that did something, over OTLP/HTTP; where the operator is told of no receiver, none.

Whether a reconcile does something is known at its end, so spans are made then, with the times that were noted. They
carry names, numbers and kinds of errors. What an object says is in none of them.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from opentelemetry import trace
from opentelemetry.trace import NoOpTracerProvider, Tracer, TracerProvider

from chatbot_operator.history import operator_version
from chatbot_operator.settings import Settings

NAME = "chatbot-operator"
EXPORT_SECONDS = 5
FLUSH_SECONDS = 2.0


@dataclass(frozen=True)
class Part:
    """A step of plan.py that wrote. Times are nanoseconds since 1970."""

    name: str
    writes: int
    began: int
    ended: int = field(default_factory=time.time_ns)


def provider(settings: Settings, identity: str) -> TracerProvider:
    """
    Args:
        identity: the pod's name.
    """
    if not settings.otlp_endpoint:
        return NoOpTracerProvider()
    # Imported here: who sends no traces need not carry what sends them.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider as Sending
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about = {"service.name": NAME, "service.version": operator_version(), "service.instance.id": identity}
    made = Sending(resource=Resource.create(about), shutdown_on_exit=False)
    url = settings.otlp_endpoint.rstrip("/") + "/v1/traces"
    exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_SECONDS)
    made.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    return made


def tell(
    tracer: Tracer, namespace: str, bot: str, result: str, writes: int, began: int, parts: Sequence[Part] = ()
) -> None:
    """The span of a reconcile that has just ended, with one below it for each step that wrote.

    Args:
        result: as the metric of reconciles has it; `error` marks the span as failed.
        began: nanoseconds since 1970.
    """
    about = {"namespace": namespace, "bot": bot}
    span = tracer.start_span("reconcile", attributes={**about, "result": result, "writes": writes}, start_time=began)
    if result == "error":
        span.set_status(trace.StatusCode.ERROR)
    within = trace.set_span_in_context(span)
    for part in parts:
        child = tracer.start_span(part.name, within, attributes={**about, "writes": part.writes}, start_time=part.began)
        child.end(part.ended)
    span.end()


def close(sending: TracerProvider) -> None:
    """Send what is left. A receiver that does not answer holds nobody up: the thread ends with the process."""
    if shutdown := getattr(sending, "shutdown", None):
        last = threading.Thread(target=shutdown, daemon=True)
        last.start()
        last.join(FLUSH_SECONDS)
