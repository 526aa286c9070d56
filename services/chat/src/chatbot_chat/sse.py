"""Server-sent events: bytes out, a comment when nothing happens, never buffered and never compressed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import structlog
from chatbot_common.errors import Problem
from chatbot_common.leaving import ClientGone, WhileThere
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 15.0
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """Sends each frame at once, and a comment after each silence, so that no proxy takes the stream for dead.

    `ended` is called however this ends: of a client that has gone before the first frame the frames never hear.
    """

    def __init__(self, frames: AsyncGenerator[bytes, None], ended: Callable[[], Awaitable[None]] | None) -> None:
        super().__init__(frames, media_type="text/event-stream", headers=HEADERS)
        self._frames = frames
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        try:
            with contextlib.suppress(ClientGone):
                async with WhileThere(gone) as client, contextlib.aclosing(self._frames):
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    await self._tell(send)
                    client.may_leave()
                    await send({"type": "http.response.body", "body": b""})
        finally:
            if self._ended:
                await self._ended()

    async def _tell(self, send: Send) -> None:
        self._last = asyncio.get_running_loop().time()
        heart = asyncio.create_task(self._beat(send))
        try:
            async for frame in self._frames:
                await self._say(send, frame)
        finally:
            heart.cancel()

    async def _beat(self, send: Send) -> None:
        while True:
            left = self._last + HEARTBEAT_SECONDS - asyncio.get_running_loop().time()
            if left > 0:
                await asyncio.sleep(left)
            else:
                await self._say(send, b": keep-alive\n\n")

    async def _say(self, send: Send, said: bytes) -> None:
        self._last = asyncio.get_running_loop().time()
        await send({"type": "http.response.body", "body": said, "more_body": True})


def sse_response(
    frames: AsyncGenerator[bytes, None], ended: Callable[[], Awaitable[None]] | None = None
) -> StreamingResponse:
    """A response that sends each frame at once, see `EventStream`."""
    return EventStream(frames, ended)


async def guarded(
    frames: AsyncGenerator[bytes, None], render: Callable[[Problem], bytes]
) -> AsyncGenerator[bytes, None]:
    """The frames; a failure becomes a last frame, since the status has long been sent."""
    try:
        async with contextlib.aclosing(frames):
            async for piece in frames:
                yield piece
    except Problem as problem:
        yield render(problem)
    except Exception as crash:
        log.error("stream crashed", exc_info=crash)
        yield render(Problem())
