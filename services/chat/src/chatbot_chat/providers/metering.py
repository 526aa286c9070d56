"""What is measured of every request to a provider."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from decimal import Decimal

from prometheus_client import Counter, Gauge, Histogram

from chatbot_chat.providers import SPEECH, ModelEvent, Usage
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

MILLION = 1_000_000


class Meter:
    """Of one request."""

    def __init__(self, provider: str, model: ModelSettings) -> None:
        self._labels = (provider, model.name)
        self._prices = model.prices
        self._started = time.perf_counter()
        self._silent = True

    def heard(self, event: ModelEvent) -> None:
        if self._silent and isinstance(event, SPEECH):
            self._silent = False
            AI_FIRST_TOKEN.labels(*self._labels).observe(time.perf_counter() - self._started)
        if isinstance(event, Usage):
            self._used(event)

    def _used(self, usage: Usage) -> None:
        AI_TOKENS.labels(*self._labels, "input").inc(usage.input_tokens)
        AI_TOKENS.labels(*self._labels, "output").inc(usage.output_tokens)
        if self._prices:
            cost = self._prices.input * usage.input_tokens + self._prices.output * usage.output_tokens
            AI_COST.labels(*self._labels).inc(float(cost / Decimal(MILLION)))

    def ended(self, status: str) -> None:
        AI_REQUESTS.labels(*self._labels, status).inc()
        AI_SECONDS.labels(*self._labels).observe(time.perf_counter() - self._started)


@contextlib.contextmanager
def metered(provider: str, model: ModelSettings) -> Iterator[Meter]:
    """Counts the request when it ends: `ok`, `failed`, or `cancelled` by whoever asked."""
    meter = Meter(provider, model)
    try:
        yield meter
    except (asyncio.CancelledError, GeneratorExit):
        meter.ended("cancelled")
        raise
    except BaseException:
        meter.ended("failed")
        raise
    meter.ended("ok")
