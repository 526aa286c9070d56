"""Run an ASGI app on a real socket, in the test's own event loop or in a thread that many tests share."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def _config(
    app: Any, port: int, drain: int, trusted_proxies: Sequence[str] = (), tls: Path | None = None
) -> uvicorn.Config:
    """As `chatbot_common.app.serve` does it: forwarding headers change nothing unless a proxy is trusted."""
    return uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_config=None,
        access_log=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        timeout_graceful_shutdown=drain,
        ssl_certfile=tls,
        ssl_keyfile=tls.with_name("tls.key") if tls else None,
    )


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def serving(app: Any, port: int = 0, trusted_proxies: Sequence[str] = ()) -> AsyncIterator[str]:
    """Base URL of `app` while the block runs; its lifespan runs too."""
    server = _Server(_config(app, port, 2, trusted_proxies))
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                task.result()
                raise RuntimeError("the app did not start")
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@contextlib.contextmanager
def in_thread(app: Any, tls: Path | None = None) -> Iterator[str]:
    """Base URL of `app`, served by a thread with a loop of its own: for what outlives a single test.

    Args:
        tls: certificate of `doors.certified`, whose key lies beside it.
    """
    server = uvicorn.Server(_config(app, 0, 1, tls=tls))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the app did not start")
        time.sleep(0.005)
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
