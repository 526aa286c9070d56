"""Executing an attempt: ask the model, emit what it says, commit how it ended, then tell everybody."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from chatbot_common.errors import Problem
from chatbot_common.http import UpstreamProblem
from prometheus_client import Counter

from chatbot_chat.agent import AgentEvent, Called, Returned, Wanted, converse
from chatbot_chat.citations import citations_of
from chatbot_chat.conversation_client import ConversationClient, EndState, FinishReason, WaitingCall, ending
from chatbot_chat.invocation import Invocation, invoked
from chatbot_chat.moderation import Verdict
from chatbot_chat.moderation.service import Moderation, Withheld
from chatbot_chat.prompt import ToolUse, answer_budget
from chatbot_chat.providers import (
    Chosen,
    Finish,
    Message,
    ModelEvent,
    ProviderTimeout,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    Usage,
)
from chatbot_chat.providers.catalog import Catalog
from chatbot_chat.runs.events import Event, approvals, asked, cut, terminal
from chatbot_chat.runs.failures import AnswerTooLong
from chatbot_chat.runs.handing_over import handed
from chatbot_chat.runs.log import RunLog
from chatbot_chat.runs.parts import call, parts_of
from chatbot_chat.runs.resuming import Resume, waiting
from chatbot_chat.runs.run import Run
from chatbot_chat.runs.tasks import Task
from chatbot_chat.variants import marked

log = structlog.get_logger(__name__)

STATES = {"run.finished": "completed", "tool.approval": "requires_action"}
"""In the words of the turn, by the run's last event."""
RUNS = Counter("chat_runs_total", "Runs that this process executed, by how they ended", ["state"])

COMMIT_MARGIN_SECONDS = 5.0
CANCEL_PATIENCE_SECONDS = 5.0
"""For a provider or a tool that is told to stop; one that does not must not keep its run from ending."""
COMMIT_PATIENCE_SECONDS = 60.0
NOT_STORED = "not-stored: The answer could not be stored; send the question again."
COMMIT_RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
FINAL = (404, 409, 413, 422)
"""What conversation says of the reply; what else it says may be different the next time."""


@dataclass
class Said:
    """What became known while the model spoke. `model` is the one that did: a fallback's, if it came to that."""

    model: str
    usage: Usage | None = None
    """Of all rounds."""
    exchange: list[Message] = field(default_factory=list)
    wanted: tuple[ToolCall, ...] = ()
    """Calls that the user must agree to."""
    flagged: Verdict | None = None
    finish: FinishReason | None = None
    """Why there is not all of it."""


class Executor:
    """`agent` is the bot's name."""

    def __init__(
        self, agent: str, catalog: Catalog, conversation: ConversationClient, run_log: RunLog, moderation: Moderation
    ) -> None:
        self._agent = agent
        self._catalog = catalog
        self._conversation = conversation
        self._log = run_log
        self._moderation = moderation

    async def execute(self, run: Run, task: Task) -> None:
        """Run to the end. Nothing escapes: whatever happens becomes the run's last event."""
        named = {"gen_ai.conversation.id": str(run.turn.conversation_id), "chatbot.run.id": str(run.id)}
        with invoked(self._agent, **named) as invocation:
            said, keeping = Said(task.model, exchange=[*task.before.exchange] if task.before else []), None
            try:
                await self._tell_start(run, task)
                keeping = asyncio.create_task(run.keep_log(self._log))
                status, error = await self._answer(run, task, said)
                await self._end(run, task, said, status, error)
            except Exception as crash:
                # A defect of ours: whoever follows must not wait for an end that never comes.
                log.error("run crashed", run_id=str(run.id), exc_info=crash)
                await self._give_up(run, said)
            _record(invocation, run.events[-1], said)
            await run.account.close()
            await (keeping or run.keep_log(self._log))

    async def _tell_start(self, run: Run, task: Task) -> None:
        turn = run.turn
        if opened := await self._log.opens(run.id, run.attempt):
            run.obey(opened)
        run.emit(
            "run.started",
            conversation_id=str(turn.conversation_id),
            user_message_id=str(turn.user_message_id),
            message_id=str(turn.reply_message_id),
            model=task.model,
            resumable=opened is not None,
            **marked(run.account.variant),
        )
        if task.before:
            run.emit("run.snapshot", text=task.before.text, parts=task.before.parts, status="running")

    async def _answer(self, run: Run, task: Task, said: Said) -> tuple[EndState, Problem | None]:
        """Stream the model's answer into the run; how it went, and the failure if it failed."""
        if run.stop_reason:  # cancelled, or closed by another process, before it began
            return _stopped(run), None
        speaking = asyncio.create_task(self._speak(run, task, said))
        stopping = asyncio.create_task(run.stopped())
        try:
            await asyncio.wait({speaking, stopping}, timeout=_time_left(run), return_when=asyncio.FIRST_COMPLETED)
            if not speaking.done():
                if run.stop_reason is None and not run.text:
                    return "failed", ProviderTimeout("The model said nothing for as long as an answer may take.")
                return _stopped(run), None
            if speaking.cancelled():
                raise RuntimeError("somebody else's cancellation has leaked into the answer")
            speaking.result()
            self._check(run, said)
        except Problem as problem:
            return "failed", problem
        except Exception as crash:
            log.error("answer crashed", run_id=str(run.id), exc_info=crash)
            return "failed", Problem()
        finally:
            for part in (speaking, stopping):
                part.cancel()
            _, left = await asyncio.wait({speaking, stopping}, timeout=CANCEL_PATIENCE_SECONDS)
            if left:
                log.error("answer does not stop", run_id=str(run.id))
        return ("requires_action" if said.wanted else "completed"), None

    def _check(self, run: Run, said: Said) -> None:
        """Raises `AnswerTooLong`. OpenAI's clients know an answer without a word that is `incomplete`."""
        if said.finish == "length" and not run.text.strip() and run.turn.options is None:
            raise AnswerTooLong(said.model, answer_budget(self._catalog.model(said.model), None))

    async def _speak(self, run: Run, task: Task, said: Said) -> None:
        def ask(use: ToolUse) -> AsyncGenerator[ModelEvent, None]:
            # The next round is for the model that spoke in the last one: it knows why it called.
            prepare = partial(task.prepare, use=use)
            account = run.account
            asked = self._catalog.stream(
                said.model, prepare, fallbacks=task.fallbacks, admit=account.admit, cut=account.cut
            )
            return account.watched(asked)

        spoken = task.recall.through(converse(ask, task.toolbox, said.exchange, task.decided), run.account.give_again)
        answer = self._moderation.watched(spoken)
        async with contextlib.aclosing(answer) as events:
            async for event in events:
                if isinstance(event, Usage):
                    said.usage = said.usage + event if said.usage else event
                elif isinstance(event, Finish):
                    said.finish = event.cut
                elif isinstance(event, Chosen):
                    said.model = event.model
                elif isinstance(event, Wanted) and task.toolbox.handed_over:
                    for item in event.calls:
                        run.emit("tool.started", **handed(item))
                elif isinstance(event, Wanted):
                    said.wanted = event.calls
                elif isinstance(event, Withheld):
                    said.flagged = event.verdict
                    run.emit("text.replaced", text=event.text)
                else:
                    _tell(run, event)

    async def _end(self, run: Run, task: Task, said: Said, status: EndState, error: Problem | None) -> None:
        message = f"{error.kind}: {error}" if error else None
        calls = [_waiting(item) for item in said.wanted] if status == "requires_action" else []
        body = await self._ending(run, task, said, status, message, calls)
        outcome = await self._commit(run, body)
        await run.account.close(disputed=outcome is not None or run.stop_reason == "superseded")
        if outcome is not None:
            status, message = outcome
        else:
            if status == "completed" and not body["moderation"]:
                await task.recall.keep()
            for citation in body["citations"]:
                run.emit("citation", **citation)
            if body["usage"]:
                run.emit("usage", **body["usage"])
        whole = terminal(run.turn, status, run.text, message, said.finish)
        ends = approvals(calls) if status == "requires_action" else [whole]
        for kind, data in ends:
            run.emit(kind, **data)

    async def _ending(
        self, run: Run, task: Task, said: Said, status: EndState, message: str | None, calls: list[WaitingCall]
    ) -> dict[str, Any]:
        """All of it that is stored. With calls to agree to, also what the next attempt goes on with."""
        flagged = said.flagged or await self._moderation.flag(run.text)
        parts = parts_of(run.events)
        for item in calls:
            call(parts, asked(item))
        variant = run.account.variant
        body = ending(run.attempt, status, model=said.model, text=run.text, parts=parts, error=message, variant=variant)
        body |= cut(said.finish if status == "completed" else None) | {
            "citations": citations_of(run.text, task.shelf.knowledge),
            "usage": said.usage.as_json() if said.usage else None,
            "moderation": flagged.as_json() if flagged else None,
        }
        if calls:
            left = Resume(said.model, task.language, run.text, parts, said.exchange, task.shelf.knowledge, variant)
            body |= {"waiting": waiting(left, calls)}
        return body

    async def _give_up(self, run: Run, said: Said) -> None:
        """Close a run that crashed, without whatever it crashed on."""
        message = f"{Problem.kind}: {Problem.title}"
        try:
            body = ending(run.attempt, "failed", model=said.model, error=message, variant=run.account.variant)
            await self._store(run, body)
        except Exception as failure:  # its lease ends
            log.warning("crashed run not closed", run_id=str(run.id), error=type(failure).__name__)
        kind, data = terminal(run.turn, "failed", run.text, message)
        run.emit(kind, **data)

    async def _commit(self, run: Run, body: dict[str, Any]) -> tuple[EndState, str | None] | None:
        """Store the reply; None when it is stored, else how the run ends for those who watch it.

        Retried while conversation is away, or does not take us for whom we are: keys are renewed, and clocks set. A 409
        means that somebody else ended this attempt first: their end counts.
        """
        deadline = asyncio.get_running_loop().time() + COMMIT_PATIENCE_SECONDS
        pauses = iter(COMMIT_RETRY_SECONDS)
        while True:
            try:
                await self._store(run, body)
            except Problem as problem:
                if isinstance(problem, UpstreamProblem) and problem.status in FINAL:
                    log.warning("reply refused", run_id=str(run.id), status=problem.status, error=problem.kind)
                    return ("interrupted", None) if problem.status == 409 else ("failed", NOT_STORED)
                if asyncio.get_running_loop().time() > deadline:
                    log.error("reply lost", run_id=str(run.id), error=problem.kind)
                    return "failed", NOT_STORED
                await asyncio.sleep(next(pauses, COMMIT_RETRY_SECONDS[-1]))
            else:
                return None

    async def _store(self, run: Run, body: dict[str, Any]) -> None:
        """With what it has cost."""
        spent = run.account.spent
        await self._conversation.store_reply(run.id, body | {"spent": spent.as_json() if spent else None})
        run.account.entered = True


def _stopped(run: Run) -> EndState:
    return "cancelled" if run.stop_reason == "cancelled" else "interrupted"


def _record(invocation: Invocation, end: Event, said: Said) -> None:
    state = STATES.get(end.type, end.type.removeprefix("run."))
    RUNS.labels(state).inc()
    invocation.spoke(said.model, said.usage)
    invocation.span.set_attribute("chatbot.run.state", state)
    if end.type == "run.failed":
        invocation.failed(end.data["error"]["type"].rpartition(":")[2])


def _waiting(item: ToolCall) -> WaitingCall:
    return WaitingCall(tool_call_id=item.id, name=item.name, arguments=item.arguments)


def _tell(run: Run, event: AgentEvent) -> None:
    match event:
        case TextDelta(text=text):
            run.emit("text.delta", text=text)
        case ReasoningDelta(text=text):
            run.emit("reasoning.delta", text=text)
        case Called(call=made):
            run.emit("tool.started", tool_call_id=made.id, name=made.name, arguments=made.arguments)
        case Returned(call=made, result=result):
            run.emit("tool.finished", tool_call_id=made.id, name=made.name, status=result.status, content=result.text)


def _time_left(run: Run) -> float:
    """Seconds until the answer must end, so that its end can still be committed before the turn's deadline."""
    left = (run.turn.deadline - datetime.now(UTC)).total_seconds() - COMMIT_MARGIN_SECONDS
    return max(left, 0.5)
