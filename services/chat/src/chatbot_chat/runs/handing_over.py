"""Turns of `/v1/responses` whose client brings its own tools: the model's calls of them end the turn.

What comes of a call arrives with a response of its own, a turn that answers the same question; its options have all
that was called and told so far. So a conversation has each question once, and its newest answer.
"""

import json
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from chatbot_chat.conversation_client import Knowledge, Options, Turn
from chatbot_chat.prompt import Prepare, ToolUse, build_request, weight_beside
from chatbot_chat.providers import NO_ARGUMENTS, Message, ModelRequest, ToolCall, ToolSpec
from chatbot_chat.providers.held import parted
from chatbot_chat.settings import ModelSettings
from chatbot_chat.tokens import estimate_tokens

_MESSAGES = TypeAdapter(list[Message])


def handed(call: ToolCall) -> dict[str, Any]:
    """A call that is the client's to make. What its provider wants back with it comes back from there, or from here."""
    made = {"tool_call_id": call.id, "name": call.name, "arguments": call.arguments}
    return made | ({"extra_content": dict(call.extra)} if call.extra else {})


def handing_over(turn: Turn, options: Options, knowledge: Knowledge) -> Prepare:
    """How a raw model is asked whose calls nobody here makes. Results of calls reach it as they are, and whole."""
    asked, wishes = parted(options.asked)
    exchange = _MESSAGES.validate_python(options.exchange)
    tools = tuple(
        ToolSpec(
            tool["name"],
            tool.get("description") or "",
            tool.get("parameters") or NO_ARGUMENTS,
            tool.get("strict") is True,
        )
        for tool in options.tools
    )
    taken = estimate_tokens(json.dumps([options.exchange, options.tools]))

    def prepare(settings: ModelSettings, use: ToolUse) -> ModelRequest:
        request = build_request(
            settings.model_copy(update={"context_window": settings.context_window - taken}),
            system="",
            question=turn.text,
            history=turn.history,
            knowledge=knowledge,
            instructions=options.instructions,
            pinned=options.sent,
            max_tokens=options.max_output_tokens,
            beside=weight_beside(asked, options.format),
        )
        messages = [*request.messages, *exchange]
        return replace(
            request,
            messages=messages,
            asked=asked,
            wishes=wishes,
            tools=tools,
            may_call=options.may_call,
            must_call=options.must_call,
            parallel=options.parallel_tool_calls,
            format=options.format,
        )

    return prepare
