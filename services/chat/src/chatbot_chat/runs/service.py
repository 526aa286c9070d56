"""Starting, watching and stopping runs, whichever replica executes them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from chatbot_common.errors import Problem, Unauthenticated, Unavailable, UpstreamFailed
from chatbot_common.http import UpstreamProblem
from chatbot_common.identity import User
from prometheus_client import Gauge
from redis import RedisError

from chatbot_chat.budgets.accounts import Account
from chatbot_chat.budgets.service import Budgets
from chatbot_chat.caching.service import USUAL, Cache, Use
from chatbot_chat.conversation_client import ConversationClient, ToldMessage, Turn, ending
from chatbot_chat.moderation.rules import Rules
from chatbot_chat.moderation.service import Moderation
from chatbot_chat.prompt import PromptTooLong, ToolUse, prompt_room
from chatbot_chat.providers.catalog import Catalog
from chatbot_chat.runs.events import Event, Position, ending_of
from chatbot_chat.runs.executor import Executor
from chatbot_chat.runs.leases import Leases
from chatbot_chat.runs.log import RunLog
from chatbot_chat.runs.run import Run
from chatbot_chat.runs.tasks import Asking, Task
from chatbot_chat.timing import untold
from chatbot_chat.tools.catalog import ToolCatalog
from chatbot_chat.variants import Choices

log = structlog.get_logger(__name__)

RUNS_IN_FLIGHT = Gauge("chat_runs_in_flight", "Runs executing in this process")
POLL_SECONDS = 1.0
Result = TypeVar("Result")
LATEST = timedelta(minutes=3)
"""How long after its deadline a run may still be followed: by then it was closed."""


class RunService:
    def __init__(
        self,
        catalog: Catalog,
        tools: ToolCatalog,
        conversation: ConversationClient,
        run_log: RunLog,
        choices: Choices,
        budgets: Budgets | None = None,
        moderation: Moderation | None = None,
        agent: str = "assistant",
        cache: Cache | None = None,
    ) -> None:
        self._catalog = catalog
        self._conversation = conversation
        self._log = run_log
        self._budgets = budgets or Budgets(conversation)
        self._cache = cache or Cache(conversation)
        self._asking = Asking(catalog, tools, conversation, choices, self._cache)
        self._moderation = moderation or Moderation(Rules({}))
        self._executor = Executor(agent, catalog, conversation, run_log, self._moderation)
        self._runs: dict[UUID, Run] = {}
        models = {name: catalog.model(name) for name in catalog.names}
        self.leases = Leases(conversation, run_log, lambda: self._runs.values(), budgets=self._budgets, models=models)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._leaving = False
        # Of all models, whatever the answer's bound: which of them answers may be known only when the turn is there.
        self._told = {"history_tokens": max(prompt_room(model, 1) for model in models.values())}

    async def send(
        self, user: User, body: dict[str, Any], model: str | None, language: str | None, use: Use = USUAL
    ) -> Turn:
        """Start the turn, or find the one this message started before; its events come from `events`.

        Args:
            model: the one that the client named, if it did.
            use: of the cache.

        Raises:
            ContentBlocked: moderation refused it; nothing is stored. Problem: the turn could not be started.
        """
        if flagged := await self._moderation.question(body["text"]):
            body = body | {"moderation": flagged.as_json()}
        starting = self._conversation.start_turn(user, body | self._told)
        return await self._surely(self._begin(user, starting, model, language, use))

    async def regenerate(
        self, user: User, body: dict[str, Any], model: str | None, language: str | None, use: Use = USUAL
    ) -> Turn:
        """Answer a question once more, by the model; otherwise as `send`."""
        starting = self._conversation.regenerate(user, body | self._told)
        return await self._surely(self._begin(user, starting, model, language, use.anew))

    async def approve(self, user: User, run_id: UUID, tool_call_id: str, approved: bool) -> Turn:
        """Answer a call of a tool that waits for the user. With the last answer the next attempt starts, here.

        Raises:
            UpstreamProblem: status 404 for a run of somebody else, or no such call; 409 when it does not wait any more.
        """
        body = {"tool_call_id": tool_call_id, "approved": approved} | self._told
        answering = self._conversation.approve(user, run_id, body)
        return await self._surely(self._begin(user, answering, None, None))

    async def _surely(self, beginning: Coroutine[Any, Any, Turn]) -> Turn:
        """Also when the caller is cancelled: a turn that was started and is not run has nobody who answers it."""
        return await asyncio.shield(self._task(beginning))

    def _task(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _begin(
        self, user: User, starting: Awaitable[Turn], model: str | None, language: str | None, use: Use = USUAL
    ) -> Turn:
        turn = await starting
        if turn.state == "started":
            account = self._budgets.account(user.id, turn.turn_id, turn.attempt, key=user.key, logged=True)
            try:
                asked = await self._asking.of(user, turn, model, language, use)
                account.variant = asked.variant
                await self._admit(asked, account)
            except Exception as failure:
                await account.close()
                await self._refuse(turn, failure if isinstance(failure, Problem) else Problem())
                raise
            self._start(user.id, turn, asked, account)
        return turn

    async def _admit(self, asked: Task, account: Account) -> None:
        """Raises `BudgetUsedUp`, `PriceUnknown`; `UnknownModel`, since its model may have gone while it waited."""
        if asked.recall.hit or not account.bounded:
            return
        settings = self._catalog.model(asked.model)
        with contextlib.suppress(PromptTooLong):  # that is for the run to tell, where no fallback has room for it
            use = ToolUse(asked.toolbox.specs, asked.before.exchange if asked.before else ())
            await account.admit(settings, asked.prepare(settings, use))

    async def _refuse(self, turn: Turn, problem: Problem) -> None:
        """The turn ends as failed before it is run, and can be tried again."""
        body = ending(turn.attempt, "failed", model=None, error=f"{problem.kind}: {problem}")
        with contextlib.suppress(Problem):  # its lease ends
            await self._conversation.store_reply(turn.turn_id, body)

    def _start(self, user_id: UUID, turn: Turn, asked: Task, account: Account) -> None:
        if before := self._runs.get(turn.turn_id):
            before.stop("superseded")  # another process has closed it while this one was frozen
        run = self._runs[turn.turn_id] = Run(user_id, turn, account)
        if self._leaving:
            run.stop("interrupted")
        # A task of its own: a client that goes away must not take the answer with it.
        task = self._task(self._executor.execute(run, asked))
        RUNS_IN_FLIGHT.inc()
        task.add_done_callback(lambda _: self._finished(run))
        self._task(self.leases.begin(run))

    def _finished(self, run: Run) -> None:
        RUNS_IN_FLIGHT.dec()
        if self._runs.get(run.id) is run:
            del self._runs[run.id]

    async def turn(self, user: User, run_id: UUID) -> Turn:
        """The user's own run; someone else's is a 404."""
        return await self._conversation.get_turn(user, run_id)

    async def latest(self, user: User, conversation_id: UUID) -> Turn | None:
        """The newest run of the user's own conversation; someone else's is a 404."""
        return await self._conversation.latest_turn(user, conversation_id)

    async def told(self, user: User, run_id: UUID) -> list[ToldMessage]:
        """What the user's own run was asked with: its question, and what came along with that; oldest first."""
        return await self._conversation.told(user, run_id)

    async def delete(self, user: User, run_id: UUID) -> None:
        """Stop a run and erase it, with what was asked and said: it is not given again. Raises what `cancel` does.

        The turn goes last: as long as it is there, all of this can be asked for again."""
        await self.cancel(user, run_id)
        await self._cache.forget(user.id)
        await self._conversation.delete_turn(user, run_id)

    async def delete_conversation(self, user: User, conversation_id: UUID) -> None:
        """Erase it, with what the cache would give again of it. Its runs stop; elsewhere they find out by their lease.

        Raises:
            Unavailable: the cache cannot be reached; it goes first, so that all of this can be asked for again.
            UpstreamProblem: status 404 for a conversation of somebody else.
        """
        await self._cache.forget(user.id)
        await self._conversation.delete_conversation(user, conversation_id)
        for run in [*self._runs.values()]:
            if run.turn.conversation_id == conversation_id:
                run.stop("cancelled")

    async def cancel(self, user: User, run_id: UUID) -> Turn:
        """Ask for the run to stop, wherever it is; one that waits for its user ends at once. An ended one stays so.

        Raises:
            Unavailable: the run is elsewhere and Redis, which carries the wish, is away.
        """
        run = self._runs.get(run_id)
        if run and run.user_id == user.id:  # also when its conversation was deleted meanwhile
            run.stop("cancelled")
            return run.turn
        turn = await self.turn(user, run_id)
        if turn.state == "requires_action":
            turn = await self._end_waiting(user, turn)
        if turn.state != "running":
            return turn
        try:
            await self._log.cancel(run_id, turn.attempt)
        except RedisError as error:
            raise Unavailable("The run cannot be reached right now; try again shortly.") from error
        return turn

    async def _end_waiting(self, user: User, turn: Turn) -> Turn:
        """The turn as it stands then: the user may have answered meanwhile, so that it goes on."""
        try:
            await self._conversation.store_reply(turn.turn_id, ending(turn.attempt, "cancelled", model=None))
        except UpstreamProblem as problem:
            if problem.status != 409:
                raise
        return await self.turn(user, turn.turn_id)

    def events(self, user: User, turn: Turn, position: Position) -> AsyncIterator[Event]:
        """The run's events after `position`, until it has ended.

        What the log no longer holds arrives as one `run.snapshot`. Any replica may serve it.
        """
        if turn.state == "running":  # which another request has started
            untold()
        after = position.within(turn.attempt)
        if run := self._local(turn):
            return run.follow(min(after, len(run.events)))
        return self._remote(user, turn, after)

    def _local(self, turn: Turn) -> Run | None:
        run = self._runs.get(turn.turn_id)
        return run if run and run.attempt == turn.attempt else None

    async def _remote(self, user: User, turn: Turn, after: int) -> AsyncIterator[Event]:
        """Follow a run that another replica executes, or that has ended.

        The log is asked first; the turn's row only when the log is silent, and it has the last word.
        """
        wait = False
        while datetime.now(UTC) < turn.deadline + LATEST or turn.state != "running":
            for event in (events := await self._read(turn, after, wait=wait)):
                after = event.seq
                yield event
                if event.terminal:
                    return
            if events:
                continue
            if turn.state != "running":
                for event in ending_of(turn, after):
                    yield event
                return
            attempt, turn = turn.attempt, await self._again(user, turn)
            after = after if turn.attempt == attempt else 0
            wait = turn.state == "running"
        raise Unavailable("The run cannot be followed any longer; look again shortly.")

    async def _again(self, user: User, turn: Turn) -> Turn:
        """The turn as it stands now; as it stood while that cannot be read, or the user's token has expired."""
        try:
            return await self._conversation.get_turn(user, turn.turn_id)
        except (Unauthenticated, Unavailable, UpstreamFailed, UpstreamProblem) as problem:
            if problem.status == 404:
                raise
            log.warning("turn not readable", run_id=str(turn.turn_id), error=problem.kind)
            await asyncio.sleep(POLL_SECONDS)
            return turn

    async def _read(self, turn: Turn, after: int, *, wait: bool) -> list[Event]:
        """What the log has next: nothing while Redis is away, or has lost it and the writer is about to restore it."""
        try:
            events = await self._log.read(turn.turn_id, turn.attempt, after, wait=wait)
        except RedisError:
            events = []
        else:
            if not events or events[0].seq == after + 1:
                return events
        await asyncio.sleep(POLL_SECONDS if wait else 0)
        return []

    async def drain(self, seconds: float) -> None:
        """Let runs finish, then close the rest as interrupted, their text kept."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._tasks:  # a turn that is being started becomes a run
                    await asyncio.wait(self._tasks)
        self._leaving = True
        for run in list(self._runs.values()):
            run.stop("interrupted")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)
