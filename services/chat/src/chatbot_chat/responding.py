"""A run's events as a response: as they happen, or the answer once they have ended."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from chatbot_common.errors import Conflict, Problem, Unavailable
from starlette.responses import Response

from chatbot_chat.conversation_client import Turn
from chatbot_chat.runs.events import Event
from chatbot_chat.runs.failures import RunFailed
from chatbot_chat.schema import Answer, Question, run_view
from chatbot_chat.sse import guarded, sse_response


async def respond(turn: Turn, events: AsyncIterator[Event], accept: str) -> Any:
    if "text/event-stream" in accept:
        return stream(events)
    return await _answer(turn, events)


def stream(events: AsyncIterator[Event]) -> Response:
    async def frames() -> AsyncGenerator[bytes, None]:
        async for event in events:
            yield event.as_sse()

    return sse_response(guarded(frames(), _error_frame))


def _error_frame(problem: Problem) -> bytes:
    """For what goes wrong with watching; how the run itself ended is an event of the run."""
    body = json.dumps({"type": "error", "error": problem.as_json()}, ensure_ascii=False, separators=(",", ":"))
    return f"event: error\ndata: {body}\n\n".encode()


async def _answer(turn: Turn, events: AsyncIterator[Event]) -> Answer | Response:
    """Wait for the end of the run, or until it waits itself.

    Raises:
        RunFailed: it failed. Conflict: it was cancelled or interrupted. Unavailable: its end cannot be seen.
    """
    citations: list[dict[str, Any]] = []
    usage: dict[str, Any] | None = None
    questions: list[Question] = []
    async for event in events:
        match event.type:
            case "run.started" | "run.snapshot":
                citations, usage = [], None
            case "tool.approval":
                questions.append(Question.model_validate(event.data))
                if event.terminal:
                    return _waits(turn, event.attempt, questions)
            case "citation":
                citations.append(event.data)
            case "usage":
                usage = event.data
            case "run.finished":
                return Answer(
                    run_id=turn.turn_id,
                    conversation_id=turn.conversation_id,
                    user_message_id=turn.user_message_id,
                    message_id=turn.reply_message_id,
                    content=event.data["content"],
                    citations=citations,
                    usage=usage,
                    finish_reason=event.data.get("finish_reason"),
                )
            case "run.failed":
                raise RunFailed(event.data["error"])
            case "run.cancelled" | "run.interrupted":
                raise Conflict(f"The run was {event.type.removeprefix('run.')}; send again with retry to repeat it.")
    raise Unavailable("The run goes on, but its end cannot be seen from here; look again shortly.")


def _waits(turn: Turn, attempt: int, questions: list[Question]) -> Response:
    told = {"state": "requires_action", "attempt": attempt, "approvals": questions}
    return Response(run_view(turn).model_copy(update=told).model_dump_json(), 202, media_type="application/json")
