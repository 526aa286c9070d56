"""From models to the first deployment that answers: weights, retries and fallbacks put to work."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import structlog

from chatbot_chat.providers import (
    SPEECH,
    ChatProvider,
    Finish,
    Message,
    ModelEvent,
    ModelRequest,
    ProviderError,
    ProviderTimeout,
    ProviderUnheld,
    Taken,
    ToolCall,
    Written,
)
from chatbot_chat.providers.guard import Guard
from chatbot_chat.providers.held import unheld
from chatbot_chat.providers.metering import AI_FALLBACKS, AI_RETRIES, Series, metered
from chatbot_chat.providers.retries import ACCOMPANIED_SECONDS, ALONE_SECONDS, next_round
from chatbot_chat.settings import DeploymentSettings, ModelSettings
from chatbot_chat.timing import waiting

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Route:
    """A model and one deployment of it."""

    model: ModelSettings
    provider: ChatProvider
    guard: Guard
    upstream_model: str
    series: Series


@dataclass(frozen=True)
class Opened:
    """An answer that has begun: what was heard so far, and the rest, which somebody must close."""

    heard: list[ModelEvent]
    rest: AsyncGenerator[ModelEvent, None]


def shuffled(deployments: Sequence[DeploymentSettings]) -> list[DeploymentSettings]:
    """By chance, each as often first as its weight says (Efraimidis and Spirakis, 2006)."""
    if len(deployments) == 1:
        return [*deployments]
    keys = {id(item): random.random() ** (1 / item.weight) for item in deployments}  # noqa: S311 - load balancing
    return sorted(deployments, key=lambda item: keys[id(item)], reverse=True)


async def first_to_answer(
    models: Sequence[Sequence[Route]],
    ask: Callable[[Route], Awaitable[T]],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tuple[Route, T]:
    """The first route that answers. Deployments of a model are asked in turn, for a few rounds; then the next model's.

    Args:
        models: routes of the model that is wanted, then those of each fallback.
        ask: returns once the client may be shown something: from there on nothing is asked again.

    Raises:
        ProviderError: of the last route that was asked, but for those that cannot be held to the request.
        ProviderUnheld: no deployment of the first model can.
    """
    failure: ProviderError | None = None
    for left, routes in zip(range(len(models) - 1, -1, -1), models, strict=True):
        asked, rounds = list(routes), 0
        slow: set[str] = set()
        longest = ACCOMPANIED_SECONDS if left else ALONE_SECONDS
        while asked:
            failed: list[tuple[Route, ProviderError]] = []
            for route in asked:
                if route.provider.name in slow:
                    continue  # its other deployments would take another wait as long
                if failed or rounds:
                    AI_RETRIES.labels(route.provider.name, route.model.name).inc()
                try:
                    answer = await ask(route)
                except ProviderError as error:
                    log.warning("provider failed", provider=route.provider.name, error=error.kind)
                    failed.append((route, error))
                    if isinstance(error, ProviderTimeout):
                        slow.add(route.provider.name)
                else:
                    if routes is not models[0]:
                        AI_FALLBACKS.labels(models[0][0].model.name, route.model.name).inc()
                    return route, answer
            failure, rounds = _told(failure, [error for _, error in failed]), rounds + 1
            failed = [item for item in failed if item[0].provider.name not in slow]
            pause, asked = next_round(failed, rounds, longest, random.random()) or (0.0, [])  # noqa: S311
            if asked:
                with waiting():
                    await sleep(pause)
        if isinstance(failure, ProviderUnheld):
            break  # the client's to mend: a fallback would hide it, from one question to the next
    raise failure or ProviderError()


def _told(before: ProviderError | None, failed: Sequence[ProviderError]) -> ProviderError:
    """What the client is told. That others cannot be held to its request is not why it is not answered."""
    return next((error for error in reversed(failed) if not isinstance(error, ProviderUnheld)), before or failed[-1])


async def opened(route: Route, request: ModelRequest, cut: Callable[[int], None] | None = None) -> Opened:
    """The answer of one route, from its first words on; `cut`: see `Catalog.stream`. Raises `ProviderError`."""
    if found := unheld([route.provider.protocol], request.asked):
        raise ProviderUnheld(f"Model {route.model.name!r}", *found)
    own = [_own(message, route.provider.name) for message in request.messages]
    events = _answer(route, replace(request, model=route.upstream_model, messages=own))
    heard: list[ModelEvent] = []
    taken, written = False, 0
    try:
        async for event in events:
            if isinstance(event, Taken):
                taken = True
            elif isinstance(event, Written):
                written += event.size
            else:
                heard.append(event)
            if isinstance(event, (*SPEECH, Finish)):
                break
    except asyncio.CancelledError:
        if cut and taken:
            cut(written)
        raise
    return Opened([Written(written), *heard] if written else heard, events)


async def _answer(route: Route, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
    async with route.guard.admitted() as spoke:
        with metered(route.series) as meter:
            meter.asks(request)
            async with contextlib.aclosing(route.provider.stream(request)) as events:
                # Only while nothing is yielded: the span must not become the consumer's.
                with meter.current(), waiting():
                    event = await anext(events, None)
                while event is not None:
                    meter.heard(event)
                    if isinstance(event, SPEECH):
                        spoke()
                        if isinstance(event, ToolCall) and event.extra:
                            event = replace(event, extra={**event.extra, "by": mark_of(route.provider.name)})
                    yield event
                    with waiting():
                        event = await anext(events, None)


@cache
def mark_of(provider: str) -> str:
    """Who made a call, for us alone: clients get it with the call, and names of providers are not for them."""
    return hashlib.blake2b(provider.encode(), digest_size=6).hexdigest()


def _own(message: Message, provider: str) -> Message:
    """The message as this provider may see it: what goes with a call is for who made it. A client may send any."""
    if not any(call.extra for call in message.tool_calls):
        return message
    return replace(message, tool_calls=tuple(_for(provider, call) for call in message.tool_calls))


def _for(provider: str, call: ToolCall) -> ToolCall:
    extra = call.extra or {}
    own = {name: value for name, value in extra.items() if name != "by"}
    mine = extra.get("by", provider) in (provider, mark_of(provider))
    return replace(call, extra=own if mine and own else None)
