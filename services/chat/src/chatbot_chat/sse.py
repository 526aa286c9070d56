"""Server-sent events: bytes out, a comment when nothing happens, never buffered and never compressed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Self

import structlog
from chatbot_common.errors import Problem
from chatbot_common.leaving import ClientGone, WhileThere, gone
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 15.0
KEEP_ALIVE = b": keep-alive\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Heart:
    """Sends what a stream says, whole frames, and while the block lasts a comment after each silence, so that no proxy
    takes it for dead. One timer for all of it: one for each frame costs as much as to send it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._beating: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._last = self._loop.time()
        self._timer = self._loop.call_later(HEARTBEAT_SECONDS, self._beat)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._beating:
            self._beating.cancel()

    async def say(self, said: bytes) -> None:
        self._last = self._loop.time()
        await self._send({"type": "http.response.body", "body": said, "more_body": True})

    def _beat(self) -> None:
        left = self._last + HEARTBEAT_SECONDS - self._loop.time()
        if left <= 0:
            left = HEARTBEAT_SECONDS
            if self._beating is None or self._beating.done():  # a client that takes nothing needs no more
                self._beating = self._loop.create_task(self.say(KEEP_ALIVE))
        self._timer = self._loop.call_later(left, self._beat)


class EventStream(StreamingResponse):
    """Sends each frame at once, and a comment after each silence, so that no proxy takes the stream for dead.

    `ended` is called however this ends: of a client that has gone before the first frame the frames never hear.
    """

    def __init__(self, frames: AsyncGenerator[bytes, None], ended: Callable[[], Awaitable[None]] | None) -> None:
        super().__init__(frames, media_type="text/event-stream", headers=HEADERS)
        self._frames = frames
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with contextlib.suppress(ClientGone):
                async with WhileThere(partial(gone, receive)) as client, contextlib.aclosing(self._frames):
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    with Heart(send) as heart:
                        async for frame in self._frames:
                            await heart.say(frame)
                    client.may_leave()
                    await send({"type": "http.response.body", "body": b""})
        finally:
            if self._ended:
                await self._ended()


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
