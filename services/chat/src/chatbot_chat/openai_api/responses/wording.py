"""Responses as OpenAI words them: whole, and as events. Pure.

An event's number follows from what was said before it and from nothing else: whoever tells a run again, on whichever
replica, gives the same numbers. Where the run's log is gone, only how it ended is told again, with all its text.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

from chatbot_common.errors import TYPE_PREFIX, Problem
from chatbot_common.ids import uuid7

from chatbot_chat.conversation_client import Options, Turn
from chatbot_chat.openai_api.completion import annotations_of
from chatbot_chat.openai_api.responses.schema import renamed
from chatbot_chat.providers.held import parted
from chatbot_chat.runs.events import Event, cut, failure

PREFIX = "resp_"
INTERRUPTED = "The answer was interrupted; ask again."
BUSY = ("provider-overloaded", "budget-used-up", "budget-held")

State = Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]
Cut = Literal["max_output_tokens", "content_filter"]
CUTS: Mapping[str, Cut] = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""By the reason for which a model ended."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Ending:
    """How a response ended. `usage` is as `Usage` has it, `error` is `{type, title}`."""

    state: State
    text: str = ""
    citations: Sequence[Json] = ()
    usage: Json | None = None
    error: dict[str, str] | None = None
    cut: Cut | None = None
    """Why there is not more of it."""
    calls: Sequence[Json] = ()
    """Of the client's tools: `{tool_call_id, name, arguments, extra_content?}`."""


@dataclass(frozen=True)
class Response:
    """What all events of one response share. `run_id` is a turn's where it is stored."""

    run_id: UUID
    options: Options
    stored: bool = False
    conversation_id: UUID | None = None

    @property
    def id(self) -> str:
        return f"{PREFIX}{self.run_id.hex}"

    @property
    def item_id(self) -> str:
        return f"msg_{self.run_id.hex}"

    def body(self, ending: Ending) -> Json:
        options, usage = self.options, ending.usage
        asked, _ = parted(options.asked, assistant=not options.raw)  # who answers may leave wishes out
        state = "incomplete" if ending.state == "completed" and ending.cut else ending.state
        said = state != "in_progress" and (ending.text or (state == "completed" and not ending.calls))
        calls = [self.call(number, call) for number, call in enumerate(ending.calls)]
        return {
            "id": self.id,
            "object": "response",
            "created_at": (self.run_id.int >> 80) // 1000,  # UUIDv7 begins with the milliseconds since 1970
            "status": state,
            "background": options.background,
            "error": _error(ending.error),
            "incomplete_details": {"reason": ending.cut} if state == "incomplete" else None,
            "instructions": options.instructions,
            "max_output_tokens": options.max_output_tokens,
            "max_tool_calls": options.max_tool_calls,
            "metadata": options.metadata,
            "model": options.model,
            "output": [*([self.message(ending)] if said else []), *calls],
            "parallel_tool_calls": options.parallel_tool_calls,
            "previous_response_id": options.previous_response_id,
            "conversation": {"id": str(self.conversation_id)} if self.conversation_id else None,
            "store": self.stored,
            "reasoning": {"effort": asked.get("reasoning_effort"), "summary": None},
            "temperature": asked.get("temperature"),
            "text": {"format": _format(options.format), "verbosity": asked.get("verbosity")},
            "tool_choice": options.tool_choice or "auto",
            "tools": [{"parameters": None, "strict": None} | tool for tool in options.tools],
            "top_p": asked.get("top_p"),
            "truncation": "auto" if self.stored or not options.raw else "disabled",
            "usage": _usage(usage) if usage else None,
        }

    def handed_over(self, ending: Ending, calls: Sequence[Json]) -> Ending:
        """With the calls that are for the client to make: none of the assistant's, who has made them itself."""
        return replace(ending, calls=calls) if self.options.tools else ending

    def message(self, ending: Ending) -> Json:
        state = "completed" if ending.state == "completed" and not ending.cut else "incomplete"
        return self.item(state, [_part(ending.text, ending.citations)])

    def item(self, state: str, content: list[Json]) -> Json:
        return {"id": self.item_id, "type": "message", "status": state, "role": "assistant", "content": content}

    def call(self, number: int, call: Json, state: str = "completed") -> Json:
        """The `number`-th call of a tool of the client; its arguments come while it is `in_progress`."""
        whole = {"id": f"fc_{self.run_id.hex}_{number}", "type": "function_call", "status": state, "name": call["name"]}
        told = whole | {"call_id": call["tool_call_id"], "arguments": call["arguments"] if state == "completed" else ""}
        return told | ({"extra_content": call["extra_content"]} if call.get("extra_content") else {})


class Telling:
    """One response, told as it happens. Each method gives the events that follow from what it is told."""

    def __init__(self, response: Response, after: int = -1) -> None:
        """`after` is the number of the last event that the client has seen."""
        self._response = response
        self._after = after
        self._next = 0
        self._open = False
        self.text = ""
        self._citations: list[Json] = []
        self._usage: Json | None = None
        self._calls: list[Json] = []
        self.ending: Ending | None = None

    def heard(self, event: Event) -> list[Json]:
        """What an event of the run comes to, as far as the client has not seen it."""
        told = list(self._heard(event))
        return [item for item in told if item["sequence_number"] > self._after]

    def _heard(self, event: Event) -> Iterator[Json]:
        match event.type:
            case "run.started":
                yield from self.begin()
            case "run.snapshot":
                self._calls = calls_of(event.data["parts"])
                yield from self._catch_up(event.data["text"])
            case "tool.started":
                self._calls.append(event.data)
            case "text.delta":
                yield from self.say(event.data["text"])
            case "text.replaced":
                self.text = event.data["text"]  # a stream cannot take back what it has sent: its last events tell
            case "citation":
                self._citations.append(event.data)
            case "usage":
                self._usage = event.data
            case "run.finished" | "run.failed" | "run.cancelled" | "run.interrupted":
                self.text = event.data.get("content", self.text)
                how = event.type.removeprefix("run.")
                ending = ending_of(how, self.text, self._citations, self._usage, event.data)
                yield from self.end(self._response.handed_over(ending, self._calls))

    def begin(self) -> Iterator[Json]:
        body = self._response.body(Ending("in_progress"))
        yield self._event("response.created", response=body)
        yield self._event("response.in_progress", response=body)

    def say(self, text: str) -> Iterator[Json]:
        if text:
            yield from self._opened()
            self.text += text
            yield self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[])

    def _catch_up(self, text: str) -> Iterator[Json]:
        """All text so far. Who has seen more than can be told again is not told it in pieces, but by the end."""
        if self._next <= self._after:
            self._next, self._open = self._after + 1, bool(text)
        else:
            yield from self.begin() if not self._next else ()
            yield from self.say(text.removeprefix(self.text) if text.startswith(self.text) else "")
        self.text = text

    def end(self, ending: Ending) -> Iterator[Json]:
        self.ending = ending
        body = self._response.body(ending)
        if body["output"] and body["output"][0]["type"] == "message":
            yield from self._opened()
            yield from self._closed(ending)
        for number, call in enumerate(ending.calls):
            yield from self._called(number, call, len(body["output"]) - len(ending.calls) + number)
        kind = {"completed": "completed", "failed": "failed"}.get(body["status"], "incomplete")
        yield self._event(f"response.{kind}", response=body)

    def _opened(self) -> Iterator[Json]:
        if not self._open:
            self._open = True
            item = self._response.item("in_progress", [])
            yield self._event("response.output_item.added", output_index=0, item=item)
            yield self._event("response.content_part.added", **self._place(), part=_part("", ()))

    def _closed(self, ending: Ending) -> Iterator[Json]:
        part = _part(ending.text, ending.citations)
        for index, annotation in enumerate(part["annotations"]):
            added = {"annotation_index": index, "annotation": annotation}
            yield self._event("response.output_text.annotation.added", **self._place(), **added)
        yield self._event("response.output_text.done", **self._place(), text=ending.text, logprobs=[])
        yield self._event("response.content_part.done", **self._place(), part=part)
        yield self._event("response.output_item.done", output_index=0, item=self._response.message(ending))

    def _called(self, number: int, call: Json, index: int) -> Iterator[Json]:
        begun, whole = (self._response.call(number, call, state) for state in ("in_progress", "completed"))
        place, given = {"item_id": whole["id"], "output_index": index}, whole["arguments"]
        yield self._event("response.output_item.added", output_index=index, item=begun)
        yield self._event("response.function_call_arguments.delta", **place, delta=given)
        yield self._event("response.function_call_arguments.done", **place, name=whole["name"], arguments=given)
        yield self._event("response.output_item.done", output_index=index, item=whole)

    def _place(self) -> Json:
        return {"item_id": self._response.item_id, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **data: Any) -> Json:
        number, self._next = self._next, self._next + 1
        return {"type": kind, "sequence_number": number} | data

    def failed(self, problem: Problem) -> bytes:
        """The frame for what goes wrong with telling."""
        error = problem.as_openai()["error"]
        return frame(self._event("error", **{name: error[name] for name in ("code", "message", "param")}))


def response_of(turn: Turn, assistant: str) -> Response:
    """Of a turn; one that the native face started has no options."""
    options = turn.options or Options(model=(turn.reply and turn.reply.model) or assistant, raw=False)
    return Response(turn.turn_id, options, stored=True, conversation_id=turn.conversation_id)


def as_it_stands(turn: Turn) -> Ending:
    if turn.state in ("started", "running", "requires_action") or turn.reply is None:
        return Ending("in_progress")
    reply = turn.reply
    data = {"error": failure(reply.error)} if reply.error else cut(reply.finish_reason)
    ending = ending_of(reply.status, reply.text, reply.citations, reply.usage, data)
    return replace(ending, calls=calls_of(reply.parts)) if turn.options and turn.options.tools else ending


def calls_of(parts: Sequence[Json]) -> list[Json]:
    """Calls of tools that have no result here."""
    done = {part["tool_call_id"] for part in parts if part["type"] == "tool_result"}
    return [part for part in parts if part["type"] == "tool_call" and part["tool_call_id"] not in done]


def ending_of(status: str, text: str, citations: Sequence[Json], usage: Json | None, data: Json) -> Ending:
    """From how a run ended; `data` may have its `error`, or its `finish_reason`."""
    match status:
        case "completed" | "finished":
            return Ending("completed", text, citations, usage, cut=CUTS.get(data.get("finish_reason", "")))
        case "cancelled":
            return Ending("cancelled", text, citations, usage)
        case "failed":
            return Ending("failed", text, citations, usage, data.get("error"))
        case _:
            interrupted = {"type": f"{TYPE_PREFIX}interrupted", "title": INTERRUPTED}
            return Ending("failed", text, citations, usage, interrupted)


def run_id_of(response_id: str) -> UUID:
    """Raises `ValueError` for what is no id of ours."""
    return UUID(hex=response_id.removeprefix(PREFIX))


def stateless(options: Options) -> Response:
    return Response(uuid7(), options)


def _part(text: str, citations: Sequence[Json]) -> Json:
    annotations = [{"type": "url_citation"} | item["url_citation"] for item in annotations_of(text, citations)]
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


def _format(told: Json | None) -> Json:
    """Of `response_format` as chat completions have it."""
    return {"type": told["type"]} | told.get("json_schema", {}) if told else {"type": "text"}


def _error(error: dict[str, str] | None) -> Json | None:
    if error is None:
        return None
    kind = error["type"].removeprefix(TYPE_PREFIX)
    message = f"{renamed(error['title'])} ({kind})"
    return {"code": "rate_limit_exceeded" if kind in BUSY else "server_error", "message": message}


def _usage(usage: Json) -> Json:
    cached = usage["input_tokens"] if usage.get("cached") else usage.get("cached_input_tokens", 0)
    return {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": usage.get("reasoning_tokens", 0)},
        "total_tokens": usage["input_tokens"] + usage["output_tokens"],
    }


def frame(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
