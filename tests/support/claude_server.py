"""A scripted server that speaks Anthropic's protocol over a real socket; what it does depends on the model asked for.

`echo` and every other name repeat the question word by word, as the scripts of model_server.py do.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support import tool_script

REFUSALS = {"refuse": 401, "busy": 429, "broken": 500, "unknown": 404}


def _event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | data)}\n\n".encode()


def _start(body: dict[str, Any]) -> bytes:
    usage = {"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": 6}
    message = {"id": "msg-1", "type": "message", "role": "assistant", "content": [], "model": body["model"]}
    return _event("message_start", message=message | {"stop_reason": None, "usage": usage})


def _block(index: int, block: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    return [
        _event("content_block_start", index=index, content_block=block),
        *(_event("content_block_delta", index=index, delta=delta) for delta in deltas),
        _event("content_block_stop", index=index),
    ]


def _stop(reason: str, thought: int = 0) -> list[bytes]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    details = {"output_tokens_details": {"thinking_tokens": thought}} if thought else {}
    return [_event("message_delta", delta=delta, usage={"output_tokens": 7} | details), _event("message_stop")]


def answer_to(body: dict[str, Any]) -> str:
    return f"You said: {body['messages'][-1]['content'][-1]['text']}"


async def _words(body: dict[str, Any]) -> AsyncIterator[bytes]:
    yield _start(body)
    yield _event("ping")
    deltas = [{"type": "text_delta", "text": word + " "} for word in answer_to(body).split(" ")]
    for piece in _block(0, {"type": "text", "text": ""}, *deltas):
        yield piece


async def _echo(body: dict[str, Any]) -> AsyncIterator[bytes]:
    async for piece in _words(body):
        yield piece
    for piece in _stop("end_turn"):
        yield piece


async def _thinking(body: dict[str, Any]) -> AsyncIterator[bytes]:
    yield _start(body)
    thought = {"type": "thinking_delta", "thinking": "Let me see. "}
    text = {"type": "text_delta", "text": "Done."}
    for piece in [
        *_block(0, {"type": "thinking", "thinking": "", "signature": ""}, thought),
        *_block(1, {"type": "text", "text": ""}, text),
        *_stop("max_tokens", thought=4),
    ]:
        yield piece


async def _calling(body: dict[str, Any]) -> AsyncIterator[bytes]:
    yield _start(body)
    pieces = [{"type": "input_json_delta", "partial_json": text} for text in ('{"a": 1, ', '"b": 2}')]
    for piece in [
        *_block(0, {"type": "tool_use", "id": "call-1", "name": "add", "input": {}}, *pieces),
        *_block(1, {"type": "tool_use", "id": "call-2", "name": "now", "input": {}}),
        *_stop("tool_use"),
    ]:
        yield piece


async def _agent(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Calls the tools that the question names, see tool_script.py."""
    yield _start(body)
    asked, *since = body["messages"]
    done = sum(message["role"] == "assistant" for message in since)
    may_call = "tools" in body and body.get("tool_choice", {}).get("type") != "none"
    wanted = tool_script.calls(asked["content"][0]["text"], done, may_call=may_call)
    for number, (name, arguments) in enumerate(wanted):
        block = {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {}}
        for piece in _block(number, block, {"type": "input_json_delta", "partial_json": arguments}):
            yield piece
    if not wanted:
        results = [block["content"] for message in since for block in message["content"] if "tool_use_id" in block]
        for piece in _block(
            0, {"type": "text", "text": ""}, {"type": "text_delta", "text": tool_script.answer(results)}
        ):
            yield piece
    for piece in _stop("tool_use" if wanted else "end_turn"):
        yield piece


def _thoughts(done: int) -> list[dict[str, Any]]:
    """What comes before the calls of a round, and has to come back with them."""
    return [
        {"type": "thinking", "thinking": "Let me call. ", "signature": f"signed-{done}"},
        {"type": "redacted_thinking", "data": f"hidden-{done}"},
    ]


def _unsigned(body: dict[str, Any]) -> bool:
    """Whether thoughts are missing, or have changed."""
    calling = [item["content"] for item in body["messages"] if item["role"] == "assistant"]
    return any(blocks[:2] != _thoughts(number) for number, blocks in enumerate(calling))


async def _signing(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """As `agent`, and thinks before it calls."""
    started, *pieces = [piece async for piece in _agent(body)]
    yield started
    done = sum(message["role"] == "assistant" for message in body["messages"])
    if b"tool_use" in pieces[0]:
        thought, hidden = _thoughts(done)
        deltas = [{"type": "thinking_delta", "thinking": word} for word in ("Let me ", "call. ")]
        deltas.append({"type": "signature_delta", "signature": thought["signature"]})
        blank = {"type": "thinking", "thinking": "", "signature": ""}
        for piece in [*_block(90, blank, *deltas), *_block(91, hidden)]:
            yield piece
    for piece in pieces:
        yield piece


async def _formal(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Answers in JSON if it must."""
    form = (body.get("output_config") or {}).get("format") or {}
    said = '{"answer": 42}' if form.get("type") == "json_schema" and form["schema"]["properties"] else "Forty-two."
    text = {"type": "text_delta", "text": said}
    for piece in [_start(body), *_block(0, {"type": "text", "text": ""}, text), *_stop("end_turn")]:
        yield piece


async def _hang_midway(body: dict[str, Any]) -> AsyncIterator[bytes]:
    async for piece in _words(body):
        yield piece
    await asyncio.sleep(120)


async def _garbage(body: dict[str, Any]) -> AsyncIterator[bytes]:
    async for piece in _words(body):
        yield piece
    yield b"event: content_block_delta\ndata: {this is not JSON\n\n"


async def _cut(body: dict[str, Any]) -> AsyncIterator[bytes]:
    async for piece in _words(body):
        yield piece
    raise ConnectionAbortedError("scripted: the connection breaks here")


async def _early(body: dict[str, Any]) -> AsyncIterator[bytes]:
    async for piece in _words(body):
        yield piece


async def _overloaded(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """An error inside a response whose status was 200."""
    yield _start(body)
    yield _event("error", error={"type": "overloaded_error", "message": "scripted: sk-upstream-secret"})


FORCED = "Thinking may not be enabled when tool_choice forces tool use."


async def _forced_late(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """The words of a refusal, after the first of an answer."""
    async for piece in _words(body):
        yield piece
    yield _event("error", error={"type": "invalid_request_error", "message": FORCED})


def _refusal(body: dict[str, Any]) -> str | None:
    """What some models say of a request as a whole."""
    forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    match body["model"]:
        case "signing" if _unsigned(body):
            return "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."
        case "always-thinking" if forced:
            return FORCED
        case "refuses-tools" if body.get("tools"):
            return "tools.0.custom.name: 'tool_choice, thinking' is no name"
        case "refuses-choice" if forced:
            return "tool_choice: Input should be a valid dictionary"
        case "effortless" if "effort" in (body.get("output_config") or {}):
            return "This model does not support the effort parameter."
        case "constraining" if any(tool.get("strict") for tool in body.get("tools", ())):
            return "tools.0.custom: For 'integer' type, properties maximum, minimum are not supported"
        case "overgrown" if any(tool.get("strict") for tool in body.get("tools", ())):
            return "The compiled grammar is too large, which would cause performance issues."
    return None


STREAMS: dict[str, Callable[[dict[str, Any]], AsyncIterator[bytes]]] = {
    "hang-midway": _hang_midway,
    "garbage": _garbage,
    "cut": _cut,
    "early": _early,
    "overloaded": _overloaded,
    "thinking": _thinking,
    "calling": _calling,
    "agent": _agent,
    "signing": _signing,
    "constraining": _agent,
    "overgrown": _agent,
    "formal": _formal,
    "always-thinking": _agent,
    "forced-late": _forced_late,
}


class ClaudeServer:
    """The app, and the requests it has seen: `(authorization header, body)`, oldest first."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.app = Starlette(routes=[Route("/v1/messages", self._messages, methods=["POST"])])

    async def _messages(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append((request.headers.get("authorization", ""), body))
        model = body["model"]
        if status := REFUSALS.get(model):
            error = {"type": "scripted", "message": "scripted: sk-upstream-secret"}
            return JSONResponse({"type": "error", "error": error}, status)
        if words := _refusal(body):
            error = {"type": "invalid_request_error", "message": words}
            return JSONResponse({"type": "error", "error": error}, 400)
        if model == "throttled" and sum(asked["model"] == model for _, asked in self.requests) == 1:
            error = {"type": "rate_limit_error", "message": "scripted"}
            return JSONResponse({"type": "error", "error": error}, 429, {"Retry-After": "7"})
        if model == "hang":
            await asyncio.sleep(120)
        return StreamingResponse(STREAMS.get(model, _echo)(body), media_type="text/event-stream")
