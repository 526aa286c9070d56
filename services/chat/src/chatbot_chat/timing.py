"""`Server-Timing` of chat: what a request cost here until its answer began, apart from waiting for providers and tools.

The gateway adds what it cost itself. A stream begins before its model speaks, so its share is what came before that.
"""

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from time import perf_counter
from types import TracebackType

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Waiting:
    """Of one request and the run that it starts; what is waited for at the same time counts once."""

    __slots__ = ("_depth", "_since", "seconds", "told")

    def __init__(self) -> None:
        self.seconds, self.told = 0.0, True
        self._depth, self._since = 0, 0.0

    def __enter__(self) -> None:
        if not self._depth:
            self._since = perf_counter()
        self._depth += 1

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._depth -= 1
        if not self._depth:
            self.seconds += perf_counter() - self._since


_NOBODY = nullcontext()
_current: ContextVar[Waiting | None] = ContextVar("waiting", default=None)


def waiting() -> AbstractContextManager[None]:
    """A block that waits for somebody else; may be entered again."""
    return _current.get() or _NOBODY


def untold() -> None:
    """The request waits for a run of another one: nobody knows here for what that waits."""
    if current := _current.get():
        current.told = False


class Timed:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, current = perf_counter(), Waiting()

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start" and current.told:
                own = perf_counter() - started - current.seconds
                said = f"chat;dur={own * 1000:.1f}, provider;dur={current.seconds * 1000:.1f}"
                message["headers"] = [*message.get("headers", ()), (b"server-timing", said.encode())]
            await send(message)

        token = _current.set(current)
        try:
            await self._app(scope, receive, tell)
        finally:
            _current.reset(token)
