"""Responses: stored ones by runs, whichever replica executes them, the others by completions."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from uuid import UUID

from chatbot_common.errors import Conflict, NotFound, Problem, Unavailable
from chatbot_common.http import UpstreamProblem
from chatbot_common.identity import User

from chatbot_chat.conversation_client import Options, Turn
from chatbot_chat.openai_api.answering import Answering
from chatbot_chat.openai_api.responses.schema import ResponseRequest
from chatbot_chat.openai_api.responses.wording import (
    INTERRUPTED,
    Cut,
    Ending,
    Json,
    State,
    Telling,
    as_it_stands,
    frame,
    response_of,
    run_id_of,
    stateless,
)
from chatbot_chat.openai_api.schema import CompletionRequest
from chatbot_chat.openai_api.service import CompletionService
from chatbot_chat.providers.catalog import Catalog
from chatbot_chat.runs.events import Position
from chatbot_chat.runs.failures import RunFailed
from chatbot_chat.runs.service import RunService
from chatbot_chat.sse import guarded

CANCEL_SECONDS = 5.0
"""How long who cancels waits for the end, to be shown it."""


CUTS: Mapping[str, Cut] = {"length": "max_output_tokens", "content_filter": "content_filter"}


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
        """
        options = self._options(request)
        messages = [item for item in request.messages if item.role in ("user", "assistant") and item.text]
        body: dict[str, Any] = {
            "text": messages[-1].text,
            "earlier": [{"role": item.role, "text": item.text} for item in messages[:-1]],
            "client_message_id": name,
            "conversation_id": str(request.conversation_id) if request.conversation_id else None,
            "options": options.model_dump(),
        }
        if request.previous_response_id:
            previous = await self.turn(user, request.previous_response_id)
            if previous.reply is None:
                raise Conflict("The previous response is not finished yet; wait for it, or cancel it.")
            body["conversation_id"] = str(previous.conversation_id)
            body["parent_message_id"] = str(previous.reply_message_id)
        if len(request.messages) > 1:  # the question itself is judged by who starts the run
            await self._completions.moderate(CompletionRequest(model=request.model, messages=request.messages[:-1]))
        model = request.model if options.raw else self._catalog.default
        return await self._runs.send(user, body, model, None)

    def _options(self, request: ResponseRequest) -> Options:
        """Raises `UnknownModel`."""
        self._completions.check(request.model)
        systems = [item.text for item in request.messages if item.role in ("system", "developer")]
        return Options(
            model=request.model,
            raw=request.model != self._assistant,
            instructions="\n\n".join(systems) or None,
            max_output_tokens=request.max_output_tokens,
            temperature=request.temperature,
            metadata=request.metadata or {},
            background=bool(request.background),
            previous_response_id=request.previous_response_id,
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

    async def whole(self, user: User, turn: Turn) -> Json:
        """Wait for the end.

        Raises:
            RunFailed: it failed. Unavailable: it was interrupted, or its end cannot be seen.
        """
        telling = Telling(response_of(turn, self._assistant))
        async for event in self._runs.events(user, turn, Position()):
            told = telling.heard(event)
            if event.type == "run.failed":
                raise RunFailed(event.data["error"])
            if event.type == "run.interrupted":
                raise Unavailable(INTERRUPTED)
            if event.terminal:
                response: Json = told[-1]["response"]
                return response
        raise Unavailable("The response goes on, but its end cannot be seen from here; look again shortly.")

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

    async def answer(self, user: User, request: ResponseRequest) -> "Stateless":
        """Be ready to answer without storing anything. Raises what `CompletionService.answer` does."""
        options = self._options(request)
        completion = CompletionRequest(
            model=request.model,
            messages=request.messages,
            max_completion_tokens=request.max_output_tokens,
            temperature=request.temperature,
        )
        await self._completions.moderate(completion)
        return Stateless(await self._completions.answer(user, completion), options)


class Stateless:
    """One answer on its way, in either form."""

    def __init__(self, answering: Answering, options: Options) -> None:
        self._answering = answering
        self._response = stateless(options)
        self.close = answering.close

    async def whole(self) -> Json:
        """Raises `ProviderError`."""
        async with contextlib.aclosing(self._answering.deltas()) as deltas:
            async for _ in deltas:
                pass
        return self._response.body(self._ending("completed"))

    def frames(self) -> AsyncGenerator[bytes, None]:
        telling = Telling(self._response)
        return guarded(self._frames(telling), telling.failed)

    async def _frames(self, telling: Telling) -> AsyncGenerator[bytes, None]:
        for told in telling.begin():
            yield frame(told)
        error: Problem | None = None
        try:
            async with contextlib.aclosing(self._answering.deltas()) as deltas:
                async for piece in deltas:  # no calls of tools: the client has offered none
                    for told in telling.say(piece) if isinstance(piece, str) else ():
                        yield frame(told)
        except Problem as problem:
            error = problem
        for told in telling.end(self._ending("failed" if error else "completed", error)):
            yield frame(told)

    def _ending(self, state: State, problem: Problem | None = None) -> Ending:
        usage = self._answering.usage
        counted = usage.as_json() if usage else None
        error = {"type": problem.as_json()["type"], "title": str(problem)} if problem else None
        cut = CUTS.get(self._answering.reason)
        return Ending(state, self._answering.text, self._answering.citations, counted, error, cut)


def _run_id(response_id: str) -> UUID:
    try:
        return run_id_of(response_id)
    except ValueError:
        raise NoSuchResponse(_missing(response_id)) from None


def _missing(response_id: str) -> str:
    return f"There is no response {response_id[:60]!r} of yours."
