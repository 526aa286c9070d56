"""What an attempt leaves to the next one when it has to wait for the user, and how that one goes on from it. Pure.

It lies with the turn in Postgres, so any replica goes on, whatever has become of the pod that asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from chatbot_chat.conversation_client import Knowledge, WaitingCall
from chatbot_chat.providers import Message
from chatbot_chat.runs.parts import Part


@dataclass(frozen=True)
class Resume:
    """`model` is the one that called; `exchange` has its calls and the results so far, as the model is to be told."""

    model: str
    language: str | None
    text: str
    parts: list[Part]
    exchange: list[Message]
    knowledge: Knowledge
    variant: str | None = None


_JSON = TypeAdapter(Resume)


def waiting(resume: Resume, calls: Sequence[WaitingCall]) -> dict[str, Any]:
    """In conversation's words."""
    return {"calls": [call.model_dump() for call in calls], "resume": _JSON.dump_python(resume, mode="json")}


def resumed(body: dict[str, Any]) -> Resume:
    """From `Waiting.resume`."""
    return _JSON.validate_python(body)
