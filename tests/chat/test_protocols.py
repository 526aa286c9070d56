"""What a conversation with tools becomes in each protocol, and what a refusal says."""

from types import SimpleNamespace as Said
from typing import Any

import pytest
from anthropic.types import RawContentBlockDeltaEvent
from chatbot_chat.providers import (
    Finish,
    Message,
    ModelEvent,
    ModelRequest,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
    Written,
    anthropic_events,
)
from chatbot_chat.providers.anthropic_events import messages, parameters
from chatbot_chat.providers.counts import usage_of
from chatbot_chat.providers.openai_chunks import Reading, message, options, refused_option

CALLS = (ToolCall("1", "add", '{"a": 1}', {"google": {"thought_signature": "s"}}), ToolCall("2", "now", "not JSON"))
EXTRA = {"type": "extra_forbidden"}
TALK = [
    Message("system", "Be brief."),
    Message("user", "Add."),
    Message("assistant", "", CALLS),
    Message("tool", "3", tool_call_id="1"),
    Message("tool", "noon", tool_call_id="2"),
    Message("assistant", "  "),
    Message("user", "Thanks."),
]


class TestCounts:
    @pytest.mark.parametrize("count", [-1, 12.5, "12", True, 4294967295, [], None])
    def test_what_is_no_count_is_estimated(self, count: Any) -> None:
        assert usage_of({"prompt_tokens": count, "completion_tokens": 1}) is None
        assert usage_of({"prompt_tokens": 1, "completion_tokens": count}) == (None if count else Usage(1, 0))
        reading = Reading()
        assert not list(reading.events({"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": count}}))
        assert list(reading.end()) == [Finish("stop")]

    @pytest.mark.parametrize(
        ("total", "said"), [(1009, 1000), (12, 3), (None, 3), (0, 3), (-1, 3), (5, 3), ("1009", 3)]
    )
    def test_what_gemini_thinks_is_in_the_total_only(self, total: Any, said: int) -> None:
        assert usage_of({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": total}) == Usage(
            9, said, thoughts=said - 3
        )

    @pytest.mark.parametrize(
        ("details", "thoughts"), [({"reasoning_tokens": 2}, 2), ({"reasoning_tokens": 9}, 3), (5, 0)]
    )
    def test_what_a_model_thought(self, details: Any, thoughts: int) -> None:
        told = {"prompt_tokens": 9, "completion_tokens": 3, "completion_tokens_details": details}
        assert usage_of(told) == Usage(9, 3, thoughts=thoughts)

    @pytest.mark.parametrize(
        ("details", "cached"),
        [
            ({"cached_tokens": 6}, 6),
            ({"cached_tokens": None}, 0),
            ({"cached_tokens": -1}, 0),
            ({}, 0),
            (None, 0),
            (6, 0),
        ],
    )
    def test_what_the_provider_had_in_its_cache(self, details: Any, cached: int) -> None:
        told = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": details}
        assert usage_of(told) == Usage(9, 3, cached_input=cached)

    @pytest.mark.parametrize("told", [None, [], "12", {}, {"total_tokens": 3}])
    def test_who_counts_in_another_way_is_estimated(self, told: Any) -> None:
        assert usage_of(told) is None

    @pytest.mark.parametrize(
        ("asked", "said", "counted"), [(5, 7, Usage(11, 7, cached_input=6, thoughts=4)), (-1, 7, None), (5, "7", None)]
    )
    def test_of_anthropic(self, asked: Any, said: Any, counted: Usage | None) -> None:
        usage = {"input_tokens": asked, "cache_read_input_tokens": 6, "output_tokens": 1}
        started = Said(type="message_start", message=Said(usage=Said(cache_creation_input_tokens=None, **usage)))
        ended = Said(type="message_delta", delta=Said(stop_reason="end_turn"), usage=None)
        ended.usage = Said(output_tokens=said, output_tokens_details=Said(thinking_tokens=4))
        reading = anthropic_events.Reading()
        for event in (started, ended):
            assert not list(reading.events(event))
        assert list(reading.end()) == [*([counted] if counted else []), Finish("stop")]


class TestAnthropic:
    def test_results_of_one_round_are_one_turn(self) -> None:
        asked, called, results = messages(TALK)
        assert asked == {"role": "user", "content": [{"type": "text", "text": "Add."}]}
        assert [block["input"] for block in called["content"]] == [{"a": 1}, {}]
        assert [block["type"] for block in results["content"]] == ["tool_result", "tool_result", "text"]
        assert [block.get("tool_use_id") for block in results["content"]] == ["1", "2", None]

    def test_without_system_and_tools_neither_is_sent(self) -> None:
        assert set(parameters(ModelRequest("m", TALK[1:2], "Add."))) == {"model", "max_tokens", "messages"}

    def test_who_may_not_call_any_more_is_still_told_of_the_tools(self) -> None:
        tool = ToolSpec("add", "Adds.", {"type": "object"})
        asked = parameters(ModelRequest("m", TALK, "Add.", tools=(tool,), may_call=False))
        assert (asked["tools"][0]["name"], asked["tool_choice"]) == ("add", {"type": "none"})

    def test_empty_pieces_are_no_words(self) -> None:
        said = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ""}}
        assert list(anthropic_events.Reading().events(RawContentBlockDeltaEvent.model_validate(said))) == []

    def test_what_is_written_of_a_call_is_told_as_it_comes(self) -> None:
        block = Said(type="tool_use", id="1", name="add")
        begun = Said(type="content_block_start", index=0, content_block=block)
        piece = Said(type="content_block_delta", index=0, delta=Said(type="input_json_delta", partial_json='{"ä": 1}'))
        reading = anthropic_events.Reading()
        told = [event for said in (begun, piece) for event in reading.events(said)]
        assert told == [Written(3), Written(9)]
        [call] = reading.events(Said(type="content_block_stop", index=0))
        assert (call.name, call.arguments) == ("add", '{"ä": 1}')


class TestOpenAI:
    def test_who_may_not_call_any_more_is_still_told_of_the_tools(self) -> None:
        request = ModelRequest("m", TALK, "Add.", tools=(ToolSpec("add", "Adds.", {"type": "object"}),), may_call=False)
        assert options(request, set())["tool_choice"] == "none"
        assert not {"tools", "tool_choice"} & set(options(request, {"tools"}))

    @pytest.mark.parametrize(
        ("must_call", "sent"), [(True, "required"), ("add", {"type": "function", "function": {"name": "add"}})]
    )
    def test_who_has_to_call_is_told_so(self, must_call: bool | str, sent: object) -> None:
        tools = (ToolSpec("add", "Adds.", {"type": "object"}),)
        request = ModelRequest("m", TALK, "Add.", tools=tools, must_call=must_call)
        assert options(request, set())["tool_choice"] == sent
        assert not {"tools", "tool_choice"} & set(options(request, {"tools"}))

    def test_what_is_counted_with_every_chunk_is_told_once(self) -> None:
        reading = Reading()
        events: list[ModelEvent] = []
        for number, reason in enumerate((None, None, "stop")):
            choice = {"index": 0, "delta": {"content": "word"}, "finish_reason": reason}
            usage = {"prompt_tokens": 11, "completion_tokens": number, "total_tokens": 11 + number}
            body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gemini"}
            events += reading.events(body | {"choices": [choice], "usage": usage})
        assert [*events, *reading.end()] == [TextDelta("word")] * 3 + [Usage(11, 2), Finish("stop")]

    def test_calls_and_results_name_each_other(self) -> None:
        called, result = message(TALK[2]), message(TALK[3])
        assert called["content"] is None
        assert [call["id"] for call in called["tool_calls"]] == ["1", "2"]
        assert [call.get("extra_content") for call in called["tool_calls"]] == [CALLS[0].extra, None]
        assert result == {"role": "tool", "content": "3", "tool_call_id": "1"}

    @pytest.mark.parametrize(
        ("body", "refused"),
        [
            ({"param": "temperature", "code": "unsupported_value"}, "temperature"),
            ({"param": "temperature", "code": None, "type": "UnsupportedParamsError"}, "temperature"),
            ({"message": {"detail": [EXTRA | {"loc": ["body", "max_tokens"]}]}}, "max_tokens"),
            ({"detail": [EXTRA | {"loc": ["messages", 0]}, EXTRA | {"loc": ["body", "temperature"]}]}, "temperature"),
            ({"param": "tools", "code": "unsupported_parameter"}, "tools"),
            ({"message": "registry.ollama.ai/library/gemma:2b does not support tools"}, "tools"),
            ({"message": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser'}, "tools"),
            ({"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}, "tools"),
            ({"message": "Invalid schema for function 'x': 'oneOf' is not permitted."}, None),
            ({"message": "tools.0.custom: property 'minimum' is not supported"}, None),
            ({"message": "Invalid 'tools[0].function.name': spaces are not supported."}, None),
            ({"param": "messages", "code": "unsupported_value"}, None),
            ({"param": "max_completion_tokens", "code": "unsupported_parameter"}, None),
            # About this question only:
            ({"param": "max_tokens", "code": "invalid_value", "type": "invalid_request_error"}, None),
            ({"param": "temperature", "code": None, "type": "invalid_request_error"}, None),
            ({"detail": [{"type": "less_than_equal", "loc": ["body", "max_tokens"]}]}, None),
            ({"param": ["temperature"], "code": "unsupported_value"}, None),
            ("<html>", None),
            (None, None),
        ],
    )
    def test_which_option_was_refused(self, body: object, refused: str | None) -> None:
        sent = {"temperature": 1, "max_tokens": 2, "max_completion_tokens": 2, "tools": []}
        assert refused_option(body, sent) == refused
