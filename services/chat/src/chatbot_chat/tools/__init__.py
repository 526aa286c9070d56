"""What the model may do besides talking. A tool turns arguments into a text; everything else is the turn's.

A tool never sees the user's token, and what it returns is material for the model, never an instruction to us.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

from chatbot_chat.providers import ToolSpec

QUERY: Mapping[str, Any] = {
    "type": "object",
    "properties": {"query": {"type": "string"}},
    "required": ["query"],
    "additionalProperties": False,
}
"""Parameters of a tool that takes one text."""

_THREADS = ThreadPoolExecutor(8, thread_name_prefix="tool")
"""Own ones: a plug-in that hangs must not take those in which host names are resolved."""


class ToolError(Exception):
    """The tool could not do it; the model is told these words."""


@runtime_checkable
class Tool(Protocol):
    """Takes arguments that fit `parameters`, a JSON schema of an object; raises `ToolError`.

    With an attribute `side_effects` that is true, it runs only after the user has agreed.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]

    async def run(self, arguments: Mapping[str, Any]) -> str: ...


class QueryTool(Protocol):
    """The short form: one text in, one text out; `run` may be `async` or not. It has no `parameters`."""

    name: str
    description: str

    def run(self, query: str) -> str | Awaitable[str]: ...


AnyTool = Tool | QueryTool
Run = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Ready:
    """A tool as the turn uses it, whichever form it was written in. `asks`: the user must agree to each call.

    `foreign`: its schema is somebody else's, who checks the arguments; a pattern or reference in it could stop us.
    """

    spec: ToolSpec
    run: Callable[[Mapping[str, Any]], Awaitable[str]]
    asks: bool = False
    foreign: bool = False


def ready(tool: AnyTool, name: str | None = None) -> Ready:
    """The tool under the name that it is registered by."""
    parameters: Mapping[str, Any] | None = getattr(tool, "parameters", None)
    run: Callable[[Any], Any] = tool.run
    called: Run = run if parameters else lambda given: run(given["query"])
    spec = ToolSpec(name or tool.name, tool.description, parameters or QUERY)
    begin = _at_once if inspect.iscoroutinefunction(run) else _in_thread
    return Ready(spec, partial(begin, called), bool(getattr(tool, "side_effects", False)))


async def _at_once(called: Run, arguments: Mapping[str, Any]) -> str:
    return str(await called(arguments))


async def _in_thread(called: Run, arguments: Mapping[str, Any]) -> str:
    result = await asyncio.get_running_loop().run_in_executor(_THREADS, copy_context().run, called, arguments)
    return str(await result if inspect.isawaitable(result) else result)
