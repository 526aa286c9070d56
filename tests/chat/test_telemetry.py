"""What a turn leaves behind for those who watch: spans below each other, and what it counts; never its words."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from chatbot_chat.tools.toolbox import MOST_NAMES, OTHER, _label
from chatbot_common.ids import uuid7
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from tests.chat.providing import Make
from tests.chat.running import Chat
from tests.support.patience import within

ADA = uuid7()
WORDS = ("6*7", "Mars", "a lovely secret")
QUESTION = json.dumps(
    [[["calculator", {"expression": "6*7"}], ["current_time", {"timezone": "Mars"}], ["made_up", {}]]]
)

Counted = Callable[..., float]


@pytest.fixture
def counted() -> Counted:
    """By how much a series has grown since the test began; those with the labels that are given, all together."""

    def total(name: str, labels: Mapping[str, str]) -> float:
        return sum(
            sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    before = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
    }

    def grown(name: str, **labels: str) -> float:
        since = sum(value for (of, own), value in before.items() if of == name and labels.items() <= dict(own).items())
        return total(name, labels) - since

    return grown


def tree(spans: InMemorySpanExporter) -> dict[str, list[str]]:
    """Names of spans, each with those below it in order of their start."""
    finished = sorted(spans.get_finished_spans(), key=lambda span: span.start_time or 0)
    names = {span.context.span_id: span.name for span in finished if span.context}
    found: dict[str, list[str]] = {}
    for span in finished:
        found.setdefault(names.get(span.parent.span_id, "") if span.parent else "", []).append(span.name)
    return found


async def one(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    """Of this name; the agent's ends a moment after its last event."""
    async with within(20):
        while not (found := [span for span in spans.get_finished_spans() if span.name == name]):
            await asyncio.sleep(0.01)
    [span] = found
    return span


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


class TestTurn:
    async def test_is_one_agent_with_models_and_tools(
        self, chat: Chat, spans: InMemorySpanExporter, counted: Counted
    ) -> None:
        events = await chat.stream(ADA, QUESTION, model="agent")
        told = attributes(await one(spans, "invoke_agent demo"))

        assert {name: sorted(below) for name, below in tree(spans).items()} == {
            "": ["invoke_agent demo"],
            "invoke_agent demo": ["chat agent", "chat agent", "execute_tool calculator", "execute_tool current_time"],
        }
        assert told == {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "demo",
            "gen_ai.conversation.id": events[0]["conversation_id"],
            "gen_ai.usage.input_tokens": 22,
            "gen_ai.usage.output_tokens": 14,
            "chatbot.model": "agent",
            "chatbot.run.id": events[0]["run_id"],
            "chatbot.run.state": "completed",
        }
        failed = await one(spans, "execute_tool current_time")
        assert attributes(failed)["error.type"] == "tool-failed"
        assert not failed.status.is_ok

        chosen = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_request_model": "agent"}
        assert counted("gen_ai_client_operation_duration_seconds_count", error_type="", **chosen) == 2
        assert counted("gen_ai_client_operation_time_to_first_chunk_seconds_count", **chosen) == 2
        assert counted("gen_ai_client_token_usage_sum", gen_ai_token_type="input", **chosen) == 22
        assert counted("gen_ai_invoke_agent_duration_seconds_count", gen_ai_agent_name="demo", error_type="") == 1
        assert counted("gen_ai_execute_tool_duration_seconds_count", error_type="tool-failed") == 1
        assert counted("chat_tool_calls_total", tool="calculator", status="completed") == 1
        assert counted("chat_tool_calls_total", tool="_OTHER", status="failed") == 1
        assert counted("chat_runs_total", state="completed") == 1

    async def test_says_what_it_failed_with(self, chat: Chat, spans: InMemorySpanExporter, counted: Counted) -> None:
        assert (await chat.stream(ADA, "a lovely secret", model="refuse"))[-1]["type"] == "run.failed"

        told = attributes(await one(spans, "invoke_agent demo"))
        assert (told["error.type"], told["chatbot.run.state"]) == ("provider-refused", "failed")
        assert counted("gen_ai_invoke_agent_duration_seconds_count", error_type="provider-refused") == 1
        assert counted("gen_ai_client_operation_duration_seconds_count", error_type="provider-refused") == 1
        assert counted("chat_runs_total", state="failed") == 1

    async def test_that_is_cancelled_is_no_error(
        self, chat: Chat, spans: InMemorySpanExporter, counted: Counted
    ) -> None:
        async with chat.streaming(ADA, "a lovely secret", model="endless") as events:
            async for event in events:
                if event["type"] == "text.delta":
                    await chat.client.post(f"/api/v1/chat/runs/{event['run_id']}/cancel", headers=chat.keys.bearer(ADA))
        told = attributes(await one(spans, "invoke_agent demo"))
        assert told["chatbot.run.state"] == "cancelled"
        assert "error.type" not in told
        assert counted("ai_requests_total", model="endless", status="cancelled") == 1
        assert counted("chat_runs_total", state="cancelled") == 1

    async def test_of_openais_clients_is_one_too(
        self, chat: Chat, spans: InMemorySpanExporter, counted: Counted
    ) -> None:
        """The assistant is an agent, a raw model is none."""
        for model in ("demo", "echo"):
            body = {"model": model, "messages": [{"role": "user", "content": "a lovely secret"}], "stream": True}
            answer = await chat.client.post("/v1/chat/completions", json=body, headers=chat.keys.bearer(ADA))
            assert answer.status_code == 200, answer.text
        assert attributes(await one(spans, "chat echo"))["gen_ai.response.time_to_first_chunk"] > 0
        began = "gen_ai_client_operation_time_to_first_chunk_seconds_count"
        assert counted(began, gen_ai_request_model="echo", gen_ai_provider_name="openai") == 1
        assert tree(spans) == {"": ["invoke_agent demo", "chat echo"], "invoke_agent demo": ["chat retrieval"]}
        assert counted("gen_ai_invoke_agent_duration_seconds_count", gen_ai_agent_name="demo") == 1

    @pytest.fixture(autouse=True)
    def _keeps_its_words(self, spans: InMemorySpanExporter) -> Any:
        yield
        for span in spans.get_finished_spans():
            said = repr([span.name, span.attributes, span.status.description, [event.name for event in span.events]])
            assert not any(word in said for word in WORDS), said


class TestProviders:
    async def test_attempts_and_fallbacks(self, make: Make, counted: Counted) -> None:
        async with make("broken", "spare@fake", fallbacks=["spare"]) as world:
            await world.ask("broken")
        retries = counted("ai_retries_total", provider="open", model="broken")
        assert retries == counted("ai_requests_total", model="broken", status="failed") - 1 > 0
        assert counted("ai_fallbacks_total", model="broken", fallback="spare") == 1

    async def test_that_rest_are_spared(self, make: Make, counted: Counted) -> None:
        async with make("broken", "spare@fake", fallbacks=["spare"]) as world:
            for _ in range(6):
                await world.ask("broken")
        assert REGISTRY.get_sample_value("ai_provider_resting", {"provider": "open"}) == 1
        assert counted("ai_provider_spared_total", provider="open", reason="resting") > 0


def test_servers_of_tools_cannot_name_series_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatbot_chat.tools.toolbox._NAMES", set())
    labels = {_label(f"server_tool_{number}") for number in range(MOST_NAMES + 50)}
    assert len(labels) == MOST_NAMES + 1
    assert OTHER in labels
    assert _label("server_tool_0") == "server_tool_0"
