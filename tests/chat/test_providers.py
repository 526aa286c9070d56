"""Providers over real sockets, each in its own protocol: what they say, how they fail, and who answers instead."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from chatbot_chat.providers import (
    Chosen,
    Finish,
    Message,
    ModelEvent,
    ModelRequest,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
)
from chatbot_chat.providers.breaker import FAILURES, REST_SECONDS
from chatbot_chat.providers.catalog import Catalog, UnknownModel
from chatbot_chat.providers.errors import ProviderSpared
from chatbot_chat.settings import ModelSettings, Settings
from prometheus_client import REGISTRY

from tests.support.claude_server import ClaudeServer
from tests.support.configuration import mapping
from tests.support.identity import Keys
from tests.support.model_server import ModelServer
from tests.support.serving import in_thread

CALM = {"connect": "5s", "firstToken": "20s", "idle": "20s"}
KEY = {"name": "keys", "key": "api-key"}
ADD = ToolSpec("add", "Adds two numbers.", {"type": "object", "properties": {"a": {"type": "integer"}}})


@pytest.fixture(scope="session")
def running_claude() -> Iterator[tuple[ClaudeServer, str]]:
    server = ClaudeServer()
    with in_thread(server.app) as url:
        yield server, url


@pytest.fixture
def claude_server(running_claude: tuple[ClaudeServer, str]) -> ClaudeServer:
    running_claude[0].requests.clear()
    return running_claude[0]


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


@dataclass(frozen=True)
class World:
    catalog: Catalog
    time: Time

    async def ask(self, model: str = "echo", said: list[ModelEvent] | None = None, **fields: Any) -> list[ModelEvent]:
        """All events of an answer; those before a failure are in `said`."""

        def prepare(settings: ModelSettings) -> ModelRequest:
            asked = [Message("system", "Be brief."), Message("user", "Hello there")]
            return ModelRequest(settings.name, asked, "Hello there", max_tokens=50, **fields)

        events = [] if said is None else said
        async with contextlib.aclosing(self.catalog.stream(model, prepare)) as stream:
            async for event in stream:
                events.append(event)
        return events


Make = Callable[..., contextlib.AbstractAsyncContextManager[World]]


@pytest.fixture
def make(
    keys: Keys,
    running_model: tuple[ModelServer, str],
    model_server: ModelServer,
    running_claude: tuple[ClaudeServer, str],
    claude_server: ClaudeServer,
) -> Make:
    """Makes a catalog: `models` are names served by `provider` unless they are written as `name@provider`.

    One of several deployments is written as `name=upstream+upstream`.
    """

    @contextlib.asynccontextmanager
    async def open_catalog(*models: str, provider: str = "open", **fields: Any) -> AsyncIterator[World]:
        shared = {"timeouts": fields.pop("timeouts", CALM), "maxConcurrency": fields.pop("places", 9)}
        providers = [
            {"name": "open", "type": "OpenAICompatible", "baseURL": running_model[1]} | shared,
            {"name": "claude", "type": "Anthropic", "baseURL": running_claude[1], "apiKeySecretRef": KEY} | shared,
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

    return open_catalog


def _model(name: str, provider: str) -> dict[str, Any]:
    name, _, where = name.partition("@")
    name, _, served = name.partition("=")
    deployments = [{"provider": where or provider, "model": item} for item in (served or name).split("+")]
    return {"name": name, "deployments": deployments, "prices": {"input": "10", "output": "100"}}


def text(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta)).strip()


BOTH = pytest.mark.parametrize("provider", ["open", "claude"])


class TestAnswers:
    @BOTH
    async def test_text_usage_and_the_end(self, make: Make, provider: str) -> None:
        async with make("echo", provider=provider) as world:
            events = await world.ask()
        assert events[0] == Chosen("echo")
        assert text(events) == "You said: Hello there"
        assert set(events[-2:]) == {Usage(11, 7), Finish("stop")}

    async def test_fake_needs_no_network(self, make: Make) -> None:
        async with make("any@fake") as world:
            assert text(await world.ask("any")) == "You said: Hello there"

    @BOTH
    async def test_thoughts_are_told_apart(self, make: Make, provider: str) -> None:
        async with make("thinking", provider=provider) as world:
            events = await world.ask("thinking")
        assert [event for event in events if isinstance(event, ReasoningDelta)] == [ReasoningDelta("Let me see. ")]
        assert "Let me see" not in text(events)

    @BOTH
    async def test_calls_of_tools_are_told_whole(self, make: Make, provider: str) -> None:
        async with make("calling", provider=provider) as world:
            events = await world.ask("calling", tools=(ADD,))
        calls = [event for event in events if isinstance(event, ToolCall)]
        assert [(call.id, call.name) for call in calls] == [("call-1", "add"), ("call-2", "now")]
        assert calls[0].arguments == '{"a": 1, "b": 2}'
        assert events[-1] == Finish("tool_calls")

    async def test_what_openai_is_asked(self, make: Make, model_server: ModelServer) -> None:
        async with make("echo") as world:
            await world.ask(tools=(ADD,))
        [(authorization, body)] = model_server.requests
        assert authorization == "Bearer sk-open"
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (body["max_tokens"], body["tools"][0]["function"]["name"]) == (50, "add")

    async def test_what_anthropic_is_asked(self, make: Make, claude_server: ClaudeServer) -> None:
        async with make("echo", provider="claude") as world:
            await world.ask(tools=(ADD,))
        [(authorization, body)] = claude_server.requests
        assert authorization == "Bearer sk-claude"
        assert (body["system"], body["max_tokens"], body["stream"]) == ("Be brief.", 50, True)
        assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hello there"}]}]
        assert body["tools"] == [{"name": "add", "description": ADD.description, "input_schema": dict(ADD.parameters)}]

    async def test_a_server_that_forbids_an_option_is_asked_without(
        self, make: Make, model_server: ModelServer
    ) -> None:
        async with make("strict") as world:
            for _ in range(2):
                assert text(await world.ask("strict")) == "You said: Hello there"
        assert ["stream_options" in body for _, body in model_server.requests] == [True, False, False]

    async def test_an_unknown_model_names_those_there_are(self, make: Make) -> None:
        async with make("echo", "thinking") as world:
            with pytest.raises(UnknownModel, match="'gpt-99' is not served here; choose one of: echo, thinking"):
                await world.ask("gpt-99")

    async def test_cost_is_counted(self, make: Make) -> None:
        labels = {"provider": "open", "model": "echo"}
        before = REGISTRY.get_sample_value("ai_cost_total", labels) or 0
        async with make("echo") as world:
            await world.ask()
        assert REGISTRY.get_sample_value("ai_cost_total", labels) == pytest.approx(before + 0.00081)


class TestFailures:
    @BOTH
    @pytest.mark.parametrize(
        ("model", "kind", "tries"),
        [("refuse", ProviderRefused, 1), ("unknown", ProviderRefused, 1), ("busy", ProviderOverloaded, 3)],
    )
    async def test_refusals(
        self, make: Make, provider: str, model: str, kind: type[ProviderError], tries: int, request: Any
    ) -> None:
        async with make(model, provider=provider) as world:
            with pytest.raises(kind) as caught:
                await world.ask(model)
        assert "sk-upstream-secret" not in str(caught.value)
        server = request.getfixturevalue("model_server" if provider == "open" else "claude_server")
        assert len(server.requests) == tries

    @BOTH
    async def test_a_server_that_breaks_is_asked_three_times(self, make: Make, provider: str) -> None:
        async with make("broken", provider=provider) as world:
            with pytest.raises(ProviderError, match="answered 500"):
                await world.ask("broken")
        first, second = world.time.pauses
        assert 0.1 <= first <= 0.2 <= second <= 0.4

    async def test_nobody_listens(self, make: Make) -> None:
        async with make("echo@dead") as world:
            with pytest.raises(ProviderUnreachable):
                await world.ask()
        assert len(world.time.pauses) == 2

    async def test_overloaded_although_the_status_was_200(self, make: Make, claude_server: ClaudeServer) -> None:
        async with make("overloaded", provider="claude") as world:
            with pytest.raises(ProviderOverloaded) as caught:
                await world.ask("overloaded")
        assert "sk-upstream-secret" not in str(caught.value)
        assert len(claude_server.requests) == 3

    @BOTH
    async def test_hangs_before_the_first_token(self, make: Make, provider: str) -> None:
        short = {"connect": "100ms", "firstToken": "10ms", "idle": "20s"}
        async with make("hang", provider=provider, timeouts=short) as world:
            with pytest.raises(ProviderTimeout):
                await world.ask("hang")

    @BOTH
    @pytest.mark.parametrize(
        ("model", "kind"),
        [
            ("hang-midway", ProviderTimeout),
            ("garbage", ProviderError),
            ("cut", ProviderUnreachable),
            ("early", ProviderError),
        ],
    )
    async def test_after_the_first_token_nothing_is_asked_again(
        self, make: Make, provider: str, model: str, kind: type[ProviderError], request: Any
    ) -> None:
        said: list[ModelEvent] = []
        timeouts = CALM | ({"idle": "50ms"} if model == "hang-midway" else {})
        async with make(model, "echo@fake", provider=provider, timeouts=timeouts, fallbacks=["echo"]) as world:
            with pytest.raises(kind):
                await world.ask(model, said)
        assert text(said).startswith("You said:")
        assert world.time.pauses == []
        server = request.getfixturevalue("model_server" if provider == "open" else "claude_server")
        assert len(server.requests) == 1


class TestRetries:
    async def test_what_fails_once_is_not_noticed(self, make: Make, model_server: ModelServer) -> None:
        async with make("flaky") as world:
            assert text(await world.ask("flaky")) == "You said: Hello there"
        assert len(model_server.requests) == 2

    @BOTH
    async def test_retry_after_is_kept(self, make: Make, provider: str) -> None:
        async with make("throttled", provider=provider) as world:
            assert text(await world.ask("throttled")) == "You said: Hello there"
        assert [7 <= pause <= 7.7 for pause in world.time.pauses] == [True]

    async def test_a_long_wait_is_for_the_client_to_decide(self, make: Make) -> None:
        async with make("exhausted") as world:
            with pytest.raises(ProviderOverloaded) as caught:
                await world.ask("exhausted")
        assert world.time.pauses == []
        assert caught.value.headers == {"Retry-After": "3600"}


class TestFallback:
    @pytest.mark.parametrize("model", ["refuse", "busy", "broken", "unknown", "dead@dead", "hang", "throttled"])
    async def test_another_model_speaks_and_is_named(self, make: Make, model: str) -> None:
        short = {"connect": "100ms", "firstToken": "10ms", "idle": "20s"}
        name = model.partition("@")[0]
        async with make(model, "spare@fake", timeouts=short, fallbacks=["spare"]) as world:
            events = await world.ask(name)
        assert events[0] == Chosen("spare")
        assert text(events) == "You said: Hello there"
        assert all(pause <= 0.5 for pause in world.time.pauses)

    async def test_the_order_is_kept(self, make: Make) -> None:
        async with make("refuse", "unknown", "first@fake", "second@fake", fallbacks=["unknown", "first"]) as world:
            assert (await world.ask("refuse"))[0] == Chosen("first")

    async def test_not_for_a_model_that_was_meant(self, make: Make) -> None:
        async with make("refuse", "spare@fake", fallbacks=["spare"]) as world:
            stream = world.catalog.stream("refuse", lambda _: ModelRequest("", [], ""), fallbacks=False)
            with pytest.raises(ProviderRefused):
                await anext(stream)


class TestBalance:
    async def test_a_deployment_that_fails_is_replaced_by_its_siblings(
        self, make: Make, model_server: ModelServer
    ) -> None:
        async with make("pair=broken+echo") as world:
            while len(model_server.requests) < 12:
                assert text(await world.ask("pair")) == "You said: Hello there"
        assert {body["model"] for _, body in model_server.requests} == {"broken", "echo"}
        assert world.time.pauses == []


class TestRelay:
    """Bytes as they are, by the same rules."""

    async def relayed(self, world: World, model: str) -> dict[str, Any] | None:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello there"}]}
        async with contextlib.AsyncExitStack() as stack:
            response = await world.catalog.relay(model, body, stack)
            return json.loads(await response.aread()) if response else None

    async def test_what_fails_once_is_not_noticed(self, make: Make, model_server: ModelServer) -> None:
        async with make("alias=flaky", places=1) as world:
            for _ in range(2):
                answer = await self.relayed(world, "alias")
                assert answer is not None
                assert answer["choices"][0]["message"]["content"] == "You said: Hello there"
        assert len(model_server.requests) == 3
        assert len(world.time.pauses) == 1

    async def test_failures_open_the_breaker(self, make: Make) -> None:
        async with make("broken", "echo", "spare@fake", fallbacks=["spare"]) as world:
            for _ in range(FAILURES):
                with pytest.raises(ProviderError):
                    await self.relayed(world, "broken")
            with pytest.raises(ProviderSpared):
                await self.relayed(world, "echo")

    async def test_not_where_another_protocol_is_spoken(self, make: Make) -> None:
        async with make("echo", provider="claude") as world:
            assert await self.relayed(world, "echo") is None


class TestBreaker:
    async def fail(self, world: World) -> None:
        with pytest.raises(ProviderError):
            await world.ask("broken")

    async def test_opens_spares_tries_and_closes(self, make: Make, model_server: ModelServer) -> None:
        async with make("broken", "echo") as world:
            while len(model_server.requests) < FAILURES:
                await self.fail(world)
            asked = len(model_server.requests)
            with pytest.raises(ProviderSpared) as caught:
                await world.ask("echo")
            assert 0 < int(caught.value.headers["Retry-After"]) <= REST_SECONDS
            assert resting() == 1
            with pytest.raises(ProviderSpared):
                await world.catalog.ping()
            assert len(model_server.requests) == asked

            world.time.now += REST_SECONDS
            assert text(await world.ask("echo")) == "You said: Hello there"
            assert text(await world.ask("echo")) == "You said: Hello there"
            assert resting() == 0
            await world.catalog.ping()

    async def test_what_is_the_clients_or_the_keys_fault_does_not_open_it(self, make: Make) -> None:
        async with make("refuse", "echo") as world:
            for _ in range(FAILURES + 1):
                with pytest.raises(ProviderRefused):
                    await world.ask("refuse")
            assert text(await world.ask("echo")) == "You said: Hello there"


def resting() -> float | None:
    return REGISTRY.get_sample_value("ai_provider_resting", {"provider": "open"})


class TestConcurrency:
    async def test_who_finds_no_place_is_told_to_come_back(self, make: Make) -> None:
        short = CALM | {"connect": "50ms"}
        async with make("endless", "echo", places=1, timeouts=short) as world:
            stream = world.catalog.stream("endless", lambda _: ModelRequest("", [Message("user", "Count")], "Count"))
            async with contextlib.aclosing(stream):
                await anext(stream)
                with pytest.raises(ProviderSpared, match="no free place"):
                    await world.ask("echo")
            assert text(await world.ask("echo")) == "You said: Hello there"

    async def test_a_place_comes_free_however_an_answer_ends(self, make: Make) -> None:
        async with make("refuse", "cut", "echo", "endless", places=1) as world:
            for model in ("refuse", "cut"):
                with pytest.raises(ProviderError):
                    await world.ask(model)
            said: list[ModelEvent] = []
            asking = asyncio.create_task(world.ask("endless", said))
            while not said:
                await asyncio.sleep(0.005)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert text(await world.ask("echo")) == "You said: Hello there"
