"""What a conversation with tools becomes in each protocol, and what a refusal says."""

import pytest
from chatbot_chat.providers import Message, ModelRequest, ToolCall
from chatbot_chat.providers.anthropic_events import messages, parameters
from chatbot_chat.providers.openai_chunks import message, refused_option

CALLS = (ToolCall("1", "add", '{"a": 1}', {"google": {"thought_signature": "s"}}), ToolCall("2", "now", "not JSON"))
TALK = [
    Message("system", "Be brief."),
    Message("user", "Add."),
    Message("assistant", "", CALLS),
    Message("tool", "3", tool_call_id="1"),
    Message("tool", "noon", tool_call_id="2"),
    Message("assistant", "  "),
    Message("user", "Thanks."),
]


class TestAnthropic:
    def test_results_of_one_round_are_one_turn(self) -> None:
        asked, called, results = messages(TALK)
        assert asked == {"role": "user", "content": [{"type": "text", "text": "Add."}]}
        assert [block["input"] for block in called["content"]] == [{"a": 1}, {}]
        assert [block["type"] for block in results["content"]] == ["tool_result", "tool_result", "text"]
        assert [block.get("tool_use_id") for block in results["content"]] == ["1", "2", None]

    def test_without_system_and_tools_neither_is_sent(self) -> None:
        assert set(parameters(ModelRequest("m", TALK[1:2], "Add."))) == {"model", "max_tokens", "messages"}


class TestOpenAI:
    def test_calls_and_results_name_each_other(self) -> None:
        called, result = message(TALK[2]), message(TALK[3])
        assert called["content"] is None
        assert [call["id"] for call in called["tool_calls"]] == ["1", "2"]
        assert [call.get("extra_content") for call in called["tool_calls"]] == [CALLS[0].extra, None]
        assert result == {"role": "tool", "content": "3", "tool_call_id": "1"}

    @pytest.mark.parametrize(
        ("param", "body", "refused"),
        [
            ("temperature", None, "temperature"),
            (None, {"message": {"detail": [{"loc": ["body", "max_tokens"]}]}}, "max_tokens"),
            (None, {"detail": [{"loc": ["body", "messages", 0]}, {"loc": ["body", "temperature"]}]}, "temperature"),
            ("tools", None, None),
            ("messages", {"detail": "no"}, None),
            (None, "<html>", None),
        ],
    )
    def test_which_option_was_refused(self, param: str | None, body: object, refused: str | None) -> None:
        assert refused_option(param, body, {"temperature": 1, "max_tokens": 2, "tools": []}) == refused
