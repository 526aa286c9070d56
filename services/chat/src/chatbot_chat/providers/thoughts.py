"""Thoughts of Anthropic's models, which go back to them, unchanged, with the call that they came before. Pure."""

from collections.abc import Mapping
from typing import Any

THOUGHTS = "thinking"
"""In a call's `extra`: blocks of thoughts before it, signed."""
_FIELDS = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}
"""Of each type of block."""


def thoughts_of(extra: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The blocks, and nothing else that a client may have put there.

    Raises:
        ValueError: they are none.
    """
    told = (extra or {}).get(THOUGHTS) or []
    if not isinstance(told, list):
        raise ValueError("thoughts are a list of blocks")
    return [_block(item) for item in told]


def _block(told: object) -> dict[str, Any]:
    kind = told.get("type") if isinstance(told, Mapping) else None
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    if not (fields and isinstance(told, Mapping) and all(isinstance(told.get(name), str) for name in fields)):
        raise ValueError("a block of thoughts is of type thinking, with its signature, or redacted_thinking, with data")
    return {"type": kind} | {name: told[name] for name in fields}
