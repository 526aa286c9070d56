"""A scripted OpenAI-compatible server over a real socket: the paid model of the tests, and of demos without a key.

    python -m tests.support.model_server --port 9999

What it does depends on the model asked for, see `STREAMS` and `REFUSALS`. It answers `echo` and every other name by
repeating the question word by word.
"""

import argparse
import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support import tool_script

WORD_SECONDS = 0.005
PICKY = ("temperature", "max_tokens")
"""What the model `picky` refuses, as OpenAI's reasoning models do."""

PLAIN = {
    "reasoning_effort": "property 'reasoning_effort' is unsupported",
    "temperature": "property 'temperature' is unsupported",
    "user": "property 'user' is unsupported",
}
"""What the model `plain` refuses in words alone, as Groq does."""
ALTERNATING = {
    "alternating": "roles must alternate user/assistant",
    "expecting": "Unexpected role 'user' after role 'user'",
}
"""What models say, in words alone, of two messages of the user."""
CONSTRAINED = "tools.0.custom: For 'integer' type, properties maximum, minimum are not supported"
"""What the model `constraining` says of a strict tool, as Claude does through OpenRouter."""

hung_up: list[str] = []
"""Questions to `endless` whose listener has gone."""


def _chunk(model: str, delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    body = {"id": "chatcmpl-script", "object": "chat.completion.chunk", "created": 1, "model": model}
    return b"data: " + json.dumps(body | {"choices": [choice]}).encode() + b"\n\n"


def _usage_chunk(model: str) -> bytes:
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    body = {"id": "chatcmpl-script", "object": "chat.completion.chunk", "created": 1, "model": model}
    return b"data: " + json.dumps(body | {"choices": [], "usage": usage}).encode() + b"\n\n"


def answer_to(body: dict[str, Any]) -> str:
    """The scripted answer: the last message, and what the history held."""
    *earlier, last = [message for message in body["messages"] if message["role"] != "system"]
    memory = f" (after {len(earlier)} messages)" if earlier else ""
    return f"You said: {last['content']}{memory}"


async def _words(body: dict[str, Any], pause: float = WORD_SECONDS) -> AsyncIterator[bytes]:
    yield _chunk(body["model"], {"role": "assistant", "content": ""})
    for word in answer_to(body).split(" "):
        yield _chunk(body["model"], {"content": word + " "})
        await asyncio.sleep(pause)


async def _echo(body: dict[str, Any]) -> AsyncIterator[bytes]:
    async for piece in _words(body):
        yield piece
    yield _chunk(body["model"], {}, "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _usage_chunk(body["model"])
    yield b"data: [DONE]\n\n"


async def _endless(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """One word every 20 ms, for as long as anybody listens (two minutes at most)."""
    try:
        async for piece in _counting(body):
            yield piece
    finally:
        hung_up.append(body["messages"][-1]["content"])


async def _counting(body: dict[str, Any]) -> AsyncIterator[bytes]:
    yield _chunk(body["model"], {"role": "assistant", "content": ""})
    for number in range(6000):
        yield _chunk(body["model"], {"content": f"{number} "})
        await asyncio.sleep(0.02)


async def _silent(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Begins, and says nothing."""
    yield _chunk(body["model"], {"role": "assistant", "content": ""})
    await asyncio.sleep(120)


async def _comforting(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Comments for as long as nothing is said, which is for ever."""
    async for piece in _words(body):
        yield piece
    while True:
        yield b": PROCESSING\n\n"
        await asyncio.sleep(0.02)


async def _halting(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Stops for a moment in the middle of a chunk."""
    async for piece in _echo(body):
        if b"said" in piece:
            yield piece[:20]
            await asyncio.sleep(0.3)
            yield piece[20:]
        else:
            yield piece


async def _babble() -> AsyncIterator[bytes]:
    while True:
        yield b"No. " * 2**14
        await asyncio.sleep(0)


async def _hang(request: Request, body: dict[str, Any]) -> None:
    for _ in range(2400):
        if await request.is_disconnected():
            hung_up.append(body["messages"][-1]["content"])
            break
        await asyncio.sleep(0.05)


async def _hang_midway(body: dict[str, Any]) -> AsyncIterator[bytes]:
    async for piece in _words(body):
        yield piece
    await asyncio.sleep(120)


async def _garbage(body: dict[str, Any]) -> AsyncIterator[bytes]:
    async for piece in _words(body):
        yield piece
    yield b"data: {this is not JSON\n\n"


async def _giving_up(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Says in the middle that it has failed, and ends as if it had not."""
    async for piece in _words(body):
        yield piece
    yield b'data: {"error": {"message": "scripted: sk-upstream-secret", "code": 500}}\n\n'
    yield _chunk(body["model"], {}, "stop")
    yield b"data: [DONE]\n\n"


async def _cut(body: dict[str, Any]) -> AsyncIterator[bytes]:
    async for piece in _words(body):
        yield piece
    raise ConnectionAbortedError("scripted: the connection breaks here")


async def _early(body: dict[str, Any]) -> AsyncIterator[bytes]:
    async for piece in _words(body):
        yield piece


async def _surrogate(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """JSON that is valid and text that is not: half of a surrogate pair, and a NUL."""
    yield _chunk(body["model"], {"content": "half: \ud83d nul: \x00 end"})
    yield _chunk(body["model"], {}, "stop")
    yield b"data: [DONE]\n\n"


async def _thinking(body: dict[str, Any]) -> AsyncIterator[bytes]:
    yield _chunk(body["model"], {"role": "assistant", "reasoning_content": "Let me see. "})
    async for piece in _echo(body):
        yield piece


async def _calling(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Two calls of a tool, the first in pieces, the second at once and without an index."""
    signed = {"extra_content": {"google": {"thought_signature": "signed"}}}
    pieces: list[dict[str, Any]] = [
        {"index": 0, "id": "call-1", "type": "function", "function": {"name": "add", "arguments": ""}} | signed,
        {"index": 0, "function": {"arguments": '{"a": 1, '}},
        {"index": 0, "function": {"arguments": '"b": 2}'}},
        {"id": "call-2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]
    for piece in pieces:
        yield _chunk(body["model"], {"tool_calls": [piece]})
    yield _chunk(body["model"], {}, "stop")
    yield b"data: [DONE]\n\n"


async def _agent(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Calls the tools that the question names, see tool_script.py; each call is signed, as Gemini does it."""
    messages = body["messages"]
    [*_, asked] = [index for index, message in enumerate(messages) if message["role"] == "user"]
    since = messages[asked + 1 :]
    done = sum(message["role"] == "assistant" for message in since)
    may_call = "tools" in body and body.get("tool_choice") != "none"
    wanted = tool_script.calls(messages[asked]["content"], done, may_call=may_call)
    for number, (name, arguments) in enumerate(wanted):
        function = {"name": name, "arguments": arguments}
        call = {"index": number, "id": f"call_{number}", "type": "function", "function": function}
        signed = {"extra_content": {"google": {"thought_signature": f"{done}-{number}"}}}
        yield _chunk(body["model"], {"tool_calls": [call | signed]})
    if not wanted:
        results = [message["content"] for message in since if message["role"] == "tool"]
        yield _chunk(body["model"], {"reasoning_content": "They have answered."})
        yield _chunk(body["model"], {"content": tool_script.answer(results)})
    yield _chunk(body["model"], {}, "tool_calls" if wanted else "stop")
    yield _usage_chunk(body["model"])
    yield b"data: [DONE]\n\n"


SKIPPED = "skip_thought_signature_validator"


def _unsigned(body: dict[str, Any]) -> bool:
    """Whether a round's first call lacks the signature that it got, and is not said to be somebody else's."""
    called = [item["tool_calls"][0] for item in body["messages"] if item.get("tool_calls")]
    signed = [call.get("extra_content") for call in called]
    return any(
        extra not in ({"google": {"thought_signature": text}} for text in (f"{number}-0", SKIPPED))
        for number, extra in enumerate(signed)
    )


async def _halfway(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Reaches its bound in the middle of a sentence."""
    yield _chunk(body["model"], {"content": "One must never"})
    yield _chunk(body["model"], {}, "length")
    yield _usage_chunk(body["model"])
    yield b"data: [DONE]\n\n"


async def _half_call(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Reaches its bound in the middle of a call."""
    function = {"name": "calculate", "arguments": '{"expression": "1 +'}
    yield _chunk(body["model"], {"content": "Let me see."})
    yield _chunk(body["model"], {"tool_calls": [{"index": 0, "id": "1", "function": function}]})
    yield _chunk(body["model"], {}, "length")
    yield _usage_chunk(body["model"])
    yield b"data: [DONE]\n\n"


async def _writing(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """A call whose arguments never end; after some words where it is asked to speak first."""
    if "speak" in str(body["messages"][-1]["content"]):
        yield _chunk(body["model"], {"content": "Let me see."})
    function = {"name": "calculate", "arguments": '{"expression": "'}
    yield _chunk(body["model"], {"tool_calls": [{"index": 0, "id": "1", "function": function}]})
    while True:
        yield _chunk(body["model"], {"tool_calls": [{"index": 0, "function": {"arguments": "1 + "}}]})
        await asyncio.sleep(WORD_SECONDS)


async def _spent(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Reaches its bound before it has said a word."""
    yield _chunk(body["model"], {"role": "assistant", "content": "", "reasoning_content": "Well, well. "})
    yield _chunk(body["model"], {}, "length")
    yield _usage_chunk(body["model"])
    yield b"data: [DONE]\n\n"


async def _filtered(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """As Azure and Gemini end what their own filters do not let pass."""
    yield _chunk(body["model"], {"role": "assistant", "content": ""})
    yield _chunk(body["model"], {}, "content_filter")
    yield _usage_chunk(body["model"])
    yield b"data: [DONE]\n\n"


KNOWN = {"cached_tokens": 6}
"""Of a prompt that came before."""


async def _aside(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Counts as Gemini does: what it has thought is in the total only, and some of the prompt was in its cache."""
    async for piece in _words(body):
        yield piece
    yield _chunk(body["model"], {}, "stop")
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 1009, "prompt_tokens_details": KNOWN}
    last = {"id": "chatcmpl-script", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    yield b"data: " + json.dumps(last | {"choices": [], "usage": usage}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


FORMAL = '{"answer": 42}'


async def _formal(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Answers in JSON if it must, by a schema or by any."""
    kind = (body.get("response_format") or {}).get("type", "text")
    yield _chunk(body["model"], {"content": "Forty-two." if kind == "text" else FORMAL})
    yield _chunk(body["model"], {}, "stop")
    yield b"data: [DONE]\n\n"


async def _half(_: dict[str, Any]) -> AsyncIterator[bytes]:
    """A whole answer that breaks off."""
    yield b'{"id": "chatcmpl-script", "choices": [{"index": 0'
    raise ConnectionAbortedError("scripted: the connection breaks here")


STREAMS: dict[str, Callable[[dict[str, Any]], AsyncIterator[bytes]]] = {
    "endless": _endless,
    "silent": _silent,
    "hang-midway": _hang_midway,
    "hang-silent": _silent,
    "comforting": _comforting,
    "halting": _halting,
    "garbage": _garbage,
    "giving-up": _giving_up,
    "cut": _cut,
    "early": _early,
    "surrogate": _surrogate,
    "thinking": _thinking,
    "calling": _calling,
    "agent": _agent,
    "signing": _agent,
    "constraining": _agent,
    "formal": _formal,
    "halfway": _halfway,
    "half-call": _half_call,
    "writing": _writing,
    "aside": _aside,
    "spent": _spent,
    "filtered": _filtered,
}
RECOVERING = {
    "flaky": (500, {}),
    "soon": (429, {"Retry-After": "1"}),
    "throttled": (429, {"Retry-After": "7"}),
    "exhausted": (429, {"Retry-After": "3600"}),
}
"""What the first question meets; the second is answered."""
REFUSALS = {"refuse": 401, "busy": 429, "broken": 500, "unknown": 404}


class ModelServer:
    """The app, and the requests it has seen: `(authorization header, body)`, oldest first."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.judged: list[str] = []
        self.speaking = 0
        """Answers that somebody still listens to."""
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._completions, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/v1/moderations", self._moderations, methods=["POST"]),
            ]
        )

    async def _completions(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append((request.headers.get("authorization", ""), body))
        model = body["model"]
        if status := REFUSALS.get(model):
            return JSONResponse({"error": {"message": "scripted: sk-upstream-secret", "type": "scripted"}}, status)
        if model in RECOVERING and sum(asked["model"] == model for _, asked in self.requests) == 1:
            status, headers = RECOVERING[model]
            return JSONResponse({"error": {"message": "scripted", "type": "scripted"}}, status, headers)
        if model == "large":
            return Response("<html>413 Request Entity Too Large</html>", 413, media_type="text/html")
        if model == "hang":
            await _hang(request, body)
        if model == "late":
            await asyncio.sleep(0.3)
        if model == "zipped":
            return Response(gzip.compress(b"data: [DONE]\n\n"), headers={"Content-Encoding": "gzip"})
        if model == "sealed":
            return Response(gzip.compress(b'{"error": {}}'), 400, headers={"Content-Encoding": "gzip"})
        if model == "babbling":
            return StreamingResponse(_babble(), status_code=400)
        if model == "picky" and (refused := next((name for name in PICKY if name in body), None)):
            error = {"message": f"Unsupported parameter: '{refused}'", "type": "invalid_request_error"}
            return JSONResponse({"error": error | {"param": refused, "code": "unsupported_parameter"}}, 400)
        if model == "plain" and (refused := next((name for name in PLAIN if name in body), None)):
            return JSONResponse({"error": {"message": PLAIN[refused], "type": "invalid_request_error"}}, 400)
        users = sum(message["role"] == "user" for message in body["messages"])
        if (words := ALTERNATING.get(model)) and users > 1:
            return JSONResponse({"error": {"message": words, "type": "invalid_request_error"}}, 400)
        if model == "constraining" and any(tool["function"].get("strict") for tool in body.get("tools", ())):
            return JSONResponse({"error": {"message": CONSTRAINED, "code": 400}}, 400)
        if model == "filtering":
            error = {"message": "scripted", "code": "content_filter", "param": "prompt"}
            return JSONResponse({"error": error}, 400)
        if model == "toolless" and "tools" in body:
            return JSONResponse({"error": {"message": "toolless:2b does not support tools", "type": "api_error"}}, 400)
        if model == "strict" and "stream_options" in body:
            location = ["body", "stream_options", "include_usage"]
            return JSONResponse({"message": {"detail": [{"type": "extra_forbidden", "loc": location}]}}, 422)
        if model == "signing" and _unsigned(body):
            words = "Function call is missing a thought_signature in functionCall parts."
            return JSONResponse([{"error": {"code": 400, "message": words, "status": "INVALID_ARGUMENT"}}], 400)
        if model == "half":
            return StreamingResponse(_half(body), media_type="application/json")
        if body.get("stream"):
            return StreamingResponse(self._heard(STREAMS.get(model, _echo)(body)), media_type="text/event-stream")
        whole = JSONResponse(self._whole(body))
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(gzip.compress(bytes(whole.body)), headers={"Content-Encoding": "gzip"})
        return whole

    async def _heard(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.speaking += 1
        try:
            async for piece in pieces:
                yield piece
        finally:
            self.speaking -= 1

    def _whole(self, body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": answer_to(body)}
        return {
            "id": "chatcmpl-script",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        }

    async def _moderations(self, request: Request) -> Response:
        """Flags what has the word `forbidden` in it; `unjudged` breaks it."""
        body = await request.json()
        self.judged.append(body["input"])
        if "unjudged" in body["input"]:
            return JSONResponse({"error": {"message": "scripted"}}, 400)
        there = "forbidden" in body["input"].lower()
        flags, scores = {"violence": there, "self-harm": False}, {"violence": 0.9 if there else 0.1, "self-harm": 0.0}
        result = {"flagged": there, "categories": flags, "category_scores": scores}
        return JSONResponse({"id": "modr-script", "model": body["model"], "results": [result]})

    async def _models(self, _: Request) -> Response:
        names = ["echo", *STREAMS, *REFUSALS, "hang"]
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted OpenAI-compatible model server.")
    parser.add_argument("--port", type=int, default=9999)
    port = parser.parse_args().port
    print(f"Scripted models at http://127.0.0.1:{port}/v1; any key will do. Stop with Ctrl-C.")
    uvicorn.run(ModelServer().app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
