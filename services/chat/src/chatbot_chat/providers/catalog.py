"""From a public model name to what answers: all providers and models of the bot."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chatbot_common.errors import NotFound

from chatbot_chat.providers import ChatProvider, Chosen, ModelEvent, ModelRequest, RelayedAnswer, RelayingProvider
from chatbot_chat.providers.fake import Fake
from chatbot_chat.providers.guard import Guard
from chatbot_chat.providers.metering import Series, metered
from chatbot_chat.providers.retrieval import Retrieval
from chatbot_chat.providers.routing import Opened, Route, first_to_answer, opened, shuffled
from chatbot_chat.settings import DeploymentSettings, ModelSettings, ProviderSettings, Settings
from chatbot_chat.timing import waiting


class UnknownModel(NotFound):
    kind, title = "model-not-found", "There is no such model"

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"Model {name!r} is not served here; choose one of: {', '.join(known)}.")


@dataclass(frozen=True)
class Relay:
    """A provider's own response, and whom to tell what was heard in it, and when (`perf_counter`) its stream began."""

    response: RelayedAnswer
    heard: Callable[[ModelEvent], None]
    began: Callable[[float], None]


class Catalog:
    """All providers and models. `clock` and `sleep` count seconds: the rests of providers that fail, and pauses."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._providers = {item.name: _build(item, settings) for item in settings.providers}
        # Looked up once: to ask an object for its protocol takes longer than to ask it for an answer.
        self._relaying = {name: item for name, item in self._providers.items() if isinstance(item, RelayingProvider)}
        self._guards = {item.name: Guard(item, clock) for item in settings.providers}
        self._models = {model.name: model for model in settings.models}
        told = {item.name: item for item in settings.providers}
        self._series = {
            (model.name, item): Series(self._providers[item.provider], told[item.provider], model, item.model)
            for model in settings.models
            for item in model.deployments
        }
        self._fallbacks = settings.fallbacks
        self.default = settings.default_model

    @property
    def names(self) -> list[str]:
        return list(self._models)

    def model(self, name: str) -> ModelSettings:
        """Raises `UnknownModel`, naming those there are."""
        if name not in self._models:
            raise UnknownModel(name, self.names)
        return self._models[name]

    def named(self, name: str | None) -> str | None:
        """A model that a client may have named. Raises `UnknownModel`."""
        return self.model(name).name if name else None

    def quotes(self, name: str) -> bool:
        """Whether a model answers from the passages that were found, instead of its own knowledge."""
        return "retrieval" in self.protocols(name)

    def protocols(self, name: str) -> set[str]:
        """What is spoken to a model, by any of its deployments."""
        return {self._providers[item.provider].protocol for item in self.model(name).deployments}

    def calls(self, name: str) -> bool:
        """Whether a model may call tools that it is told of."""
        return self.protocols(name) <= {"openai", "anthropic"}

    def formats(self, name: str) -> tuple[str, ...]:
        """In which a model can be made to answer, besides plain text."""
        protocols = self.protocols(name)
        if protocols <= {"openai"}:
            return ("json_object", "json_schema")
        return ("json_schema",) if protocols <= {"openai", "anthropic"} else ()

    async def stream(
        self,
        name: str,
        prepare: Callable[[ModelSettings], ModelRequest],
        *,
        fallbacks: bool = True,
        admit: Callable[[ModelSettings, ModelRequest], Awaitable[None]] | None = None,
        cut: Callable[[int], None] | None = None,
    ) -> AsyncGenerator[ModelEvent, None]:
        """Events of one answer, from the first route that speaks; `Chosen` says whose it is.

        A route that fails before its first words is replaced by the next; one that has spoken is not, since the
        client has seen them.

        Args:
            prepare: makes the request for a model, fitted to its window.
            fallbacks: whether another model may answer; who asks for a raw model means that one.
            admit: is told whom is about to be asked for what; what it raises ends the answer.
            cut: is told when who waits is cancelled between a provider's taking the request and its first word, with
                the bytes of calls that it has written by then.

        Raises:
            ProviderError: of the last route tried, or of the one that spoke.
        """

        async def ask(route: Route) -> Opened:
            request = prepare(route.model)
            if admit:
                await admit(route.model, request)
            return await opened(route, request, cut)

        names = [name, *(item for item in self._fallbacks if fallbacks and item != name)]
        routes = [self._routes(self.model(item)) for item in names]
        route, answer = await first_to_answer(routes, ask, self._sleep)
        async with contextlib.aclosing(answer.rest) as rest:
            yield Chosen(route.model.name)
            for event in answer.heard:
                yield event
            async for event in rest:
                yield event

    def relays(self, name: str) -> bool:
        """Whether all of the model's providers speak the protocol of chat completions, so that it can be passed on."""
        return all(item.provider in self._relaying for item in self.model(name).deployments)

    async def relay(
        self,
        name: str,
        body: Mapping[str, Any],
        stack: contextlib.AsyncExitStack,
        admit: Callable[[ModelSettings], Awaitable[None]] | None = None,
        *,
        bounded: bool = False,
        cut: Callable[[], None] | None = None,
    ) -> Relay:
        """A provider's own response to a chat completion, for a model that `relays`.

        Args:
            stack: holds the provider's connection until the caller has passed everything on.
            admit: is told the model before somebody is asked; what it raises ends this.
            bounded: whether an answer that the client has not bounded is, by what the model may say.
            cut: is told when who waits is cancelled while a provider has the request, and has not answered.

        Raises:
            ProviderError: no deployment answered.
        """
        routes = self._routes(self.model(name))
        if admit:
            await admit(routes[0].model)

        async def ask(route: Route) -> Relay:
            async with contextlib.AsyncExitStack() as own:
                spoke = await own.enter_async_context(route.guard.admitted())
                meter = own.enter_context(metered(route.series))
                longest = route.model.max_output_tokens if bounded else None
                told, streamed = {**body, "model": route.upstream_model}, bool(body.get("stream"))

                def speaks() -> None:
                    spoke()
                    if streamed:
                        meter.spoke()

                taken = asyncio.Event()
                asked = self._relaying[route.provider.name].relay(told, speaks, longest, taken.set)
                with meter.current(), waiting():
                    try:
                        response = await own.enter_async_context(asked)
                    except asyncio.CancelledError:
                        if cut and taken.is_set():
                            cut()
                        raise
                stack.push_async_exit(own.pop_all())
                return Relay(response, meter.heard, meter.began)

        return (await first_to_answer([routes], ask, self._sleep))[1]

    def _routes(self, model: ModelSettings) -> list[Route]:
        return [self._route(model, item) for item in shuffled(model.deployments)]

    def _route(self, model: ModelSettings, item: DeploymentSettings) -> Route:
        provider, guard = self._providers[item.provider], self._guards[item.provider]
        return Route(model, provider, guard, item.model, self._series[model.name, item])

    async def ping(self) -> None:
        """Raises `ProviderSpared` while one keeps failing. Asks nobody: that would cost money."""
        for guard in self._guards.values():
            guard.check()

    async def close(self) -> None:
        for provider in self._providers.values():
            await provider.close()


def _build(settings: ProviderSettings, all_settings: Settings) -> ChatProvider:
    """SDKs are imported here: each costs a second of start-up and 60 MB, which a bot that only quotes does not need."""
    secret = all_settings.provider_keys.get(settings.name)
    key = secret.get_secret_value() if secret else None
    match settings.type:
        case "Retrieval":
            return Retrieval(settings.name)
        case "Fake":
            return Fake(settings.name)
        case "Anthropic":
            from chatbot_chat.providers.anthropic_messages import Anthropic

            return Anthropic(settings, key)
        case "OpenAICompatible":
            from chatbot_chat.providers.openai_compatible import OpenAICompatible

            return OpenAICompatible(settings, key)
