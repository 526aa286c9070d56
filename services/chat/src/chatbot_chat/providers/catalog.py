"""From a public model name to the providers that may serve it, in the order in which they are tried."""

import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, replace

import structlog
from chatbot_common.errors import NotFound
from prometheus_client import Counter, Histogram

from chatbot_chat.providers import ChatProvider, Chosen, ModelEvent, ModelRequest, ProviderError, TextDelta, Usage
from chatbot_chat.providers.fake import Fake
from chatbot_chat.providers.retrieval import Retrieval
from chatbot_chat.settings import DeploymentSettings, ModelSettings, ProviderSettings, Settings

log = structlog.get_logger(__name__)

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


class UnknownModel(NotFound):
    kind, title = "model-not-found", "There is no such model"


@dataclass(frozen=True)
class Route:
    """A model and one deployment of it."""

    model: ModelSettings
    provider: ChatProvider
    upstream_model: str


class Catalog:
    """All providers and models of the bot."""

    def __init__(self, settings: Settings) -> None:
        self._providers = {item.name: _build(item, settings) for item in settings.providers}
        self._models = {model.name: model for model in settings.models}
        self._fallbacks = settings.fallbacks
        self.default = settings.default_model

    @property
    def names(self) -> list[str]:
        return list(self._models)

    def model(self, name: str) -> ModelSettings:
        """Raises `UnknownModel`, naming those there are."""
        try:
            return self._models[name]
        except KeyError:
            raise UnknownModel(
                f"Model {name!r} is not served here; choose one of: {', '.join(self._models)}."
            ) from None

    def own_routes(self, name: str) -> list[Route]:
        """Deployments of the model alone, shuffled by weight: who asks for a raw model means that one."""
        return self._deployments(self.model(name))

    def routes(self, name: str) -> list[Route]:
        """Deployments of the model, shuffled by weight, then those of the fallback models in order."""
        names = [name, *(item for item in self._fallbacks if item != name)]
        return [route for item in names for route in self._deployments(self.model(item))]

    def _deployments(self, model: ModelSettings) -> list[Route]:
        ordered = sorted(model.deployments, key=_weighted, reverse=True)
        return [Route(model, self._providers[item.provider], item.model) for item in ordered]

    async def stream(
        self, name: str, prepare: Callable[[ModelSettings], ModelRequest]
    ) -> AsyncGenerator[ModelEvent, None]:
        """Events of one answer, from the first route that speaks.

        A route that fails before its first text is replaced by the next; one that has spoken is not, since the
        client has seen its words.

        Args:
            prepare: makes the request for a model, fitted to its window.

        Raises:
            ProviderError: of the last route tried.
        """
        routes = self.routes(name)
        for number, route in enumerate(routes, 1):
            spoken = False
            try:
                yield Chosen(route.model.name)
                async for event in _measured(route, prepare(route.model)):
                    spoken = spoken or isinstance(event, TextDelta)
                    yield event
            except ProviderError as error:
                log.warning("provider failed", provider=route.provider.name, error=error.kind, spoken=spoken)
                if spoken or number == len(routes):
                    raise
            else:
                return

    async def close(self) -> None:
        for provider in self._providers.values():
            await provider.close()


def _build(settings: ProviderSettings, all_settings: Settings) -> ChatProvider:
    if settings.type == "Retrieval":
        return Retrieval(settings.name)
    if settings.type == "Fake":
        return Fake(settings.name)
    # Imported here: the SDK costs a second of start-up and 60 MB, which a bot that only quotes does not need.
    from chatbot_chat.providers.openai_compatible import OpenAICompatible

    key = all_settings.provider_keys.get(settings.name)
    return OpenAICompatible(settings, key.get_secret_value() if key else None)


def _weighted(deployment: DeploymentSettings) -> float:
    """Sort key of a weighted shuffle (Efraimidis and Spirakis, 2006)."""
    return float(random.random() ** (1 / deployment.weight))  # noqa: S311 - load balancing


async def _measured(route: Route, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
    labels = (route.provider.name, route.model.name)
    started, first, status = time.perf_counter(), True, "failed"
    try:
        async for event in route.provider.stream(replace(request, model=route.upstream_model)):
            if first and isinstance(event, TextDelta):
                first = False
                AI_FIRST_TOKEN.labels(*labels).observe(time.perf_counter() - started)
            if isinstance(event, Usage):
                _count(labels, event)
            yield event
        status = "ok"
    finally:
        AI_REQUESTS.labels(*labels, status).inc()
        AI_SECONDS.labels(*labels).observe(time.perf_counter() - started)


def _count(labels: tuple[str, str], usage: Usage) -> None:
    counts: Mapping[str, int] = {"input": usage.input_tokens, "output": usage.output_tokens}
    for kind, count in counts.items():
        AI_TOKENS.labels(*labels, kind).inc(count)
