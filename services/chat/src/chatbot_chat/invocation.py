"""What is measured and traced of the agent at work: from a question to the end of its answer, whoever asked.

A raw model that is only asked is no agent, unless what it says is a turn; its requests are metered all the same.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterator
from time import perf_counter
from typing import TypeVar

from chatbot_common import genai
from opentelemetry import trace
from opentelemetry.trace import Span

from chatbot_chat.providers import Chosen, Usage

EventT = TypeVar("EventT")

tracer = trace.get_tracer(__name__)


class Invocation:
    """Of the agent, once."""

    def __init__(self, agent: str, **attributes: str) -> None:
        self._agent = agent
        self._started = perf_counter()
        named = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent}
        self.span: Span = tracer.start_span(f"invoke_agent {agent}", attributes=named | attributes)
        self._failure = ""

    def spoke(self, model: str, usage: Usage | None) -> None:
        """The model that did, and what was used in all rounds."""
        if self.span.is_recording():
            self.span.set_attribute("chatbot.model", model)
            if usage:
                self.span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
                self.span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)

    def failed(self, error: BaseException | str) -> None:
        self._failure = genai.failed(self.span, error)

    def end(self) -> None:
        self.span.end()
        genai.AGENT_SECONDS.labels(self._agent, self._failure).observe(perf_counter() - self._started)


@contextlib.contextmanager
def invoked(agent: str, **attributes: str) -> Iterator[Invocation]:
    """A block that is the agent at work, and the parent of what it does."""
    invocation = Invocation(agent, **attributes)
    try:
        with trace.use_span(invocation.span, record_exception=False, set_status_on_exception=False):
            yield invocation
    except Exception as error:
        invocation.failed(error)
        raise
    finally:
        invocation.end()


async def followed(agent: str, model: str, events: AsyncGenerator[EventT, None]) -> AsyncGenerator[EventT, None]:
    """The same events. While one is yielded the span is nobody's: it must not become the consumer's."""
    invocation, used = Invocation(agent), list[Usage]()
    try:
        async with contextlib.aclosing(events):
            while True:
                with trace.use_span(invocation.span, record_exception=False, set_status_on_exception=False):
                    try:
                        event = await anext(events)
                    except StopAsyncIteration:
                        return
                if isinstance(event, Chosen):
                    model = event.model
                elif isinstance(event, Usage):
                    used.append(event)
                yield event
    except Exception as error:
        invocation.failed(error)
        raise
    finally:
        invocation.spoke(model, sum(used[1:], used[0]) if used else None)
        invocation.end()
