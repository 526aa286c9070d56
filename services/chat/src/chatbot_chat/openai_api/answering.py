"""An answer of completions while it is given: whole, or as chunks."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from chatbot_common.ids import uuid7

from chatbot_chat.agent import AgentEvent
from chatbot_chat.budgets.accounts import Account
from chatbot_chat.citations import citations_of
from chatbot_chat.moderation.service import Withheld
from chatbot_chat.openai_api.completion import DONE, Completion, annotations_of, call_of, frame
from chatbot_chat.providers import Finish, TextDelta, ToolCall, Usage
from chatbot_chat.tools.knowledge import Shelf


class Answering:
    """One answer on its way, in either form."""

    def __init__(
        self,
        completion: Completion,
        events: AsyncGenerator[AgentEvent | Withheld, None],
        shelf: Shelf,
        account: Account,
    ) -> None:
        self._completion = completion
        self._events = events
        self._shelf = shelf
        self._account = account
        self._begun = False
        self.text = ""
        self.calls: list[ToolCall] = []
        self.usage: Usage | None = None
        self.reason = "stop"

    async def whole(self) -> dict[str, Any]:
        async with aclosing(self.deltas()) as deltas:
            async for _ in deltas:
                pass
        return self._completion.whole(self.text, self.reason, self.usage, self._annotations(), self.calls)

    async def frames(self, include_usage: bool) -> AsyncGenerator[bytes, None]:
        """Server-sent chunks, the last one `[DONE]`. Raises `ProviderError`."""
        yield frame(self._completion.chunk({"role": "assistant", "content": ""}))
        async with aclosing(self.deltas()) as deltas:
            async for said in deltas:
                if isinstance(said, str):
                    yield frame(self._completion.chunk({"content": said}))
                else:
                    called = {"index": len(self.calls) - 1} | call_of(said)
                    yield frame(self._completion.chunk({"tool_calls": [called]}))
        annotations = self._annotations()
        yield frame(self._completion.chunk({"annotations": annotations} if annotations else {}, self.reason))
        if include_usage and self.usage:
            yield frame(self._completion.usage_chunk(self.usage))
        yield DONE

    async def deltas(self) -> AsyncGenerator[str | ToolCall, None]:
        """The text, and calls of the client's tools.

        However this ends, the provider's place is free again, and what was used is counted.
        """
        self._begun = True
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        self.text += event.text
                        yield event.text
                    elif isinstance(event, ToolCall):
                        self.calls.append(event if event.id else replace(event, id=f"call_{uuid7().hex}"))
                        yield self.calls[-1]
                    elif isinstance(event, Withheld):  # a stream cannot take back what it has sent: its reason tells
                        self.text = event.text
                    elif isinstance(event, Usage):
                        self.usage = self.usage + event if self.usage else event
                    elif isinstance(event, Finish):
                        self.reason = event.reason
        finally:
            await self._account.close()

    async def close(self) -> None:
        """For an answer that nobody has begun to read; else its reading ends it."""
        if not self._begun:
            await self._account.close()

    @property
    def citations(self) -> list[dict[str, Any]]:
        return citations_of(self.text, self._shelf.knowledge)

    def _annotations(self) -> list[dict[str, Any]]:
        return annotations_of(self.text, self.citations)
