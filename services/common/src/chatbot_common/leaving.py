"""Work that ends when its client goes."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from types import TracebackType
from typing import Any, Self

CLIENT_LEFT = 499
"""The status of what nobody reads; it keeps logs and metrics from calling a closed tab our failure."""


class ClientGone(Exception):
    """The client closed the connection; nobody is left to answer."""


async def gone(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
    """Returns when the client of an ASGI request whose body was read has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


LOOK_SECONDS = 0.05
"""Of a block, before somebody looks whether its client has gone: most short answers have ended by then, and to look
costs a tenth of one."""


class WhileThere:
    """A block that is cancelled when its client goes, and then raises `ClientGone`. It is looked for a moment later.

    Args:
        gone: returns when the client has gone. A server says so too of who has got all of the answer: a block that has
            still to await something then says `may_leave` before it sends the last of it.
    """

    def __init__(self, gone: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._gone = gone
        self._work: asyncio.Task[Any] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._cancelled = False

    async def __aenter__(self) -> Self:
        self._work = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
        return self

    def _look(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._gone())
        self._watch.add_done_callback(self._leave)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        work = self._work
        self.may_leave()
        if self._cancelled and work and work.uncancel() == 0 and kind is asyncio.CancelledError:
            raise ClientGone from error

    def may_leave(self) -> None:
        """From here on the block runs to its end."""
        self._work = None
        self._timer.cancel()
        if self._watch:
            self._watch.cancel()

    def _leave(self, watch: asyncio.Task[None]) -> None:
        if self._work and not watch.cancelled():
            watch.result()
            self._cancelled = self._work.cancel()
