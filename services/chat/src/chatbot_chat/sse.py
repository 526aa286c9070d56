"""Server-sent events: bytes out, a comment when nothing happens, never buffered and never compressed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import structlog
from chatbot_common.errors import Problem
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 15.0
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """Sends each frame at once. `ended` is called however this ends: of a client that has gone before the first frame
    the frames never hear."""

    def __init__(self, frames: AsyncGenerator[bytes, None], ended: Callable[[], Awaitable[None]] | None) -> None:
        self._sent = with_heartbeat(frames)
        super().__init__(self._sent, media_type="text/event-stream", headers=HEADERS)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._sent.aclose()
            if self._ended:
                await self._ended()


def sse_response(
    frames: AsyncGenerator[bytes, None], ended: Callable[[], Awaitable[None]] | None = None
) -> StreamingResponse:
    """A response that sends each frame at once, see `EventStream`."""
    return EventStream(frames, ended)


async def with_heartbeat(
    frames: AsyncGenerator[bytes, None], seconds: float = HEARTBEAT_SECONDS
) -> AsyncGenerator[bytes, None]:
    """The frames, with a comment after each silence of `seconds`, so that no proxy takes the stream for dead."""
    upcoming = asyncio.ensure_future(anext(frames))
    try:
        while True:
            await asyncio.wait({upcoming}, timeout=seconds)
            if not upcoming.done():
                yield b": keep-alive\n\n"
                continue
            try:
                frame = upcoming.result()
            except StopAsyncIteration:
                return
            yield frame
            upcoming = asyncio.ensure_future(anext(frames))
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)
        await frames.aclose()


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
