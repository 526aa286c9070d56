"""Events of a run: what clients see, the same from every replica."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from chatbot_chat.conversation_client import FinishReason, Reply, Turn, WaitingCall

EventType = Literal[
    "run.started",
    "run.snapshot",
    "text.delta",
    "reasoning.delta",
    "tool.started",
    "tool.approval",
    "tool.finished",
    "text.replaced",
    "citation",
    "usage",
    "run.finished",
    "run.failed",
    "run.cancelled",
    "run.interrupted",
]
TERMINAL: frozenset[EventType] = frozenset({"run.finished", "run.failed", "run.cancelled", "run.interrupted"})


@dataclass(frozen=True, slots=True)
class Event:
    """`seq` counts from 1 without gaps within one attempt."""

    type: EventType
    run_id: UUID
    attempt: int
    seq: int
    data: dict[str, Any]

    @property
    def terminal(self) -> bool:
        """Whether the attempt ends here; one that has to wait ends with the last call that it asks about."""
        return self.type in TERMINAL or (self.type == "tool.approval" and not self.data["more"])

    def as_dict(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "run_id": str(self.run_id),
            "attempt": self.attempt,
            "seq": self.seq,
        } | self.data

    def as_sse(self) -> bytes:
        """One server-sent event; its id is the position to resume from."""
        body = json.dumps(self.as_dict(), ensure_ascii=False, separators=(",", ":"))
        return f"id: {self.attempt}-{self.seq}\nevent: {self.type}\ndata: {body}\n\n".encode()


def event_of(body: dict[str, Any]) -> Event:
    """The event that `as_dict` made this of."""
    own = ("type", "run_id", "attempt", "seq")
    data = {key: value for key, value in body.items() if key not in own}
    return Event(body["type"], UUID(body["run_id"]), body["attempt"], body["seq"], data)


def text_of(events: Iterable[Event]) -> str:
    """The answer so far, as a client shows it: deltas append, the others replace."""
    text = ""
    for event in events:
        if event.type == "text.delta":
            text += event.data["text"]
        elif event.type in ("run.snapshot", "text.replaced"):
            text = event.data["text"]
    return text


@dataclass(frozen=True, slots=True)
class Position:
    """How far a client has seen a run. `attempt` None means whichever is current."""

    seq: int = 0
    attempt: int | None = None

    @classmethod
    def parse(cls, text: str | None) -> "Position":
        """From `after=7`, `after=2-7` or the header `Last-Event-ID: 2-7`.

        Raises:
            ValueError: it is neither.
        """
        if not text:
            return cls()
        attempt, dash, seq = text.rpartition("-")
        return cls(_count(seq), _count(attempt) if dash else None)

    def within(self, attempt: int) -> int:
        """The last sequence number seen of this attempt."""
        return self.seq if self.attempt in (None, attempt) else 0


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise ValueError(f"{text!r} is not a position")
    return int(text)


def ending_of(turn: Turn, seq: int) -> list[Event]:
    """What is left to say about a turn that ended, to a client that saw up to `seq`: all text, then how it ended."""
    reply = turn.reply or Reply(text="", parts=[], status="interrupted", citations=[], usage=None, error=None)
    snapshot = {"text": reply.text, "parts": reply.parts, "status": reply.status} | cut(reply.finish_reason)
    events: list[tuple[EventType, dict[str, Any]]] = [("run.snapshot", snapshot)]
    events += [("citation", citation) for citation in reply.citations]
    if reply.usage:
        events.append(("usage", reply.usage))
    if turn.undecided:
        events += approvals(turn.undecided)
    else:
        events.append(terminal(turn, reply.status, reply.text, reply.error, reply.finish_reason))
    return [
        Event(kind, turn.turn_id, turn.attempt, number, data) for number, (kind, data) in enumerate(events, seq + 1)
    ]


def approvals(calls: Sequence[WaitingCall]) -> list[tuple[EventType, dict[str, Any]]]:
    """What the user is asked; `more` says that another question follows."""
    last = len(calls) - 1
    return [("tool.approval", asked(call) | {"more": number < last}) for number, call in enumerate(calls)]


def asked(call: WaitingCall) -> dict[str, str]:
    return {"tool_call_id": call.tool_call_id, "name": call.name, "arguments": call.arguments}


def cut(reason: FinishReason | None) -> dict[str, str]:
    """Told only of answers that are not whole."""
    return {"finish_reason": reason} if reason else {}


def terminal(
    turn: Turn, status: str, text: str, error: str | None, reason: FinishReason | None = None
) -> tuple[EventType, dict[str, Any]]:
    """Type and data of the event that ends a run."""
    place = {"conversation_id": str(turn.conversation_id), "message_id": str(turn.reply_message_id)}
    match status:
        case "completed":
            return "run.finished", place | {"content": text} | cut(reason)
        case "failed":
            return "run.failed", place | {"error": failure(error or "failed")}
        case "cancelled":
            return "run.cancelled", place
        case _:
            return "run.interrupted", place


def failure(text: str) -> dict[str, str]:
    """`{type, title}` of a stored error `type: title`."""
    kind, _, title = text.partition(": ")
    return {"type": f"urn:chatbot:problem:{kind}", "title": title or kind}
