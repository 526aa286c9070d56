"""The loop of an answer with tools: ask the model, make the calls that it wants, tell it what came of them, ask again.

A generator of what happens, in the order in which it does; whoever closes it ends the calls under way with it. It knows
neither runs nor clients: both faces use it.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from chatbot_common.ids import uuid7

from chatbot_chat.prompt import ToolUse
from chatbot_chat.providers import Finish, Message, ModelEvent, ProviderError, TextDelta, ToolCall
from chatbot_chat.providers.text import whole_characters
from chatbot_chat.timing import waiting
from chatbot_chat.tools.toolbox import DECLINED, Result, Toolbox

ROUNDS = 8
"""How often the model may call tools; then it has to answer."""
CALLS = 16
"""That are made of one round's; the client may make as many of its own as it likes."""
TOO_MANY = Result(f"Not more than {CALLS} calls are made at once; call again what is still needed.", "failed")
LEAKED = Result("The tool failed.", "failed")
"""Of a call that nobody has cancelled, and that ended so: what it waited for was, and a library let that through."""
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
"""Ids that are safe in the path of an address; a provider may send others."""


@dataclass(frozen=True)
class Called:
    """A call is about to be made."""

    call: ToolCall


@dataclass(frozen=True)
class Returned:
    call: ToolCall
    result: Result


@dataclass(frozen=True)
class Wanted:
    """Calls that the user must agree to; the loop ends here, and goes on with the same exchange and `decided`."""

    calls: tuple[ToolCall, ...]


AgentEvent = ModelEvent | Called | Returned | Wanted
Ask = Callable[[ToolUse], AsyncGenerator[ModelEvent, None]]


class TooManyRounds(ProviderError):
    kind, title = "too-many-tool-rounds", "The model kept calling tools and did not answer"
    transient = outage = False


async def converse(
    ask: Ask, toolbox: Toolbox, exchange: list[Message] | None = None, decided: Mapping[str, bool] | None = None
) -> AsyncGenerator[AgentEvent, None]:
    """Everything until the answer, or until the user must be asked. Tool calls are told as `Called`, not as they come.

    Args:
        exchange: calls and results so far; grows as the loop goes on.
        decided: call id → whether the user has agreed to it.

    Raises:
        ProviderError: the model failed, or did not come to an end.
    """
    exchange = [] if exchange is None else exchange
    spoke = any(message.content for message in exchange if message.tool_calls)
    for left in range(ROUNDS - sum(bool(message.tool_calls) for message in exchange), -1, -1):
        if calls := unanswered(exchange):
            some = calls if toolbox.handed_over else calls[:CALLS]
            asking = [call for call in some if call.id not in (decided or {}) and toolbox.asks(call)]
            others, most = [call for call in calls if call not in asking], CALLS - len(asking)
            async with aclosing(_performed(others, toolbox, decided, most)) as made:
                async for event in made:
                    if isinstance(event, Returned):
                        exchange.append(Message("tool", event.result.text, tool_call_id=event.call.id))
                    yield event
            if asking:
                yield Wanted(tuple(asking))
                return
        said, calls, whole = "", [], True
        async with aclosing(ask(ToolUse(toolbox.specs, tuple(exchange), may_call=left > 0))) as events:
            async for heard in events:
                if isinstance(heard, ToolCall):
                    calls.append(_named(heard, {call.id for call in [*calls, *_calls(exchange)]}))
                    continue
                if isinstance(heard, Finish):
                    whole = heard.cut is None
                if isinstance(heard, TextDelta):
                    if spoke and not said:
                        yield TextDelta("\n\n")  # what it says now does not go on with what it said before it called
                    said += heard.text
                yield heard
        if not (calls and whole):
            return  # of an answer that was cut, its last call may be half of one
        if not left:
            break
        spoke = spoke or bool(said)
        exchange.append(Message("assistant", said, tuple(calls)))
    raise TooManyRounds(f"The model called tools {ROUNDS} times over; ask for less at once.")


def unanswered(exchange: Sequence[Message]) -> list[ToolCall]:
    """Calls of which no result is there yet."""
    answered = {message.tool_call_id for message in exchange if message.role == "tool"}
    return [call for call in _calls(exchange) if call.id not in answered]


def _calls(exchange: Sequence[Message]) -> list[ToolCall]:
    return [call for message in exchange for call in message.tool_calls]


def _named(call: ToolCall, taken: Collection[str]) -> ToolCall:
    """With an id of its own: servers give the same in each round, or none. What it says can be sent and stored."""
    fits = _ID.fullmatch(call.id) and call.id not in taken
    name, arguments = whole_characters(call.name), whole_characters(call.arguments)
    return replace(call, id=call.id if fits else f"call_{uuid7().hex}", name=name, arguments=arguments)


async def _performed(
    calls: Sequence[ToolCall], toolbox: Toolbox, decided: Mapping[str, bool] | None, most: int
) -> AsyncGenerator[Called | Returned, None]:
    """All at once, but not more than `most`; each is told when it is done."""
    declined = [call for call in calls if (decided or {}).get(call.id) is False]
    for call in declined:
        yield Returned(call, toolbox.instead(call, DECLINED))
    tasks: dict[asyncio.Task[Result], ToolCall] = {}
    try:
        for number, call in enumerate(call for call in calls if call not in declined):
            yield Called(call)
            if number < most:
                tasks[asyncio.create_task(toolbox.perform(call))] = call
            else:
                yield Returned(call, toolbox.instead(call, TOO_MANY))
        pending = set(tasks)
        while pending:
            with waiting():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield Returned(tasks[task], LEAKED if task.cancelled() else task.result())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
