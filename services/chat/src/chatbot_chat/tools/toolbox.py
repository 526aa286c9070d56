"""The tools of one answer: a call goes in, a text comes out, whatever happens."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import structlog
from chatbot_common import genai
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from opentelemetry import trace
from prometheus_client import Counter, Histogram
from referencing import Registry

from chatbot_chat.providers import ToolCall, ToolSpec
from chatbot_chat.providers.text import whole_characters
from chatbot_chat.tools import Ready, ToolError

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

CALL_SECONDS = 20.0
LONGEST_RESULT = 16_000
"""Characters that are kept of a result."""

CALLS = Counter("chat_tool_calls_total", "Calls of tools by how they ended", ["tool", "status"])
SECONDS = Histogram(
    "chat_tool_seconds", "Time that calls of tools took", ["tool"], buckets=(0.01, 0.1, 0.5, 1, 2, 5, 10, 20)
)

MOST_NAMES = 200
OTHER = "_OTHER"
"""In the place of a name that is not ours to count by."""

Status = Literal["completed", "failed", "declined"]


@dataclass(frozen=True)
class Result:
    """What a call came to, in words for the model."""

    text: str
    status: Status = "completed"
    error: str = ""
    """The kind of failure, for those who count."""


DECLINED = Result("The user declined this call. Go on without it, and do not ask for it again.", "declined")


class Toolbox:
    def __init__(self, tools: Sequence[Ready] = (), seconds: float = CALL_SECONDS) -> None:
        self._tools = {tool.spec.name: tool for tool in tools}
        self._seconds = seconds

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple(tool.spec for tool in self._tools.values())

    def asks(self, call: ToolCall) -> bool:
        """Whether the user must agree first; a call that will fail as it is needs no asking."""
        tool = self._tools.get(call.name)
        return tool is not None and tool.asks and not isinstance(arguments_of(call, tool), ToolError)

    async def perform(self, call: ToolCall) -> Result:
        """Run the tool. Its failure, whichever, is a result too."""
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return self.instead(call, Result(f"There is no tool {call.name!r}; those there are: {known}.", "failed"))
        name, started = _label(call.name), perf_counter()
        with genai.traced(tracer, f"execute_tool {call.name}", _attributes(call)) as span:
            result = await self._run(tool, call)
            if result.error:
                genai.failed(span, result.error)
        seconds = perf_counter() - started
        SECONDS.labels(name).observe(seconds)
        genai.TOOL_SECONDS.labels(name, result.error).observe(seconds)
        CALLS.labels(name, result.status).inc()
        return result

    def instead(self, call: ToolCall, result: Result) -> Result:
        """What the model is told in place of a call; counted as one."""
        CALLS.labels(_label(call.name) if call.name in self._tools else OTHER, result.status).inc()
        return result

    async def _run(self, tool: Ready, call: ToolCall) -> Result:
        arguments = arguments_of(call, tool)
        if isinstance(arguments, ToolError):
            return Result(str(arguments), "failed", "invalid-arguments")
        try:
            async with asyncio.timeout(self._seconds):
                return Result(_capped(await tool.run(arguments)))
        except ToolError as error:
            return Result(_capped(str(error)), "failed", "tool-failed")
        except TimeoutError:
            return Result(f"The tool did not answer within {self._seconds:g} seconds.", "failed", "timeout")
        except Exception as crash:  # a plug-in's defect is not the end of the run, and its words are not for others
            log.error("tool crashed", tool=call.name, exc_info=crash)
            return Result("The tool failed.", "failed", "tool-crashed")


_NAMES: set[str] = set()


def _label(name: str) -> str:
    """Of a tool there is. Servers of tools name theirs, as often as they like: what comes too late has no series."""
    if len(_NAMES) < MOST_NAMES:
        _NAMES.add(name)
    return name if name in _NAMES else OTHER


def _attributes(call: ToolCall) -> dict[str, str]:
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call.name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": call.id,
    }


def arguments_of(call: ToolCall, tool: Ready) -> dict[str, Any] | ToolError:
    """The arguments as the tool takes them, or what is wrong with them. An empty text stands for no arguments."""
    try:
        given = json.loads(call.arguments.strip() or "{}")
    except (ValueError, RecursionError) as error:
        return ToolError(f"The arguments are not valid JSON: {error}.")
    try:
        mistake = best_match(_checked_by(tool).iter_errors(given))
    except Exception as error:  # a plug-in's schema may hold anything
        return ToolError(f"The tool's own description of its arguments cannot be used: {type(error).__name__}.")
    if mistake is None:
        arguments: dict[str, Any] = given
        return arguments
    where = "/".join(map(str, mistake.absolute_path))
    return ToolError(f"The arguments do not fit{f' at {where}' if where else ''}: {mistake.message[:500]}")


def _checked_by(tool: Ready) -> Draft202012Validator:
    """An empty registry: a schema that refers to another document must not have it fetched."""
    parameters = {} if tool.foreign else tool.spec.parameters
    return Draft202012Validator({"type": "object"} | dict(parameters), registry=Registry())


def _capped(text: str) -> str:
    text = whole_characters(text).replace("\x00", "")
    if len(text) <= LONGEST_RESULT:
        return text
    return f"{text[:LONGEST_RESULT]}\n(cut here, after {LONGEST_RESULT} of {len(text)} characters)"
