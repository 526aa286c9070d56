"""A raw model's request where we word it ourselves: the client's messages and tools, as they are. Pure."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatbot_common.errors import InvalidRequest

from chatbot_chat.agent import unanswered
from chatbot_chat.conversation_client import Knowledge
from chatbot_chat.openai_api.schema import ChatMessage, CompletionRequest
from chatbot_chat.prompt import PromptTooLong, answer_budget, weight_of
from chatbot_chat.providers import NO_ARGUMENTS, Message, ModelRequest, ToolCall, ToolSpec
from chatbot_chat.providers.held import parted, unheld
from chatbot_chat.providers.thoughts import thoughts_of
from chatbot_chat.settings import ModelSettings

NO_NAMES: Mapping[str, str] = {}


class Refused(InvalidRequest):
    """Names the field, as OpenAI's clients show it."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail, errors=[{"pointer": f"/{field}", "detail": detail}])


def raw_request(settings: ModelSettings, request: CompletionRequest, knowledge: Knowledge) -> ModelRequest:
    """Nothing is left out and nothing added.

    Raises:
        Refused: messages or tools do not fit together. PromptTooLong: they do not fit into the model's window.
    """
    messages = [_message(item) for item in request.messages]
    questions = [item.content for item in messages if item.role == "user"]
    if messages[-1].role not in ("user", "tool") or not questions:
        raise Refused("messages", "The last message must be a user's text, or the result of a tool.")
    if missing := unanswered(messages):
        raise Refused("messages", f"The result of tool call {missing[0].id!r} is missing.")
    tools = tuple(map(_tool, request.tools or ()))
    may_call, must_call = _choice(request.tool_choice, tools)
    asked, wishes = parted(request.asked)
    made = ModelRequest(
        model=settings.name,
        messages=messages,
        question=questions[-1],
        knowledge=knowledge,
        max_tokens=answer_budget(settings, request.answer_tokens),
        asked=asked,
        wishes=wishes,
        stop=request.stops,
        tools=tools,
        may_call=may_call,
        must_call=must_call,
        parallel=request.parallel,
        format=request.format,
    )
    if (needed := weight_of(made)) > settings.context_window:
        raise PromptTooLong(
            f"The request has about {needed} tokens, with its tools and the form of the answer; "
            f"{settings.name} takes {settings.context_window}."
        )
    return made


def format_of(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """`response_format` as chat completions have it, of the one that responses have; None is plain text."""
    kind = (told or {}).get("type", "text")
    if not told or kind == "text":
        return None
    rest = {name: value for name, value in told.items() if name != "type" and value is not None}
    return {"type": kind} | ({kind: rest} if kind == "json_schema" else {})


def functions_of(tools: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Tools as chat completions have them, of those that responses have."""
    return [
        {
            "type": tool["type"],
            "function": {name: value for name, value in tool.items() if name != "type" and value is not None},
        }
        for tool in tools or ()
    ] or None


def choice_of(wanted: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """The same for `tool_choice`."""
    if isinstance(wanted, dict) and "name" in wanted:
        return {"type": wanted.get("type"), "function": {"name": wanted["name"]}}
    return wanted


@dataclass(frozen=True)
class Holding:
    """To what a model can be held where its answer is worded here."""

    formats: Collection[str]
    protocols: Collection[str]
    """What is spoken to it."""
    assistant: bool = False

    @property
    def stops(self) -> bool:
        """Whether its answer can be made to end before a text."""
        return set(self.protocols) <= {"openai", "anthropic"}


def refuse_unheld(request: CompletionRequest, holding: Holding, names: Mapping[str, str] = NO_NAMES) -> None:
    """What only a provider that is passed the request can hold: better no answer than one to another question.

    Args:
        names: of fields that the client's API calls otherwise than chat completions do.

    Raises:
        Refused: names the first such field.
    """
    for message in request.messages:
        if message.others:
            raise Refused("messages", f"Model {request.model!r} reads text here, and no {message.others[0]!r}.")
    if found := unheld(holding.protocols, request.asked, assistant=holding.assistant):
        field = names.get(found[0], found[0])
        raise Refused(field, f"Model {request.model!r} cannot be held to {field!r} here: {found[1]}.")
    if request.stops and not holding.stops:
        raise Refused("stop", f"Model {request.model!r} cannot be held to 'stop' here: leave it out.")
    _refuse_format(names.get("response_format", "response_format"), request.model, request.format, holding.formats)


def _refuse_format(field: str, model: str, told: Mapping[str, Any] | None, formats: Collection[str]) -> None:
    """`told` is as chat completions have it. Raises `Refused`, naming the field."""
    if told is None:
        return
    kind = str(told.get("type"))
    if kind not in formats:
        raise Refused(
            field, f"Model {model!r} answers in plain text here; it cannot be held to the format {kind[:40]!r}."
        )
    match told:
        case {"type": "json_schema", "json_schema": {"name": str(), "schema": Mapping()}} | {"type": "json_object"}:
            return
    raise Refused(field, "A format of type json_schema has a name and a schema.")


def refuse_forced_tools(request: CompletionRequest) -> None:
    """For who does not call the client's tools: it may offer them, and cannot insist. Raises `Refused`."""
    if request.tool_choice not in (None, "auto", "none"):
        raise Refused("tool_choice", f"Model {request.model!r} does not call tools of the client.")


def _message(item: ChatMessage) -> Message:
    match item.role:
        case "system" | "developer":
            return Message("system", item.text)
        case "user":
            return Message("user", item.text)
        case "assistant":
            return Message("assistant", item.text, tuple(map(_call, item.tool_calls or ())))
        case "tool" if item.tool_call_id:
            return Message("tool", item.text, tool_call_id=item.tool_call_id)
        case _:
            raise Refused("messages", f"Messages of role {item.role[:40]!r} are not understood, or lack tool_call_id.")


def _call(call: Mapping[str, Any]) -> ToolCall:
    match call:
        case {"id": str(name), "function": {"name": str(tool), "arguments": str(arguments)}}:
            return ToolCall(name, tool, arguments, _extra(call.get("extra_content")))
        case _:
            raise Refused("messages", "A tool call has an id, and a function with name and arguments.")


def _extra(told: object) -> Mapping[str, Any] | None:
    extra = told if isinstance(told, Mapping) else None
    try:
        thoughts_of(extra)
    except ValueError as error:
        raise Refused("messages", f"A tool call's extra_content goes back as it came: {error}.") from error
    return extra


def _tool(tool: Mapping[str, Any]) -> ToolSpec:
    match tool:
        case {"type": "function", "function": {"name": str(name), **rest}}:
            parameters = rest.get("parameters") or NO_ARGUMENTS
            if isinstance(parameters, Mapping):
                return ToolSpec(name, str(rest.get("description") or ""), parameters, rest.get("strict") is True)
    raise Refused("tools", f"This is no tool of type function: {json.dumps(tool)[:80]}")


def _choice(wanted: object, tools: tuple[ToolSpec, ...]) -> tuple[bool, bool | str]:
    """Whether the model may call, and whether it must: any tool, or the named one."""
    match wanted:
        case None | "auto":
            return True, False
        case "none":
            return False, False
        case "required" if tools:
            return True, True
        case {"type": "function", "function": {"name": str(name)}} if name in {tool.name for tool in tools}:
            return True, name
        case _:
            raise Refused("tool_choice", "This is auto, none, required, or names one of the tools.")
