"""What is measured and traced of every request to a provider, whichever protocol it speaks."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from decimal import Decimal

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from prometheus_client import Counter, Gauge, Histogram

from chatbot_chat.providers import SPEECH, ChatProvider, Finish, ModelEvent, Usage
from chatbot_chat.settings import ModelSettings

AI_REQUESTS = Counter("ai_requests_total", "Requests to model providers", ["provider", "model", "status"])
AI_SECONDS = Histogram(
    "ai_response_time_seconds",
    "Time from asking a provider to the end of its answer",
    ["provider", "model"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120),
)
AI_FIRST_TOKEN = Histogram(
    "ai_first_token_seconds",
    "Time from asking a provider to its first text",
    ["provider", "model"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
AI_TOKENS = Counter("ai_tokens_used_total", "Tokens as counted by providers", ["provider", "model", "kind"])
AI_COST = Counter("ai_cost_total", "Cost of tokens, in the currency of the resource's prices", ["provider", "model"])
AI_RESTING = Gauge("ai_provider_resting", "Whether a provider is left alone because it kept failing", ["provider"])

tracer = trace.get_tracer(__name__)

MILLION = 1_000_000


class Meter:
    """Of one request. The span is worded as OpenTelemetry's conventions for generative AI have it."""

    def __init__(self, provider: ChatProvider, model: ModelSettings, upstream_model: str) -> None:
        self._labels = (provider.name, model.name)
        self._prices = model.prices
        self._span: Span = tracer.start_span(
            f"chat {upstream_model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": provider.protocol,
                "gen_ai.request.model": upstream_model,
                "chatbot.provider": provider.name,
                "chatbot.model": model.name,
            },
        )
        self._started = time.perf_counter()
        self._silent = True

    def current(self) -> contextlib.AbstractContextManager[Span]:
        """A block whose requests belong to this one's span."""
        return trace.use_span(self._span, record_exception=False, set_status_on_exception=False)

    def heard(self, event: ModelEvent) -> None:
        if self._silent and isinstance(event, SPEECH):
            self._silent = False
            seconds = time.perf_counter() - self._started
            AI_FIRST_TOKEN.labels(*self._labels).observe(seconds)
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)
        if isinstance(event, Usage):
            self._used(event)
        if isinstance(event, Finish):
            self._span.set_attribute("gen_ai.response.finish_reasons", [event.reason])

    def _used(self, usage: Usage) -> None:
        AI_TOKENS.labels(*self._labels, "input").inc(usage.input_tokens)
        AI_TOKENS.labels(*self._labels, "output").inc(usage.output_tokens)
        self._span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
        self._span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
        if self._prices:
            cost = self._prices.input * usage.input_tokens + self._prices.output * usage.output_tokens
            AI_COST.labels(*self._labels).inc(float(cost / Decimal(MILLION)))

    def ended(self, status: str, error: BaseException | None = None) -> None:
        if error is not None:
            self._span.set_attribute("error.type", getattr(error, "kind", type(error).__name__))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        AI_REQUESTS.labels(*self._labels, status).inc()
        AI_SECONDS.labels(*self._labels).observe(time.perf_counter() - self._started)


@contextlib.contextmanager
def metered(provider: ChatProvider, model: ModelSettings, upstream_model: str) -> Iterator[Meter]:
    """Counts the request when it ends: `ok`, `failed`, or `cancelled` by whoever asked."""
    meter = Meter(provider, model, upstream_model)
    try:
        yield meter
    except (asyncio.CancelledError, GeneratorExit):
        meter.ended("cancelled")
        raise
    except BaseException as error:
        meter.ended("failed", error)
        raise
    meter.ended("ok")
