"""What is measured and traced of every request to a provider, whichever protocol it speaks."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from functools import cached_property

from chatbot_common import genai
from opentelemetry import trace
from opentelemetry.trace import Span
from prometheus_client import Counter, Gauge, Histogram

from chatbot_chat.providers import SPEECH, ChatProvider, Finish, ModelEvent, ModelRequest, Usage
from chatbot_chat.settings import ModelSettings, ProviderSettings

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
AI_RETRIES = Counter("ai_retries_total", "Attempts at a model after its provider had failed", ["provider", "model"])
AI_FALLBACKS = Counter("ai_fallbacks_total", "Answers by another model than the one asked for", ["model", "fallback"])
AI_RESTING = Gauge("ai_provider_resting", "Whether a provider is left alone because it kept failing", ["provider"])
AI_SPARED = Counter("ai_provider_spared_total", "Requests not made to spare a provider", ["provider", "reason"])

tracer = trace.get_tracer(__name__)

MILLION = 1_000_000


class Series:
    """Of one deployment of a model. Each is looked up once: finding one by its labels costs more than counting."""

    def __init__(
        self, provider: ChatProvider, settings: ProviderSettings, model: ModelSettings, upstream_model: str
    ) -> None:
        self.operation = genai.Operation("chat", provider.protocol, upstream_model, settings.base_url)
        self.named = {"chatbot.provider": provider.name, "chatbot.model": model.name}
        self._labels = (provider.name, model.name)
        self._prices = model.prices

    @cached_property
    def _seconds(self) -> tuple[Histogram, Histogram]:
        return AI_SECONDS.labels(*self._labels), genai.OPERATION_SECONDS.labels(*self.operation.labels, "")

    @cached_property
    def first_token(self) -> Histogram:
        return AI_FIRST_TOKEN.labels(*self._labels)

    @cached_property
    def first_chunk(self) -> Histogram:
        return genai.FIRST_CHUNK_SECONDS.labels(*self.operation.labels)

    @cached_property
    def _tokens(self) -> list[tuple[Counter, Histogram]]:
        return [
            (AI_TOKENS.labels(*self._labels, kind), genai.TOKENS.labels(*self.operation.labels, kind))
            for kind in ("input", "output")
        ]

    @cached_property
    def _cost(self) -> Counter:
        return AI_COST.labels(*self._labels)

    @cached_property
    def _answered(self) -> Counter:
        return AI_REQUESTS.labels(*self._labels, "ok")

    def used(self, usage: Usage) -> None:
        for (counter, histogram), tokens in zip(self._tokens, (usage.input_tokens, usage.output_tokens), strict=True):
            counter.inc(tokens)
            histogram.observe(tokens)
        if self._prices:
            cost = self._prices.input * usage.input_tokens + self._prices.output * usage.output_tokens
            self._cost.inc(float(cost) / MILLION)

    def ended(self, seconds: float, status: str, failure: str = "") -> None:
        """`failure` is the kind of error, if it was one."""
        (self._answered if status == "ok" else AI_REQUESTS.labels(*self._labels, status)).inc()
        whole, operation = self._seconds
        whole.observe(seconds)
        if failure:
            operation = genai.OPERATION_SECONDS.labels(*self.operation.labels, failure)
        operation.observe(seconds)


class Meter:
    """Of one request."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._span: Span = series.operation.start(tracer, **series.named)
        self._started = time.perf_counter()
        self._silent = True

    def current(self) -> contextlib.AbstractContextManager[Span]:
        """A block whose requests belong to this one's span."""
        return trace.use_span(self._span, record_exception=False, set_status_on_exception=False)

    def asks(self, request: ModelRequest) -> None:
        """What is asked for, as far as every provider is told it."""
        if self._span.is_recording():
            self._span.set_attribute("gen_ai.request.max_tokens", request.max_tokens)
            self._span.set_attribute("gen_ai.request.stream", True)

    def heard(self, event: ModelEvent) -> None:
        if self._silent and isinstance(event, SPEECH):
            self._silent = False
            self.began(self.spoke())
        if isinstance(event, Usage):
            self._series.used(event)
            self._span.set_attribute("gen_ai.usage.input_tokens", event.input_tokens)
            self._span.set_attribute("gen_ai.usage.output_tokens", event.output_tokens)
        if isinstance(event, Finish):
            self._span.set_attribute("gen_ai.response.finish_reasons", [event.reason])

    def spoke(self) -> float:
        """The first token is there. Returns the moment, by `perf_counter`."""
        now = time.perf_counter()
        self._series.first_token.observe(now - self._started)
        return now

    def began(self, moment: float) -> None:
        """When a stream did, by `perf_counter`."""
        self._series.first_chunk.observe(moment - self._started)
        self._span.set_attribute("gen_ai.response.time_to_first_chunk", moment - self._started)

    def ended(self, status: str, error: BaseException | None = None) -> None:
        failure = genai.failed(self._span, error) if error is not None else ""
        self._span.end()
        self._series.ended(time.perf_counter() - self._started, status, failure)


@contextlib.contextmanager
def metered(series: Series) -> Iterator[Meter]:
    """Counts the request when it ends: `ok`, `failed`, or `cancelled` by whoever asked."""
    meter = Meter(series)
    try:
        yield meter
    except (asyncio.CancelledError, GeneratorExit):
        meter.ended("cancelled")
        raise
    except BaseException as error:
        meter.ended("failed", error)
        raise
    meter.ended("ok")
