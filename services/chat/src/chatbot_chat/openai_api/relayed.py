"""A provider's response on its way to the client: an ASGI response that does nothing else per piece."""

from collections.abc import Mapping
from contextlib import AsyncExitStack, aclosing
from functools import partial

from chatbot_common.leaving import ClientGone, WhileThere, gone
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatbot_chat.openai_api.counting import Counting
from chatbot_chat.openai_api.service import relayed
from chatbot_chat.providers import ProviderError, RelayedAnswer
from chatbot_chat.sse import HEADERS, Heart

_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class RelayedResponse(Response):
    """The provider's connection is let go however this ends, also before the first byte."""

    background = None  # the framework looks for it

    def __init__(
        self, response: RelayedAnswer, counting: Counting, headers: Mapping[str, str], stack: AsyncExitStack
    ) -> None:
        self._more = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self._response = response
        self._counting = counting
        self._stack = stack
        self._error: ProviderError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with WhileThere(partial(gone, receive)) as client, self._stack:
                await self._relay(send)
                client.may_leave()
                await send({"type": "http.response.body", "body": b""})
                if self._error:
                    raise self._error  # the client was told; that the provider failed is told to who counts that
        except ClientGone:
            pass  # the provider's connection is closed by now
        except ProviderError:
            if not self._error:
                raise

    async def _relay(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._response.status, "headers": self._head()})
        async with aclosing(relayed(self._response, self._counting, self._broke)) as pieces:
            if not self._response.streamed:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                return
            with Heart(send) as heart:
                async for piece in pieces:
                    await heart.say(piece)

    def _head(self) -> list[tuple[bytes, bytes]]:
        kind, length = self._response.content_type, self._response.content_length
        headers = [*_HEADERS, *self._more, (b"content-type", kind.encode())]
        # Of a stream a chunk may be left out.
        if length and not self._response.streamed:
            headers.append((b"content-length", length.encode()))
        return headers

    def _broke(self, error: ProviderError) -> None:
        self._error = error
