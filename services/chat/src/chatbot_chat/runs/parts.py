"""The parts of an answer, as they are stored and shown: what was said, thought and done, in that order. Pure."""

from collections.abc import Iterable
from typing import Any

from chatbot_chat.runs.events import Event

Part = dict[str, Any]

LONGEST_REASONING = 20_000
"""Characters of one stretch of thoughts that are kept."""
_SPOKEN = {"text.delta": "text", "reasoning.delta": "reasoning"}


def parts_of(events: Iterable[Event]) -> list[Part]:
    """From the events of an attempt.

    Returns:
        `{type: text | reasoning, text}`, `{type: tool_call, tool_call_id, name, arguments}` and `{type: tool_result,
        tool_call_id, name, status, content}`.
    """
    parts: list[Part] = []
    for event in events:
        if kind := _SPOKEN.get(event.type):
            _say(parts, kind, event.data["text"])
        elif event.type == "tool.started":
            call(parts, event.data)
        elif event.type == "tool.finished":
            parts.append({"type": "tool_result"} | event.data)
        elif event.type == "text.replaced":
            parts = [*(part for part in parts if part["type"] not in _SPOKEN.values()), {"type": "text"} | event.data]
        elif event.type == "run.snapshot":
            parts = [dict(part) for part in event.data["parts"]]
    return [part for part in parts if part.get("text") != ""]


def call(parts: list[Part], called: dict[str, Any]) -> None:
    """Once: a call that waited for the user was told before it was made."""
    if not any(part["type"] == "tool_call" and part["tool_call_id"] == called["tool_call_id"] for part in parts):
        parts.append({"type": "tool_call"} | called)


def _say(parts: list[Part], kind: str, text: str) -> None:
    """Goes on with what was said last."""
    if not parts or parts[-1]["type"] != kind:
        parts.append({"type": kind, "text": ""})
    last = parts[-1]
    last["text"] += text if kind == "text" else text[: max(LONGEST_REASONING - len(last["text"]), 0)]
