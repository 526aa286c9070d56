"""A catalog of providers that answer over real sockets, and a time that only tests move."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from chatbot_chat.providers import Message, ModelEvent, ModelRequest, TextDelta
from chatbot_chat.providers.catalog import Catalog
from chatbot_chat.settings import ModelSettings, Settings

from tests.support.claude_server import ClaudeServer
from tests.support.configuration import mapping
from tests.support.identity import Keys
from tests.support.model_server import ModelServer

CALM = {"connect": "5s", "firstToken": "20s", "idle": "20s"}
KEY = {"name": "keys", "key": "api-key"}
BOTH = pytest.mark.parametrize("provider", ["open", "claude"])
Servers = dict[str, ModelServer | ClaudeServer]
"""By the name of the provider."""


class Time:
    """Moves only when a test, or a pause, moves it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def request(settings: ModelSettings, **fields: Any) -> ModelRequest:
    asked = [Message("system", "Be brief."), Message("user", "Hello there")]
    return ModelRequest(settings.name, fields.pop("messages", asked), "Hello there", max_tokens=50, **fields)


def text(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta)).strip()


@dataclass(frozen=True)
class World:
    catalog: Catalog
    time: Time

    async def ask(self, model: str = "echo", said: list[ModelEvent] | None = None, **fields: Any) -> list[ModelEvent]:
        """All events of an answer; those before a failure are in `said`."""
        events = [] if said is None else said
        async with contextlib.aclosing(self.catalog.stream(model, partial(request, **fields))) as stream:
            async for event in stream:
                events.append(event)
        return events


@contextlib.asynccontextmanager
async def open_catalog(
    keys: Keys, urls: dict[str, str], *models: str, provider: str = "open", **fields: Any
) -> AsyncIterator[World]:
    """A catalog of `models`: names served by `provider`, unless they are written as `name@provider`.

    One of several deployments is written as `name=upstream+upstream`. `timeouts` and `places` are of every provider,
    the other `fields` of `spec.llm`.
    """
    shared = {"timeouts": fields.pop("timeouts", CALM), "maxConcurrency": fields.pop("places", 9)}
    providers = [
        {"name": "open", "type": "OpenAICompatible", "baseURL": urls["open"]} | shared,
        {"name": "claude", "type": "Anthropic", "baseURL": urls["claude"], "apiKeySecretRef": KEY} | shared,
        {"name": "dead", "type": "OpenAICompatible", "baseURL": "http://127.0.0.1:1/v1"} | shared,
        {"name": "fake", "type": "Fake"},
    ]
    made = [_model(name, provider) for name in models]
    used = {item["provider"] for model in made for item in model["deployments"]}
    llm = {"providers": [item for item in providers if item["name"] in used], "models": made}
    llm |= {"default": made[0]["name"]} | fields
    told = mapping("chat", keys, spec={"profile": "Dev", "llm": llm}) | {
        "redis_url": "redis://127.0.0.1:1",
        "provider_keys": {"open": "sk-open", "claude": "sk-claude"},
    }
    time = Time()
    catalog = Catalog(Settings.model_validate(told), time.clock, time.sleep)
    try:
        yield World(catalog, time)
    finally:
        await catalog.close()


Make = Callable[..., contextlib.AbstractAsyncContextManager[World]]
"""`open_catalog` with its servers."""


def _model(name: str, provider: str) -> dict[str, Any]:
    name, _, where = name.partition("@")
    name, _, served = name.partition("=")
    deployments = [{"provider": where or provider, "model": item} for item in (served or name).split("+")]
    return {"name": name, "deployments": deployments, "prices": {"input": "10", "output": "100"}}
