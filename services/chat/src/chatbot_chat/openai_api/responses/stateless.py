"""A response that is not stored: a completion, in the words of responses."""

import contextlib
from collections.abc import AsyncGenerator

from chatbot_common.errors import Problem

from chatbot_chat.conversation_client import Options
from chatbot_chat.openai_api.answering import Answering
from chatbot_chat.openai_api.responses.schema import NAMES
from chatbot_chat.openai_api.responses.wording import CUTS, Ending, Json, State, Telling, frame, stateless
from chatbot_chat.providers import ProviderUnheld
from chatbot_chat.sse import guarded


class Stateless:
    """One answer on its way, in either form."""

    def __init__(self, answering: Answering, options: Options) -> None:
        self._answering = answering
        self._response = stateless(options)
        self.close = answering.close

    async def whole(self) -> Json:
        """Raises `ProviderError`."""
        try:
            async with contextlib.aclosing(self._answering.deltas()) as deltas:
                async for _ in deltas:
                    pass
        except ProviderUnheld as error:
            raise error.named(NAMES) from error
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
                async for piece in deltas:  # calls of tools are told at the end
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
        calls = [
            {"tool_call_id": call.id, "name": call.name, "arguments": call.arguments, "extra_content": call.extra}
            for call in self._answering.calls
        ]
        return Ending(state, self._answering.text, self._answering.citations, counted, error, cut, calls)
