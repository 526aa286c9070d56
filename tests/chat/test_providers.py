"""Providers over real sockets, each in its own protocol: what they are asked, what they say, and how it is traced."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from chatbot_chat.providers import (
    Chosen,
    Finish,
    Message,
    ProviderError,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnheld,
    ProviderUnreachable,
    ReasoningDelta,
    ToolCall,
    ToolSpec,
    Usage,
    patience,
)
from chatbot_chat.providers.breaker import FAILURES, REST_SECONDS
from chatbot_chat.providers.catalog import UnknownModel
from chatbot_chat.providers.errors import ProviderSpared
from chatbot_chat.providers.relaying import proxy_of
from chatbot_chat.providers.routing import mark_of
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY

from tests.chat.providing import BOTH, CALM, Make, Servers, World, open_catalog, request, text
from tests.support.claude_server import ClaudeServer
from tests.support.identity import Keys
from tests.support.model_server import SKIPPED, ModelServer
from tests.support.patience import within

HASTY = {"connect": "100ms", "firstToken": "10ms", "idle": "20s"}
ADD = ToolSpec("add", "Adds two numbers.", {"type": "object", "properties": {"a": {"type": "integer"}}})


class TestUnheld:
    async def test_an_outage_is_told_before_what_another_deployment_refuses(self, make: Make) -> None:
        async with make("both=refuse+plain") as world:
            for _ in range(12):  # they are asked in any order
                with pytest.raises(ProviderRefused, match="refused its API key"):
                    await world.ask("both", asked={"reasoning_effort": "low"})

    async def test_no_fallback_hides_what_the_model_itself_refuses(self, make: Make, servers: Servers) -> None:
        async with make("plain", "broken", "echo", fallbacks=["broken", "echo"]) as world:
            with pytest.raises(ProviderUnheld, match="'reasoning_effort'"):
                await world.ask("plain", asked={"reasoning_effort": "low"})
        assert [body["model"] for _, body in servers["open"].requests] == ["plain"]


class TestAnswers:
    @BOTH
    async def test_text_usage_and_the_end(self, make: Make, provider: str) -> None:
        async with make("echo", provider=provider) as world:
            events = await world.ask()
        assert events[0] == Chosen("echo")
        assert text(events) == "You said: Hello there"
        cached = 6 if provider == "claude" else 0
        assert set(events[-2:]) == {Usage(11, 7, cached_input=cached), Finish("stop")}

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
        signed = {"google": {"thought_signature": "signed"}, "by": mark_of("open")}
        assert calls[0].extra == (signed if provider == "open" else None)
        assert events[-1] == Finish("tool_calls")

    @pytest.mark.parametrize("made", ["open", "claude", mark_of("open"), mark_of("claude")])
    @BOTH
    async def test_what_goes_with_a_call_is_for_who_made_it(
        self, make: Make, servers: Servers, provider: str, made: str
    ) -> None:
        thoughts = [{"type": "thinking", "thinking": "Hm", "signature": "signed"}]
        extra = {"google": {"thought_signature": "signed"}, "thinking": thoughts, "by": made}
        said = [Message("user", "1 + 1?"), Message("assistant", "", (ToolCall("1", "add", "{}", extra),))]
        said.append(Message("tool", "2", tool_call_id="1"))
        async with make("thinking", provider=provider) as world:
            with contextlib.suppress(ProviderError):
                await world.ask("thinking", tools=(ADD,), messages=said)
        called = str(servers[provider].requests[-1][1]["messages"][1])
        assert ("signed" in called) == (made in (provider, mark_of(provider)))
        assert "'by'" not in called

    async def test_a_call_of_somebody_elses_is_marked_where_each_must_be_signed(
        self, make: Make, model_server: ModelServer
    ) -> None:
        asked = Message("user", '[[["add", {}]]]')
        said = [asked, Message("assistant", "", (ToolCall("1", "add", "{}"), ToolCall("2", "add", "{}")))]
        said += [Message("tool", str(number), tool_call_id=str(number)) for number in (1, 2)]
        async with make("signing") as world:
            for _ in range(2):
                assert text(await world.ask("signing", tools=(ADD,), messages=said)) == "1 & 2"
        signed = [
            [call.get("extra_content") for call in body["messages"][1]["tool_calls"]]
            for _, body in model_server.requests
        ]
        mark = {"google": {"thought_signature": SKIPPED}}
        assert signed == [[None, None], [mark, None], [mark, None]]

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

    async def test_a_model_that_always_thinks_is_asked_to_call_where_it_cannot_be_made_to(
        self, make: Make, claude_server: ClaudeServer
    ) -> None:
        asked: dict[str, Any] = {"tools": (ADD,), "messages": [Message("user", '[[["add", {}]]]')], "parallel": False}
        async with make("always-thinking", "echo", provider="claude") as world:
            for must in ("add", True):
                events = await world.ask("always-thinking", must_call=must, **asked)
                assert [event.name for event in events if isinstance(event, ToolCall)] == ["add"]
            await world.ask("echo", tools=(ADD,), must_call=True)
        one = {"disable_parallel_tool_use": True}
        assert [body["tool_choice"] for _, body in claude_server.requests] == [
            {"type": "tool", "name": "add"} | one,
            {"type": "auto"} | one,
            {"type": "auto"} | one,
            {"type": "any"},
        ]

    @pytest.mark.parametrize(("model", "tries"), [("refuses-choice", 1), ("refuses-tools", 2), ("forced-late", 1)])
    async def test_another_refusal_teaches_nothing(
        self, make: Make, claude_server: ClaudeServer, model: str, tries: int
    ) -> None:
        """Nor is anything asked again after the first word."""
        async with make(model, provider="claude") as world:
            for _ in range(2):
                claude_server.requests.clear()
                with pytest.raises(ProviderError):
                    await world.ask(model, tools=(ADD,), must_call=True)
                assert len(claude_server.requests) == tries
                assert claude_server.requests[0][1]["tool_choice"] == {"type": "any"}

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

    async def test_a_redirect_is_a_refusal(self, keys: Keys) -> None:
        """It would carry prompt and key to where nobody has looked."""
        asked: list[bytes] = []
        visits: list[asyncio.StreamWriter] = []

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            visits.append(writer)
            asked.append((await reader.readuntil(b"\r\n")).split()[1])
            writer.write(b"HTTP/1.1 307 Go\r\nLocation: /elsewhere\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

        async with await asyncio.start_server(redirect, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            async with open_catalog(keys, {"open": url, "claude": url}, "echo") as world:
                with pytest.raises(ProviderError):
                    await world.ask()
            for visit in visits:
                visit.close()
                await visit.wait_closed()
        assert set(asked) == {b"/v1/chat/completions"}

    async def test_that_is_compressed_unasked_says_so(self, make: Make) -> None:
        async with make("zipped") as world:
            with pytest.raises(ProviderError, match="compresses its answers"):
                await world.ask("zipped")

    async def test_a_refusal_is_read_as_far_as_one_has_something_to_say(self, make: Make) -> None:
        """Its server never comes to an end."""
        async with make("babbling") as world:
            with pytest.raises(ProviderRefused):
                await world.ask("babbling")

    @pytest.mark.parametrize(
        ("environment", "proxy"),
        [
            ({"ALL_PROXY": "http://all:1"}, "http://all:1"),
            ({"ALL_PROXY": "http://all:1", "HTTPS_PROXY": "http://secure:1"}, "http://secure:1"),
            ({"ALL_PROXY": "http://all:1", "NO_PROXY": "api.test"}, None),
            ({"ALL_PROXY": "http://all:1", "NO_PROXY": "api.test:8443"}, None),
            ({"ALL_PROXY": "http://all:1", "NO_PROXY": "api.test:1"}, "http://all:1"),
            ({}, None),
        ],
    )
    def test_the_proxy_is_the_environments(
        self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], proxy: str | None
    ) -> None:
        for name in ("all", "http", "https", "no"):
            monkeypatch.delenv(f"{name}_proxy", raising=False)
            monkeypatch.delenv(f"{name}_PROXY".upper(), raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert proxy_of("https://api.test:8443/v1") == proxy

    async def test_cost_is_counted(self, make: Make) -> None:
        labels = {"provider": "open", "model": "echo"}
        before = REGISTRY.get_sample_value("ai_cost_total", labels) or 0
        async with make("echo") as world:
            await world.ask()
        assert REGISTRY.get_sample_value("ai_cost_total", labels) == pytest.approx(before + 0.00081)


class TestTrace:
    """One span for each request, worded alike for every protocol, and none of what is said in it."""

    @BOTH
    async def test_of_an_answer(self, make: Make, provider: str, spans: InMemorySpanExporter) -> None:
        async with make("alias=echo", provider=provider) as world:
            async for _ in world.catalog.stream("alias", request):
                assert not trace.get_current_span().get_span_context().is_valid
        [span] = spans.get_finished_spans()
        found = dict(span.attributes or {})
        assert (span.name, span.kind) == ("chat echo", SpanKind.CLIENT)
        assert found.pop("gen_ai.response.time_to_first_chunk")
        assert found == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": {"open": "openai", "claude": "anthropic"}[provider],
            "gen_ai.request.model": "echo",
            "gen_ai.request.max_tokens": 50,
            "gen_ai.request.stream": True,
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.output_tokens": 7,
            "chatbot.provider": provider,
            "chatbot.model": "alias",
            "server.address": "127.0.0.1",
            "server.port": found["server.port"],
        }
        assert isinstance(found["server.port"], int)

    async def test_of_a_failure(self, make: Make, spans: InMemorySpanExporter) -> None:
        async with make("refuse") as world:
            with pytest.raises(ProviderRefused):
                await world.ask("refuse")
        [span] = spans.get_finished_spans()
        assert (span.attributes or {})["error.type"] == "provider-refused"
        assert not span.status.is_ok


class TestRelay:
    """Bytes as they are, by the same rules."""

    async def relayed(self, world: World, model: str) -> dict[str, Any]:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello there"}]}
        async with contextlib.AsyncExitStack() as stack:
            relay = await world.catalog.relay(model, body, stack)
            answer: dict[str, Any] = json.loads(b"".join([piece async for piece in relay.response.pieces()]))
            return answer

    async def test_what_fails_once_is_not_noticed(self, make: Make, model_server: ModelServer) -> None:
        async with make("alias=flaky", places=1) as world:
            for _ in range(2):
                answer = await self.relayed(world, "alias")
                assert answer["choices"][0]["message"]["content"] == "You said: Hello there"
        assert len(model_server.requests) == 3
        assert len(world.time.pauses) == 1

    async def test_a_refusal_that_cannot_be_read_is_told_by_its_status(self, make: Make) -> None:
        async with make("sealed") as world:
            with pytest.raises(ProviderRefused, match="400"):
                await self.relayed(world, "sealed")
            with pytest.raises(ProviderRefused, match="400"):
                await self.streamed(world, "sealed", [])

    async def test_failures_open_the_breaker(self, make: Make) -> None:
        async with make("broken", "echo", "spare@fake", fallbacks=["spare"]) as world:
            for _ in range(FAILURES):
                with pytest.raises(ProviderError):
                    await self.relayed(world, "broken")
            with pytest.raises(ProviderSpared):
                await self.relayed(world, "echo")

    async def test_answers_that_break_off_open_it_too(self, make: Make) -> None:
        async with make("half", "echo", "spare@fake", fallbacks=["spare"]) as world:
            for _ in range(FAILURES):
                with pytest.raises(ProviderUnreachable):
                    await self.relayed(world, "half")
            with pytest.raises(ProviderSpared):
                await self.relayed(world, "echo")

    async def test_a_whole_answer_may_be_later_than_a_first_token(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with make("late", timeouts=HASTY) as world:
            assert (await self.relayed(world, "late"))["choices"]
            monkeypatch.setattr(patience, "WHOLE_SECONDS", 0.05)
            with pytest.raises(ProviderTimeout):
                await self.relayed(world, "late")

    @pytest.mark.parametrize(
        ("model", "timeouts"), [("silent", HASTY), ("comforting", CALM | {"idle": "100ms"}), ("hang", HASTY)]
    )
    async def test_a_stream_has_the_time_of_any_answer(self, make: Make, model: str, timeouts: dict[str, str]) -> None:
        heard: list[bytes] = []
        async with make(model, timeouts=timeouts) as world, within(10):
            with pytest.raises(ProviderTimeout):
                await self.streamed(world, model, heard)
        assert (b"You" in b"".join(heard)) == (model == "comforting")

    async def test_streams_that_say_nothing_open_the_breaker(self, make: Make) -> None:
        async with make("silent", timeouts=HASTY) as world:
            for _ in range(FAILURES):
                with pytest.raises(ProviderTimeout):
                    await self.streamed(world, "silent", [])
            with pytest.raises(ProviderSpared):
                await self.streamed(world, "silent", [])
            world.time.now += REST_SECONDS
            with pytest.raises(ProviderTimeout):
                await self.streamed(world, "silent", [])
            with pytest.raises(ProviderSpared):  # one that begins and says nothing has not come back
                await self.streamed(world, "silent", [])

    async def test_a_listener_that_takes_its_time_is_no_fault(self, make: Make) -> None:
        heard: list[bytes] = []
        async with make("echo", timeouts=CALM | {"idle": "100ms"}) as world:
            await self.streamed(world, "echo", heard, pause=0.15)
        assert b"[DONE]" in b"".join(heard)

    async def test_the_first_token_of_a_stream_counts(self, make: Make) -> None:
        labels = {"provider": "open", "model": "first"}
        async with make("first=echo") as world:
            await self.streamed(world, "first", [])
            await self.relayed(world, "first")
        assert REGISTRY.get_sample_value("ai_first_token_seconds_count", labels) == 1

    async def streamed(self, world: World, model: str, heard: list[bytes], pause: float = 0) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello there"}], "stream": True}
        async with contextlib.AsyncExitStack() as stack:
            relay = await world.catalog.relay(model, body, stack)
            async for piece in relay.response.pieces():
                heard.append(piece)
                await asyncio.sleep(pause)

    @pytest.mark.parametrize("told", [None, {"include_usage": False}, {"include_obfuscation": False}])
    async def test_a_stream_counts_whatever_its_client_wants(
        self, make: Make, model_server: ModelServer, told: dict[str, Any] | None
    ) -> None:
        own = {} if told is None else {"stream_options": told}
        body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True} | own
        async with make("echo", "strict") as world:
            for model in ("echo", "strict"):
                async with contextlib.AsyncExitStack() as stack:
                    await world.catalog.relay(model, body, stack)
        sent = [asked.get("stream_options") for _, asked in model_server.requests]
        assert sent == [*[(told or {}) | {"include_usage": True}] * 2, told]

    @pytest.mark.parametrize(
        ("model", "own", "sent"),
        [
            ("echo", {}, {"max_tokens": 1000}),
            ("echo", {"max_tokens": None}, {"max_tokens": 1000}),
            ("picky", {}, {"max_completion_tokens": 1000}),
            ("echo", {"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
            ("echo", {"max_tokens": 2000}, {"max_tokens": 2000}),
        ],
    )
    async def test_has_a_bound(
        self, make: Make, model_server: ModelServer, model: str, own: dict[str, Any], sent: dict[str, int]
    ) -> None:
        """Where there are budgets: what was held may not be less than what is asked for."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]} | own
        async with make(model) as world:
            for bounded in (True, False):
                async with contextlib.AsyncExitStack() as stack:
                    await world.catalog.relay(model, body, stack, bounded=bounded)
        *_, bounded_one, plain = [asked for _, asked in model_server.requests]
        assert bounded_one == body | sent
        assert plain == body

    async def test_not_where_another_protocol_is_spoken(self, make: Make) -> None:
        async with make("echo", provider="claude") as world:
            assert not world.catalog.relays("echo")
