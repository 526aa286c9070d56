"""Providers over real sockets that fail in every way there is: what is asked again, and who answers instead."""

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from chatbot_chat.providers import (
    Chosen,
    Message,
    ModelEvent,
    ModelRequest,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    Taken,
    TextDelta,
    Written,
)
from chatbot_chat.providers.breaker import FAILURES, REST_SECONDS
from chatbot_chat.providers.errors import ProviderSpared
from chatbot_chat.providers.fake import Fake
from chatbot_chat.providers.patience import Patience
from chatbot_chat.settings import Timeouts
from prometheus_client import REGISTRY

from tests.chat.providing import BOTH, CALM, Make, Servers, World, open_catalog, text
from tests.support.claude_server import ClaudeServer
from tests.support.identity import Keys
from tests.support.model_server import ModelServer


class TestFailures:
    @BOTH
    @pytest.mark.parametrize(
        ("model", "kind", "tries"),
        [("refuse", ProviderRefused, 1), ("unknown", ProviderRefused, 1), ("busy", ProviderOverloaded, 3)],
    )
    async def test_refusals(
        self, make: Make, provider: str, model: str, kind: type[ProviderError], tries: int, servers: Servers
    ) -> None:
        async with make(model, provider=provider) as world:
            with pytest.raises(kind) as caught:
                await world.ask(model)
        assert "sk-upstream-secret" not in str(caught.value)
        assert len(servers[provider].requests) == tries

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

    async def test_a_provider_that_hangs_is_waited_for_once(self, make: Make, model_server: ModelServer) -> None:
        short = {"connect": "100ms", "firstToken": "10ms", "idle": "20s"}
        async with make("pair=hang+hang", timeouts=short) as world:
            with pytest.raises(ProviderTimeout):
                await world.ask("pair")
        assert len(model_server.requests) <= 1

    async def test_a_listener_that_takes_its_time_is_no_fault(self) -> None:
        async def words() -> AsyncIterator[str]:
            for word in "abc":
                await asyncio.sleep(0)
                yield word

        times = Timeouts(connect=5, first_token=20, idle=0.2)
        said = []
        async for word in Patience(times).over(words(), bool):
            said.append(word)
            await asyncio.sleep(0.25)
        assert said == ["a", "b", "c"]

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
        self, make: Make, provider: str, model: str, kind: type[ProviderError], servers: Servers
    ) -> None:
        said: list[ModelEvent] = []
        timeouts = CALM | ({"idle": "50ms"} if model == "hang-midway" else {})
        async with make(model, "echo@fake", provider=provider, timeouts=timeouts, fallbacks=["echo"]) as world:
            with pytest.raises(kind):
                await world.ask(model, said)
        assert text(said).startswith("You said:")
        assert world.time.pauses == []
        assert len(servers[provider].requests) == 1

    async def test_a_failure_told_in_the_middle_is_one(self, make: Make) -> None:
        """Although the stream ends as if there had been none."""
        said: list[ModelEvent] = []
        async with make("giving-up") as world:
            with pytest.raises(ProviderError, match="not an answer"):
                await world.ask("giving-up", said)
        assert text(said) == "You said: Hello there"

    async def test_words_that_come_with_a_failure_are_told(self, keys: Keys) -> None:
        """In one piece of the network."""
        word = b'data: {"choices": [{"delta": {"content": "So far"}}]}\n\n'

        async def break_down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"}]")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            writer.write(head + word + b"data: {no JSON\n\n")
            writer.close()

        said: list[ModelEvent] = []
        async with await asyncio.start_server(break_down, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            async with open_catalog(keys, {"open": url, "claude": url}, "echo") as world:
                with pytest.raises(ProviderError, match="not an answer"):
                    await world.ask("echo", said)
        assert text(said) == "So far"


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


class TestCut:
    """Of who is cancelled before the first word: a provider charges for a prompt that it has."""

    @BOTH
    async def test_a_provider_has_it_with_the_head_of_its_answer(self, make: Make, provider: str) -> None:
        async with make("echo", provider=provider) as world:
            stream = world.catalog._providers[provider].stream(ModelRequest("echo", [Message("user", "Hi")], "Hi"))
            async with contextlib.aclosing(stream):
                assert await anext(stream) == Taken()

    @pytest.mark.parametrize("taken", [True, False])
    async def test_is_told(self, make: Make, taken: bool) -> None:
        class Silent(Fake):
            asked = asyncio.Event()

            async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
                if taken:
                    yield Taken()
                    yield Written(3)
                    yield Written(4)
                self.asked.set()
                await asyncio.Event().wait()

        cut: list[int] = []
        async with make("any@fake") as world:
            silent = world.catalog._providers["fake"] = Silent("fake")
            stream = world.catalog.stream("any", lambda _: ModelRequest("", [], ""), cut=cut.append)
            asking = asyncio.create_task(anext(stream))
            await silent.asked.wait()
            asking.cancel()
            await asyncio.wait({asking})
        assert cut == [7] * taken


class TestBalance:
    async def test_a_deployment_that_fails_is_replaced_by_its_siblings(
        self, make: Make, model_server: ModelServer
    ) -> None:
        async with make("pair=broken+echo") as world:
            while len(model_server.requests) < 12:
                assert text(await world.ask("pair")) == "You said: Hello there"
        assert {body["model"] for _, body in model_server.requests} == {"broken", "echo"}
        assert world.time.pauses == []


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


class TestLeaving:
    @BOTH
    async def test_early_leaves_nothing_to_the_garbage_collector(self, make: Make, provider: str) -> None:
        """Which would close it at any time, or after the loop has gone."""
        left, hooks = list[str](), sys.get_asyncgen_hooks()

        def finalize(generator: Any) -> None:
            left.append(generator.__qualname__)
            assert hooks.finalizer is not None
            hooks.finalizer(generator)

        async with make("endless", provider=provider) as world:
            sys.set_asyncgen_hooks(finalizer=finalize)
            try:
                stream = world.catalog.stream(
                    "endless", lambda _: ModelRequest("", [Message("user", "Count")], "Count")
                )
                async with contextlib.aclosing(stream):
                    while not isinstance(await anext(stream), TextDelta):
                        pass
                del stream
            finally:
                sys.set_asyncgen_hooks(*hooks)
            await asyncio.sleep(0.05)  # what nobody refers to any more has been told, and is being closed
            left.clear()
            gc.collect()
        assert left == []


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
