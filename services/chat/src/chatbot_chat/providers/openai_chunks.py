"""OpenAI's protocol in both directions, as every compatible server speaks it. Pure.

A chunk is read as the JSON that it is: the SDK's models of it cost a third of a millisecond each, of some hundred in an
answer, and promise what compatible servers do not hold.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from chatbot_chat.providers import (
    Finish,
    Message,
    ModelEvent,
    ModelRequest,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
    Written,
)
from chatbot_chat.providers.counts import usage_of
from chatbot_chat.providers.held import ONE_TOOL
from chatbot_chat.providers.text import whole_characters
from chatbot_chat.tokens import size_of

Chunk = Mapping[str, Any]
"""A `chat.completion.chunk`. What is not shaped like one raises `TypeError`, `AttributeError` or `ValueError`."""

_REASONS: Mapping[str, Literal["stop", "length", "content_filter", "tool_calls"]] = {
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
}
_REASONING = ("reasoning_content", "reasoning")
"""Where compatible servers put what a model thinks; OpenAI itself does not show it."""
_UNKNOWN = ("unsupported", "not_supported", "unknown", "unrecognized", "unexpected", "extra")
"""What is in the code or the type of an error about a parameter that the model does not take, whatever its value."""
_UNTAKEN = r"\b(?:unknown|unsupported|unrecognized|unexpected|extra|deprecated|not (?:support|permitted))"
"""The same in words."""
_BOUNDS = ("max_tokens", "max_completion_tokens")
_NEEDED = ("max_completion_tokens", "response_format")
"""Never left out: an answer must be bounded, and one in another format is none."""
UNSIGNED = "unsigned tool calls"
"""What a model refuses that wants each call signed, by itself."""
_FOREIGN: Mapping[str, Any] = {"google": {"thought_signature": "skip_thought_signature_validator"}}
"""What Google has for the calls of others: https://ai.google.dev/gemini-api/docs/thought-signatures"""
_TOOLS = re.compile(r"\btools?\b|tool[-_ ]|function[-_ ]?call", re.IGNORECASE)
_LACKING = re.compile(r"support|requires? --", re.IGNORECASE)


def options(request: ModelRequest, refused: Collection[str]) -> dict[str, Any]:
    """Parameters that servers and models disagree about, without those of ours, and wishes, that this one has refused.

    What the client has asked for goes as it was asked: this one is held to it, or says that it cannot be.

    `max_tokens` is the bound that every server knows; OpenAI's reasoning models insist on the newer name and on their
    own temperature, and Mistral counts tokens without being asked to.
    """
    bound = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
    wanted: dict[str, Any] = {bound: request.max_tokens, "stream_options": {"include_usage": True}, **request.wishes}
    if request.stop:
        wanted["stop"] = list(request.stop)
    if request.format:
        wanted["response_format"] = dict(request.format)
    if request.tools:
        wanted["tools"] = [_tool(tool) for tool in request.tools]
        if not request.may_call and "tools" not in refused:
            wanted["tool_choice"] = "none"
        elif request.must_call and "tools" not in refused:
            named = {"type": "function", "function": {"name": request.must_call}}
            wanted["tool_choice"] = "required" if request.must_call is True else named
        if not request.parallel and "tools" not in refused:
            wanted["parallel_tool_calls"] = False
    return {name: value for name, value in wanted.items() if name not in refused} | dict(request.asked)


def blamed(body: object, sent: Collection[str]) -> str | None:
    """Which of these a refusal names in `param` or `loc`: the model does not know it, or not this value of it."""
    return next((name for name in _named(body) if name in sent), None)


def mentioned(body: object, sent: Collection[str]) -> str | None:
    """The same in words alone, as Groq, Gemini and some of OpenAI's models have it."""
    return next((name for name in sent if re.search(rf"\b{re.escape(name)}\b", str(body))), None)


def unwanted(body: object, sent: Collection[str]) -> str | None:
    """Which of these it says, in words alone, that it does not know: a `user` has a part in other refusals, too."""
    return next((name for name in sent if _said_of(name).search(str(body))), None)


def _said_of(name: str) -> re.Pattern[str]:
    name, near = rf"\b{re.escape(name)}\b", ".{0,40}"
    return re.compile(f"{name}{near}{_UNTAKEN}|{_UNTAKEN}{near}{name}", re.IGNORECASE | re.DOTALL)


def added(body: Mapping[str, Any], longest: int | None, refused: set[str]) -> dict[str, Any]:
    """What we add to a client's own request: a stream counts, and where `longest` is given the answer has a bound."""
    wanted: dict[str, Any] = {}
    if body.get("stream") and not (body.get("stream_options") or {}).get("include_usage"):
        wanted["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    if longest is not None and not any(body.get(name) for name in _BOUNDS):
        wanted[next((name for name in _BOUNDS if name not in refused), _BOUNDS[-1])] = longest
    return {name: value for name, value in wanted.items() if name not in refused}


def refused_option(body: object, sent: Mapping[str, Any]) -> str | None:
    """Which of the options the model does not know, as a 400 or 422 says; None where it is about something else.

    OpenAI names it in `param`, others in FastAPI's `loc`. What a wrong value of one question is to blame for teaches
    nothing about the next.
    """
    named = next((name for name in _unknown(body) if name in sent and name not in _NEEDED), None)
    return named or ("tools" if "tools" in sent and _lacks_tools(body) else None)


def _lacks_tools(body: object) -> bool:
    """Whether an error says that the model, or its server as it was started, has no tools. No two word it alike:
    Ollama "does not support tools", vLLM "tool choice requires --enable-auto-tool-choice", llama.cpp "tools param
    requires --jinja flag", OpenRouter "No endpoints found that support tool use"."""
    said = str(body)
    return bool(_TOOLS.search(said) and _LACKING.search(said) and not ONE_TOOL.search(said))


def _unknown(body: object) -> Iterator[str]:
    """Names in errors that say that the model does not know them."""
    return _named(body, _UNKNOWN)


def _named(body: object, words: Sequence[str] = ("",)) -> Iterator[str]:
    """Names in `param` and `loc` (`["body", "stream_options", "include_usage"]`) of errors whose `code` or `type` has
    one of these words in it, at whatever depth."""
    if isinstance(body, Mapping):
        if any(word in f"{body.get('code')} {body.get('type')}".lower() for word in words):
            location = body.get("loc")
            names = [body.get("param"), *(location if isinstance(location, list) else ())]
            yield from (name for name in names if isinstance(name, str))
        for value in body.values():
            yield from _named(value, words)
    elif isinstance(body, list):
        for value in body:
            yield from _named(value, words)


def message(item: Message, refused: Collection[str] = ()) -> dict[str, Any]:
    """`refused` may have `UNSIGNED`: then a call of somebody else's is marked as one."""
    if item.role == "tool":
        return {"role": "tool", "content": item.content, "tool_call_id": item.tool_call_id}
    if not item.tool_calls:
        return {"role": item.role, "content": item.content}
    return {"role": item.role, "content": item.content or None, "tool_calls": _calls(item.tool_calls, refused)}


def _calls(calls: Sequence[ToolCall], refused: Collection[str]) -> list[dict[str, Any]]:
    """Of several at once Gemini signs the first."""
    foreign = UNSIGNED in refused and not any(call.extra for call in calls)
    return [_call(call, _FOREIGN if foreign and call is calls[0] else call.extra) for call in calls]


def _call(call: ToolCall, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    told = {"id": call.id, "type": "function", "function": function}
    return told | ({"extra_content": dict(extra)} if extra else {})


def lacks_signature(body: object) -> bool:
    """Whether an error says that a call has not been signed: another model made it, before this one was asked."""
    return "missing a thought_signature" in str(body)


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function | ({"strict": True} if tool.strict else {})}


def speaks(chunk: Chunk) -> bool:
    """Whether the chunk holds part of the answer, not only a role or a count."""
    delta = _delta(chunk)
    return bool(delta.get("content") or delta.get("tool_calls") or _reasoning(delta))


def begins(events: bytes) -> bool:
    """Whether the model speaks in these, of a stream that is only passed on. What is no known silence is speech."""
    return any(_is_spoken(line) for line in events.splitlines() if line.startswith(b"data:"))


def _is_spoken(line: bytes) -> bool:
    try:
        chunk = json.loads(line.removeprefix(b"data:"))
        return "choices" not in chunk or any(map(_says, chunk["choices"]))
    except (ValueError, TypeError, AttributeError):
        return True


def _says(choice: Chunk) -> bool:
    """More than whose turn it is."""
    said = choice.get("delta") or {}
    return bool(choice.get("finish_reason") or any(value for name, value in said.items() if name != "role"))


class Reading:
    """Events of one answer, chunk by chunk. Tool calls arrive in pieces, and are told whole at the end."""

    def __init__(self) -> None:
        self._calls: dict[int, ToolCall] = {}
        self._reason: str | None = None
        self._usage: Usage | None = None

    def events(self, chunk: Chunk) -> Iterator[ModelEvent]:
        # Gemini counts with every chunk, from the beginning: the last one holds.
        self._usage = usage_of(chunk.get("usage")) or self._usage
        delta = _delta(chunk)
        if thought := _reasoning(delta):
            yield ReasoningDelta(whole_characters(thought))
        if text := _text(delta.get("content")):
            yield TextDelta(whole_characters(text))
        if pieces := delta.get("tool_calls"):
            yield Written(sum(map(self._add, pieces)))
        self._reason = _choice(chunk).get("finish_reason") or self._reason

    def _add(self, piece: Mapping[str, Any]) -> int:
        """A call's first piece names it. Servers that send calls whole leave the index out, or give each the same.

        Returns:
            Bytes of what it adds.
        """
        last, named = max(self._calls, default=-1), piece.get("id")
        index = last if piece.get("index") is None else int(piece["index"])
        if named and index in self._calls and self._calls[index].id != named:
            index = last + 1
        index = max(index, 0)
        known = self._calls.get(index, ToolCall(named or f"call_{index}", "", ""))
        said = piece.get("function") or {}
        name, arguments = said.get("name") or "", said.get("arguments") or ""
        extra = piece.get("extra_content") or known.extra
        self._calls[index] = ToolCall(known.id, known.name or name, known.arguments + arguments, extra)
        return size_of(name + arguments)

    @property
    def finished(self) -> bool:
        """Whether the model said why it ended; else the stream just stopped."""
        return self._reason is not None

    def end(self) -> Iterator[ModelEvent]:
        """What is left when the stream is over."""
        yield from (self._calls[index] for index in sorted(self._calls))
        if self._usage:
            yield self._usage
        reason = _REASONS.get(self._reason or "", "stop")
        yield Finish("tool_calls" if self._calls and reason == "stop" else reason)  # Gemini says `stop` then too


def _choice(chunk: Chunk) -> Mapping[str, Any]:
    """The first choice, empty in a chunk that only counts."""
    choices = chunk.get("choices")
    return choices[0] if choices else {}


def _delta(chunk: Chunk) -> Mapping[str, Any]:
    return _choice(chunk).get("delta") or {}


def _reasoning(delta: Mapping[str, Any]) -> str:
    return next((text for name in _REASONING if isinstance(text := delta.get(name), str) and text), "")


def _text(content: object) -> str:
    """Mistral's reasoning models send a list of parts, of which some are thoughts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if part.get("type") == "text")
    return str(content or "")
