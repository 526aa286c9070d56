"""What a way to the API server may do to a request, for the rules of proxy.py."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web

from tests.support.proxy import Asked, Cut, Fault, headers


def answer(code: int, reason: str = "", message: str = "made up by the proxy", retry_after: int | None = None) -> Fault:
    """Instead of the API server."""
    told = {"Retry-After": str(retry_after)} if retry_after is not None else {}

    async def fault(_: Asked) -> web.StreamResponse:
        return web.json_response(_status(code, reason, message), status=code, headers=told)

    return fault


async def hang(_: Asked) -> web.StreamResponse:
    """Neither asks the API server nor answers."""
    await asyncio.Event().wait()
    raise AssertionError


async def cut(_: Asked) -> web.StreamResponse:
    """Drops the connection without having asked the API server."""
    raise Cut


async def lose(asked: Asked) -> web.StreamResponse:
    """The API server does it, and its answer gets lost."""
    async with await asked.pass_on() as response:
        await response.read()
    raise Cut


async def halve(asked: Asked) -> web.StreamResponse:
    """The API server does it, and the connection breaks in the middle of its answer."""
    async with await asked.pass_on() as response:
        body = await response.read()
        near = web.StreamResponse(
            status=response.status, headers=headers(response) | {"Content-Length": str(len(body))}
        )
        await near.prepare(asked.raw)
        await near.write(body[: len(body) // 2])
    raise Cut


class Hold:
    """Keeps requests back until `let` is called, then passes them on."""

    def __init__(self) -> None:
        self._let = threading.Event()
        self.held = threading.Event()
        """Whether one was kept back."""
        self.codes: list[int] = []
        self.bodies: list[str] = []
        """What the API server said to those that were let through."""

    async def __call__(self, asked: Asked) -> web.StreamResponse:
        self.held.set()
        while not self._let.is_set():
            await asyncio.sleep(0.02)
        async with await asked.pass_on() as response:
            body = await response.read()
            self.bodies.append(body.decode(errors="replace"))
            self.codes.append(response.status)
            return web.Response(status=response.status, body=body, headers=headers(response))

    def let(self) -> None:
        self._let.set()


Lines = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]


def watching(change: Lines) -> Fault:
    """Of watches: what becomes of their lines, each an event."""

    async def fault(asked: Asked) -> web.StreamResponse:
        async with await asked.pass_on() as response:
            near = web.StreamResponse(status=response.status, headers=headers(response))
            await near.prepare(asked.raw)
            async for line in change(_lines(response)):
                await near.write(line)
            return near

    return fault


async def deaf(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Open, and silent for ever."""
    await asyncio.Event().wait()
    yield b""


async def over(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Ended as soon as it began."""
    for nothing in list[bytes]():
        yield nothing


async def expired(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The API server has forgotten what was before."""
    yield _error(410, "Expired", "too old resource version")


async def broken(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """As from an API server that has lost its etcd."""
    yield _error(500, "InternalError", "etcdserver: no leader")


async def twice(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for line in lines:
        yield line + line


def late(seconds: float) -> Lines:
    async def change(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in lines:
            await asyncio.sleep(seconds)
            yield line

    return change


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    buffer = b""
    async for data in response.content.iter_any():
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            yield line + b"\n"


def _error(code: int, reason: str, message: str) -> bytes:
    return json.dumps({"type": "ERROR", "object": _status(code, reason, message)}).encode() + b"\n"


def _status(code: int, reason: str, message: str) -> dict[str, object]:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return status | {"message": message}
