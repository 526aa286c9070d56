"""Responses: stored ones by runs, whichever replica executes them, the others by completions."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from chatbot_common.errors import Conflict, NotFound, Unavailable
from chatbot_common.http import UpstreamProblem
from chatbot_common.identity import User

from chatbot_chat.budgets.windows import BudgetUsedUp
from chatbot_chat.conversation_client import Knowledge, Options, Turn
from chatbot_chat.openai_api.raw import Refused, raw_request, refuse_forced_tools, refuse_unheld
from chatbot_chat.openai_api.responses.inputs import InputWindow, items_of, page_of
from chatbot_chat.openai_api.responses.schema import NAMES, ResponseRequest, renamed
from chatbot_chat.openai_api.responses.stateless import Stateless
from chatbot_chat.openai_api.responses.wording import (
    INTERRUPTED,
    Json,
    Telling,
    as_it_stands,
    calls_of,
    frame,
    response_of,
    run_id_of,
)
from chatbot_chat.openai_api.schema import ChatMessage, CompletionRequest
from chatbot_chat.openai_api.service import CompletionService
from chatbot_chat.providers import ModelRequest
from chatbot_chat.providers.catalog import Catalog
from chatbot_chat.providers.held import knobs_of
from chatbot_chat.runs.events import Position
from chatbot_chat.runs.failures import ONCE, RunFailed
from chatbot_chat.runs.service import RunService
from chatbot_chat.sse import guarded

CANCEL_SECONDS = 5.0
"""How long who cancels waits for the end, to be shown it."""

CALLS_BEFORE = (
    "Function calls and their outputs are not kept when a user's text follows them: send the outputs alone, with "
    "previous_response_id, and then the text with the id of that answer; or all of it with store: false."
)
UNANSWERED = (
    "No tool output found for function call {}. Send it with {} {!r}, and then the text with what comes of that."
)

SYSTEM = ("system", "developer")
CALLED = ("name", "arguments")


class NoSuchResponse(NotFound):
    kind, title = "response-not-found", "There is no such response"


class ResponseService:
    def __init__(self, completions: CompletionService, runs: RunService, catalog: Catalog) -> None:
        self._completions = completions
        self._runs = runs
        self._catalog = catalog
        self._assistant = completions.models[0]

    async def start(self, user: User, request: ResponseRequest, name: str) -> Turn:
        """Start the turn of a stored response, or find the one that this name has started.

        Raises:
            UnknownModel. NoSuchResponse: the previous one is not this user's. Conflict: it is not finished.
            ContentBlocked: moderation refused it; nothing is stored.
            Refused: the user says something else after what came of calls, or without saying what did.
        """
        options, asked = self._options(user, request), request.completion
        previous = await self._previous(user, request)
        said = [item for item in asked.messages if item.role not in SYSTEM]
        question = next((index for index in reversed(range(len(said))) if said[index].role == "user"), None)
        if any(item.role == "tool" or item.tool_calls for item in said[: question or 0]):
            raise Refused("input", CALLS_BEFORE)
        if question is not None and previous and (open_calls := as_it_stands(previous).calls):
            raise Refused("input", _unanswered(request, open_calls))
        others = [item for item in asked.messages if question is None or item is not said[question]]
        if others:  # the question itself is judged by who starts the run
            await self._completions.moderate(asked.model_copy(update={"messages": others}))
        if question is None:
            return await self._go_on(user, options, asked, previous, name)
        if not said[question].text.strip():
            raise Refused("input", "The outputs of function calls need the user's text from which the calls came.")
        told = self._told(options, asked, said[question:])
        earlier = [item for item in said[:question] if item.role in ("user", "assistant") and item.text]
        body: dict[str, Any] = {
            "text": said[question].text,
            "earlier": [{"role": item.role, "text": item.text} for item in earlier],
            "client_message_id": name,
            "conversation_id": str(request.conversation_id) if request.conversation_id else None,
            "options": _with(options, told) | {"sent": 0 if request.truncation == "auto" else len(earlier)},
        }
        if previous and request.previous_response_id:
            body["conversation_id"] = str(previous.conversation_id)
            body["parent_message_id"] = str(previous.reply_message_id)
        model = request.model if options.raw else None
        try:
            return await self._runs.send(user, body, model, None)
        except BudgetUsedUp as refusal:
            refusal.headers |= ONCE
            raise

    async def _go_on(
        self, user: User, options: Options, asked: CompletionRequest, previous: Turn | None, name: str
    ) -> Turn:
        """With what came of the previous response's calls: another answer to the same question.

        Raises:
            Refused: it made no calls, or the result of one is missing.
        """
        made = calls_of(previous.reply.parts) if previous and previous.reply and previous.options else []
        if previous is None or not made:
            raise Refused(
                "input",
                "These outputs belong to no call: name the response that made it as previous_response_id, or its "
                "conversation, or send the question and the call along.",
            )
        calls = [
            {"id": item["tool_call_id"], "function": {key: item[key] for key in CALLED}}
            | {"extra_content": item.get("extra_content")}
            for item in made
        ]
        question = ChatMessage(role="user", content=previous.text)
        said = ChatMessage(role="assistant", content=previous.reply and previous.reply.text, tool_calls=calls)
        outputs = [item for item in asked.messages if item.role == "tool"]
        told = self._told(options, asked, [question, said, *outputs])
        before = previous.options.exchange if previous.options else []
        body = {
            "conversation_id": str(previous.conversation_id),
            "message_id": str(previous.user_message_id),
            "client_message_id": name,
            "options": _with(options, told, before) | {"sent": previous.options.sent if previous.options else 0},
        }
        return await self._runs.regenerate(user, body, options.model, None)

    async def _previous(self, user: User, request: ResponseRequest) -> Turn | None:
        """The response that this one goes on from, or the newest of the conversation that it names.

        Raises:
            NoSuchResponse. UpstreamProblem: status 404 for a conversation of somebody else. Conflict: the response
            is not finished.
        """
        if request.conversation_id:
            return await self._runs.latest(user, request.conversation_id)
        if not request.previous_response_id:
            return None
        previous = await self.turn(user, request.previous_response_id)
        if previous.reply is None:
            raise Conflict("The previous response is not finished yet; wait for it, or cancel it.")
        return previous

    def _told(self, options: Options, asked: CompletionRequest, messages: list[ChatMessage]) -> ModelRequest | None:
        """A question with what has followed it, as the model is told; None where no tools of the client are about.

        Raises:
            Refused, PromptTooLong: before anything is stored.
        """
        if not options.raw or not (options.tools or options.tool_choice or len(messages) > 1):
            return None
        request = asked.model_copy(update={"messages": messages})
        return raw_request(self._catalog.model(options.model), request, Knowledge())

    def _options(self, user: User, request: ResponseRequest) -> Options:
        """Raises `UnknownModel`. Refused: the client has tools for the assistant, or insists on them in vain."""
        self._completions.check(request.model)
        asked, raw = request.completion, request.model != self._assistant
        request.refuse_unheld(raw)
        refuse_unheld(asked, self._completions.holding(user, request.model), NAMES)
        if not raw and (request.tools or any(item.role == "tool" for item in asked.messages)):
            raise Refused("tools", "The assistant uses its own tools; those of the client are for the raw models.")
        tools, choice = request.tools or [], request.tool_choice
        if raw and not self._catalog.calls(request.model):
            refuse_forced_tools(asked)
            tools, choice = [], None
        systems = [item.text for item in asked.messages if item.role in SYSTEM]
        return Options(
            model=request.model,
            raw=raw,
            instructions="\n\n".join(systems) or None,
            max_output_tokens=request.max_output_tokens,
            asked=asked.asked if raw else knobs_of(asked.asked),
            metadata=request.metadata or {},
            background=bool(request.background),
            previous_response_id=request.previous_response_id,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=asked.parallel,
            max_tool_calls=request.max_tool_calls,
            format=asked.format,
        )

    async def turn(self, user: User, response_id: str) -> Turn:
        """Raises `NoSuchResponse`, also for one of somebody else."""
        try:
            return await self._runs.turn(user, _run_id(response_id))
        except UpstreamProblem as problem:
            raise NoSuchResponse(_missing(response_id)) if problem.status == 404 else problem from None

    def view(self, turn: Turn) -> Json:
        """The response as it stands."""
        return response_of(turn, self._assistant).body(as_it_stands(turn))

    async def inputs(self, user: User, response_id: str, window: InputWindow) -> Json:
        """What it was asked with. Raises `NoSuchResponse`. Refused: there is no such place in it."""
        turn = await self.turn(user, response_id)
        return page_of(items_of(turn, await self._runs.told(user, turn.turn_id)), window)

    async def whole(self, user: User, turn: Turn) -> Json:
        """Wait for the end.

        Raises:
            RunFailed: it failed. Unavailable: it was interrupted, or its end cannot be seen.
        """
        telling = Telling(response_of(turn, self._assistant))
        async for event in self._runs.events(user, turn, Position()):
            told = telling.heard(event)
            if event.type == "run.failed":
                error = event.data["error"]
                raise RunFailed(error | {"title": renamed(error["title"])})
            if event.type == "run.interrupted":
                raise Unavailable(INTERRUPTED, headers=ONCE)
            if event.terminal:
                response: Json = told[-1]["response"]
                return response
        detail = "The response goes on, but its end cannot be seen from here; look again shortly."
        raise Unavailable(detail, headers=ONCE)

    def frames(self, user: User, turn: Turn, after: int = -1) -> AsyncGenerator[bytes, None]:
        """Events after this number, until the end, from any replica."""
        telling = Telling(response_of(turn, self._assistant), after)

        async def frames() -> AsyncGenerator[bytes, None]:
            async for event in self._runs.events(user, turn, Position()):
                for told in telling.heard(event):
                    yield frame(told)

        return guarded(frames(), telling.failed)

    async def cancel(self, user: User, response_id: str) -> Json:
        """Stop it, and wait a moment for its end. One that has ended stays as it ended."""
        try:
            turn = await self._runs.cancel(user, _run_id(response_id))
        except UpstreamProblem as problem:
            raise NoSuchResponse(_missing(response_id)) if problem.status == 404 else problem from None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                async for event in self._runs.events(user, turn, Position()):
                    if event.terminal:
                        break
        return self.view(await self.turn(user, response_id))

    async def delete(self, user: User, response_id: str) -> Json:
        """With what was asked and said; one that is under way is stopped. Raises `NoSuchResponse`."""
        try:
            await self._runs.delete(user, _run_id(response_id))
        except UpstreamProblem as problem:
            raise NoSuchResponse(_missing(response_id)) if problem.status == 404 else problem from None
        return {"id": response_id, "object": "response", "deleted": True}

    async def answer(self, user: User, request: ResponseRequest) -> Stateless:
        """Be ready to answer without storing anything. Raises what `CompletionService.answer` does."""
        options = self._options(user, request)
        completion = request.completion
        await self._completions.moderate(completion)
        return Stateless(await self._completions.answer(user, completion), options)


def _with(options: Options, told: ModelRequest | None, before: Sequence[Json] = ()) -> Json:
    if told is None:
        return options.model_dump()
    exchange = [*before, *map(asdict, told.messages[1:])]
    choice = {"may_call": told.may_call, "must_call": told.must_call}
    return options.model_copy(update={"exchange": exchange} | choice).model_dump()


def _unanswered(request: ResponseRequest, calls: Sequence[Json]) -> str:
    place = ("previous_response_id", request.previous_response_id)
    if request.conversation_id:
        place = ("conversation", str(request.conversation_id))
    return UNANSWERED.format(calls[0]["tool_call_id"], *place)


def _run_id(response_id: str) -> UUID:
    try:
        return run_id_of(response_id)
    except ValueError:
        raise NoSuchResponse(_missing(response_id)) from None


def _missing(response_id: str) -> str:
    return f"There is no response {response_id[:60]!r} of yours."
