"""Anthropic's protocol in both directions. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from anthropic.types import RawContentBlockDeltaEvent, RawMessageStreamEvent

from chatbot_chat.providers import (
    Finish,
    Message,
    ModelEvent,
    ModelRequest,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    Usage,
    Written,
)
from chatbot_chat.providers.counts import count_of
from chatbot_chat.providers.text import whole_characters
from chatbot_chat.providers.thoughts import THOUGHTS, thoughts_of
from chatbot_chat.tokens import size_of

EFFORT = "reasoning_effort"
_REASONS: Mapping[str, Literal["stop", "length", "content_filter", "tool_calls"]] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "tool_use": "tool_calls",
}


def parameters(request: ModelRequest) -> dict[str, Any]:
    """The request. It has no temperature: the API of 2026-10-21 no longer knows one."""
    told: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": messages(request.messages),
    }
    if system := "\n\n".join(item.content for item in request.messages if item.role == "system" and item.content):
        told["system"] = system
    if request.stop:
        told["stop_sequences"] = list(request.stop)
    config = {"effort": effort} if (effort := request.asked.get(EFFORT)) else {}
    if request.format:
        config["format"] = {"type": "json_schema", "schema": request.format["json_schema"]["schema"]}
    if config:
        told["output_config"] = config
    if request.tools:
        told["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
            | ({"strict": True} if tool.strict else {})
            for tool in request.tools
        ]
        if choice := _choice(request):
            told["tool_choice"] = choice
    return told


def _choice(request: ModelRequest) -> dict[str, Any]:
    """Empty where the model may do as it likes."""
    if not request.may_call:
        return {"type": "none"}
    one = {} if request.parallel else {"disable_parallel_tool_use": True}
    match request.must_call:
        case str(name):
            return {"type": "tool", "name": name} | one
        case True:
            return {"type": "any"} | one
        case _:
            return {"type": "auto"} | one if one else {}


def unforced(told: dict[str, Any]) -> dict[str, Any]:
    """The request with a wish in the place of a must."""
    choice = told.get("tool_choice", {})
    if choice.get("type") not in ("any", "tool"):
        return told
    return told | {"tool_choice": {key: value for key, value in choice.items() if key != "name"} | {"type": "auto"}}


def refuses_force(said: str) -> bool:
    """Whether a refusal says, in words alone, that this model cannot be made to call a tool."""
    words = said.lower()
    return "tool_choice" in words and any(word in words for word in ("thinking", "not support", "unsupported"))


def messages(items: Sequence[Message]) -> list[dict[str, Any]]:
    """Turns of user and assistant, each a list of blocks. Empty text is refused, and so is left out."""
    turns: list[dict[str, Any]] = []
    for item in items:
        blocks = _blocks(item)
        role = "assistant" if item.role == "assistant" else "user"
        if item.role == "system" or not blocks:
            continue
        if turns and turns[-1]["role"] == role:  # results of one round of calls belong into one turn
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(item: Message) -> list[dict[str, Any]]:
    if item.role == "tool":
        return [{"type": "tool_result", "tool_use_id": item.tool_call_id, "content": item.content}]
    blocks: list[dict[str, Any]] = [{"type": "text", "text": item.content}] if item.content.strip() else []
    for number, call in enumerate(item.tool_calls):
        thoughts = thoughts_of(call.extra)
        blocks = blocks + thoughts if number else thoughts + blocks  # a turn that was thought about begins with that
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": _arguments(call)})
    return blocks


def _arguments(call: ToolCall) -> dict[str, Any]:
    try:
        found = json.loads(call.arguments or "{}")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def speaks(event: RawMessageStreamEvent) -> bool:
    return event.type in ("content_block_start", "content_block_delta")


class Reading:
    """Events of one answer. A tool call is told when its last piece is there."""

    def __init__(self) -> None:
        self._calls: dict[int, ToolCall] = {}
        self._thoughts: dict[int, dict[str, str]] = {}
        """Blocks since the last call."""
        self._asked: tuple[object, ...] = (None,)
        """New tokens, those put into a cache, and last those that were read from one."""
        self._said: object = 0
        self._thought: object = 0
        self._reason: str | None = None

    def events(self, event: RawMessageStreamEvent) -> Iterator[ModelEvent]:
        match event.type:
            case "message_start":
                usage = event.message.usage
                cached = usage.cache_creation_input_tokens or 0, usage.cache_read_input_tokens or 0
                self._asked, self._said = (usage.input_tokens, *cached), usage.output_tokens or 0
            case "content_block_start":
                block = event.content_block
                if block.type == "tool_use":
                    extra = {THOUGHTS: [*self._thoughts.values()]} if self._thoughts else None
                    self._calls[event.index], self._thoughts = ToolCall(block.id, block.name, "", extra), {}
                    yield Written(size_of(block.name))
                elif block.type == "thinking":
                    told = {"thinking": block.thinking or "", "signature": block.signature or ""}
                    self._thoughts[event.index] = {"type": block.type} | told
                elif block.type == "redacted_thinking":
                    self._thoughts[event.index] = {"type": block.type, "data": block.data}
            case "content_block_delta":
                yield from self._delta(event)
            case "content_block_stop":
                if call := self._calls.pop(event.index, None):
                    yield call
            case "message_delta":
                self._reason = event.delta.stop_reason or self._reason
                self._said = event.usage.output_tokens or self._said
                if details := event.usage.output_tokens_details:
                    self._thought = details.thinking_tokens
            case "message_stop":
                pass

    def _delta(self, event: RawContentBlockDeltaEvent) -> Iterator[ModelEvent]:
        match event.delta.type:
            case "text_delta":
                if event.delta.text:
                    yield TextDelta(whole_characters(event.delta.text))
            case "thinking_delta":
                self._think(event.index, "thinking", event.delta.thinking)
                if event.delta.thinking:
                    yield ReasoningDelta(whole_characters(event.delta.thinking))
            case "signature_delta":
                self._think(event.index, "signature", event.delta.signature)
            case "input_json_delta":
                if call := self._calls.get(event.index):
                    self._calls[event.index] = replace(call, arguments=call.arguments + event.delta.partial_json)
                    yield Written(size_of(event.delta.partial_json))

    def _think(self, index: int, name: str, more: str) -> None:
        if thought := self._thoughts.get(index):
            thought[name] += more

    @property
    def finished(self) -> bool:
        """Whether the model said why it ended; else the stream just stopped."""
        return self._reason is not None

    def end(self) -> Iterator[ModelEvent]:
        """What is left when the stream is over."""
        asked, said = [count for told in self._asked if (count := count_of(told)) is not None], count_of(self._said)
        if len(asked) == len(self._asked) and said is not None:
            thoughts = min(count_of(self._thought) or 0, said)
            yield Usage(sum(asked), said, cached_input=asked[-1], thoughts=thoughts)
        yield Finish(_REASONS.get(self._reason or "", "stop"))
