"""Server-sent events: bytes out, a comment when nothing happens, never buffered and never compressed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import structlog
from chatbot_common.errors import Problem
from starlette.responses import StreamingResponse

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 15.0
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def sse_response(frames: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """A response that sends each frame at once."""
    return StreamingResponse(with_heartbeat(frames), media_type="text/event-stream", headers=HEADERS)


async def with_heartbeat(
    frames: AsyncGenerator[bytes, None], seconds: float = HEARTBEAT_SECONDS
) -> AsyncIterator[bytes]:
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
