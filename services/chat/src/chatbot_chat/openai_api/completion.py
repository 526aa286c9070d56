"""Chat completions as OpenAI words them: whole, and in chunks. Pure."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chatbot_common.ids import uuid7

from chatbot_chat.providers import ToolCall, Usage

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Completion:
    """What all chunks of one answer share. `created` is seconds since 1970."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid7().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(
        self,
        text: str,
        reason: str,
        usage: Usage | None,
        annotations: Sequence[dict[str, Any]],
        calls: Sequence[ToolCall] = (),
    ) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        message |= {"annotations": list(annotations)}
        if calls:
            message |= {"content": text or None, "tool_calls": list(map(call_of, calls))}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return self._body("chat.completion", [choice]) | {"usage": usage_of(usage) if usage else None}

    def chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._body("chat.completion.chunk", [choice])

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        return self._body("chat.completion.chunk", []) | {"usage": usage_of(usage)}

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def usage_of(usage: Usage) -> dict[str, Any]:
    total = usage.input_tokens + usage.output_tokens
    told: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": total,
    }
    if cached := usage.input_tokens if usage.cached else usage.cached_input:
        told |= {"prompt_tokens_details": {"cached_tokens": cached}}
    if usage.thoughts:
        told |= {"completion_tokens_details": {"reasoning_tokens": usage.thoughts}}
    return told


def call_of(call: ToolCall) -> dict[str, Any]:
    """A call of a client's tool. Some providers want more of it back than the client reads."""
    said = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
    return said | ({"extra_content": dict(call.extra)} if call.extra else {})


def annotations_of(text: str, citations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Citations as URL annotations; the positions are those of the first `[n]` in the text."""
    annotations = []
    for citation in citations:
        mark = f"[{citation['index']}]"
        start = text.find(mark)
        source = {
            "url": citation["url"] or f"urn:uuid:{citation['source_id']}",
            "title": citation["title"],
            "start_index": start,
            "end_index": start + len(mark),
        }
        annotations.append({"type": "url_citation", "url_citation": source})
    return annotations


def frame(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
