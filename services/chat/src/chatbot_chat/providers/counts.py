"""What a provider says that it has counted, as far as that can be a count; else the words are counted here. Pure."""

from collections.abc import Mapping
from typing import Any

from chatbot_chat.providers import Usage

MOST = 10**9
"""Tokens of one answer. What is more has been no count: servers say -1, and some say it without a sign."""


def count_of(told: object) -> int | None:
    return told if type(told) is int and 0 <= told <= MOST else None


def usage_of(told: object) -> Usage | None:
    """The `usage` of a body or a chunk, as OpenAI words it. Who says nothing of the answer has counted none.

    Google leaves what Gemini thinks out of `completion_tokens`, charges for it, and has it in `total_tokens` only.
    """
    if not isinstance(told, Mapping):
        return None
    asked, said = count_of(told.get("prompt_tokens")), count_of(told.get("completion_tokens") or 0)
    if asked is None or said is None:
        return None
    output = max(said, (count_of(told.get("total_tokens")) or 0) - asked)
    cached = _detail(told, "prompt_tokens_details", "cached_tokens")
    thoughts = _detail(told, "completion_tokens_details", "reasoning_tokens") or output - said
    return Usage(asked, output, cached_input=cached, thoughts=min(thoughts, output))


def _detail(told: Mapping[str, Any], part: str, name: str) -> int:
    known = told.get(part)
    return (count_of(known.get(name)) if isinstance(known, Mapping) else None) or 0
