"""A way to the API server that misbehaves as it is told: between the operator and a real one, by $KUBECONFIG.

It ends TLS with the API server's own certificate. Who comes with a token is passed on with it; who comes with none is
the administrator. All runs in a thread of its own, so that a test may block.
"""

import asyncio
import contextlib
import json
import re
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from tests.support.apiserver import ApiServer

HOP = ("host", "connection", "transfer-encoding", "content-length", "content-encoding")
WRITES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass
class Seen:
    """One request, from when it came in."""

    at: float
    verb: str
    path: str
    watch: bool
    code: int = 0
    """0 while it is under way, and when the connection was cut instead of an answer."""


@dataclass
class Request:
    """One that is under way."""

    verb: str
    path: str
    watch: bool
    raw: web.Request
    body: bytes


Upstream = Callable[[], Awaitable[aiohttp.ClientResponse]]
Fault = Callable[["Way", Request, Upstream], Awaitable[web.StreamResponse]]


@dataclass
class Rule:
    """What befalls some requests."""

    fault: Fault
    verbs: tuple[str, ...] = ()
    """`WATCH` for watches, which are no `GET`. Empty: all but those of Leases."""
    path: str = ""
    """A regular expression that is searched for."""
    every: int = 1
    """Only each so many-th of those that match, from the first on."""
    times: int | None = None
    met: int = 0
    """How many it has befallen."""
    _matched: int = 0

    def takes(self, request: Request) -> bool:
        verb = "WATCH" if request.watch else request.verb
        if (self.verbs and verb not in self.verbs) or not re.search(self.path, request.path):
            return False
        if not self.path and "/leases/" in request.path:
            return False
        self._matched += 1
        if (self._matched - 1) % self.every or (self.times is not None and self.met >= self.times):
            return False
        self.met += 1
        return True


class Cut(Exception):
    """The connection is to be dropped."""


@dataclass
class Way:
    """The proxy, as a test holds it."""

    port: int
    kubeconfig: Path
    seen: list[Seen] = field(default_factory=list)
    _rules: list[Rule] = field(default_factory=list)

    def rule(self, fault: Fault, *verbs: str, path: str = "", every: int = 1, times: int | None = None) -> Rule:
        """From now on. The first rule that takes a request is the one."""
        made = Rule(fault, verbs, path, every, times)
        self._rules.append(made)
        return made

    def heal(self) -> None:
        """No more rules; what hangs already goes on hanging."""
        self._rules.clear()

    def find(self, request: Request) -> Rule | None:
        return next((rule for rule in list(self._rules) if rule.takes(request)), None)

    def count(self, *verbs: str, path: str = "", since: float = 0.0) -> int:
        """Requests that came in; watches count as `WATCH`."""
        return sum(
            one.at >= since
            and (not verbs or ("WATCH" if one.watch else one.verb) in verbs)
            and re.search(path, one.path) is not None
            for one in list(self.seen)
        )


def answer(code: int, reason: str = "", message: str = "made up by the proxy", **headers: str) -> Fault:
    """Instead of the API server; a header `retry_after` is `Retry-After`."""

    async def fault(_: Way, __: Request, ___: Upstream) -> web.StreamResponse:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        return web.json_response(status | {"message": message}, status=code, headers=named)

    return fault


async def hang(_: Way, __: Request, ___: Upstream) -> web.StreamResponse:
    """Neither asks the API server nor answers."""
    await asyncio.Event().wait()
    raise AssertionError


async def cut(_: Way, __: Request, ___: Upstream) -> web.StreamResponse:
    """Drops the connection without having asked the API server."""
    raise Cut


async def lose(_: Way, __: Request, upstream: Upstream) -> web.StreamResponse:
    """The API server does it, and its answer gets lost."""
    async with await upstream() as response:
        await response.read()
    raise Cut


async def halve(way: Way, request: Request, upstream: Upstream) -> web.StreamResponse:
    """The API server does it, and the connection breaks in the middle of its answer."""
    async with await upstream() as response:
        body = await response.read()
        told = _headers(response) | {"Content-Length": str(len(body))}
        near = web.StreamResponse(status=response.status, headers=told)
        await near.prepare(request.raw)
        await near.write(body[: len(body) // 2])
    raise Cut


class Hold:
    """Keeps requests back until `let` is called, then passes them on."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.held = threading.Event()
        """Whether one is kept back now."""
        self.codes: list[int] = []
        self.bodies: list[str] = []
        """What the API server said to those that were let through."""

    async def __call__(self, way: Way, request: Request, upstream: Upstream) -> web.StreamResponse:
        self.held.set()
        while not self._open.is_set():
            await asyncio.sleep(0.02)
        async with await upstream() as response:
            body = await response.read()
            self.bodies.append(body.decode(errors="replace"))
            self.codes.append(response.status)
            return web.Response(status=response.status, body=body, headers=_headers(response))

    def let(self) -> None:
        self._open.set()


Lines = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]


def watching(change: Lines) -> Fault:
    """Of watches: what becomes of their lines."""

    async def fault(_: Way, request: Request, upstream: Upstream) -> web.StreamResponse:
        async with await upstream() as response:
            near = web.StreamResponse(status=response.status, headers=_headers(response))
            await near.prepare(request.raw)
            async for line in change(_lines(response)):
                await near.write(line)
            return near

    return fault


async def deaf(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Open, and silent for ever."""
    await asyncio.Event().wait()
    yield b""


async def expired(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The API server has forgotten what was before."""
    yield _error(410, "Expired", "too old resource version")


async def broken(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """As an API server that has lost its etcd."""
    yield _error(500, "InternalError", "etcdserver: no leader")


async def garbage(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Half a line."""
    yield b'{"type":"MODIFIED","object":{"kind":'


async def twice(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for line in lines:
        yield line + line


def late(seconds: float) -> Lines:
    async def change(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in lines:
            await asyncio.sleep(seconds)
            yield line

    return change


def _error(code: int, reason: str, message: str) -> bytes:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return json.dumps({"type": "ERROR", "object": status | {"message": message}}).encode() + b"\n"


@contextlib.contextmanager
def proxy(server: ApiServer, folder: Path, kubeconfig: Path | None = None) -> Iterator[Way]:
    """Runs one. `way.kubeconfig` is the administrator's, or the given one, by way of it."""
    started: list[Way] = []
    ready, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=_run, args=(server, folder, kubeconfig, started, ready, stop))
    thread.start()
    assert ready.wait(10)
    try:
        yield started[0]
    finally:
        stop.set()
        thread.join()


def _run(
    server: ApiServer,
    folder: Path,
    kubeconfig: Path | None,
    started: list[Way],
    ready: threading.Event,
    stop: threading.Event,
) -> None:
    async def main() -> None:
        async with _Proxy(server) as running:
            way = running.way
            way.kubeconfig = _kubeconfig(kubeconfig or server.kubeconfig, server.layout.api_port, way.port, folder)
            started.append(way)
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.05)

    asyncio.run(main())


class _Proxy:
    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.way = Way(0, Path())

    async def __aenter__(self) -> "_Proxy":
        pki = self._server.layout.pki
        near = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        near.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
        self._nobody = _session(ssl.create_default_context(cafile=str(pki / "ca.crt")))
        admin = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        admin.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._admin = _session(admin)
        app = web.Application(client_max_size=1024**3)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=near)
        await site.start()
        self.way.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._runner.cleanup()
        await self._nobody.close()
        await self._admin.close()

    async def _handle(self, raw: web.Request) -> web.StreamResponse:
        watch = raw.query.get("watch") in ("true", "1")
        request = Request(raw.method, raw.path, watch, raw, await raw.read())
        seen = Seen(time.monotonic(), request.verb, request.path, watch)
        self.way.seen.append(seen)
        rule = self.way.find(request)
        try:
            found = await (rule.fault(self.way, request, lambda: self._ask(request)) if rule else self._pass(request))
            seen.code = found.status
            return found
        except (Cut, aiohttp.ClientError, ConnectionError):
            if raw.transport is not None:
                raw.transport.abort()
            return web.Response(status=502)

    async def _ask(self, request: Request) -> aiohttp.ClientResponse:
        raw = request.raw
        session = self._nobody if "Authorization" in raw.headers else self._admin
        headers = {name: value for name, value in raw.headers.items() if name.lower() not in HOP}
        url = f"{self._server.layout.server}{raw.raw_path}"
        return await session.request(raw.method, URL(url, encoded=True), headers=headers, data=request.body or None)

    async def _pass(self, request: Request) -> web.StreamResponse:
        async with await self._ask(request) as response:
            return await _relayed(request, response)


def _session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
    )


async def _relayed(request: Request, response: aiohttp.ClientResponse) -> web.StreamResponse:
    near = web.StreamResponse(status=response.status, headers=_headers(response))
    await near.prepare(request.raw)
    async for data in response.content.iter_any():
        await near.write(data)
    await near.write_eof()
    return near


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    kept = ("Content-Type", "Content-Encoding", "Retry-After")
    return {name: response.headers[name] for name in kept if name in response.headers}


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    buffer = b""
    async for data in response.content.iter_any():
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            yield line + b"\n"


def _kubeconfig(source: Path, api_port: int, port: int, folder: Path) -> Path:
    told = yaml.safe_load(source.read_text(encoding="utf-8").replace(f":{api_port}", f":{port}"))
    file = folder / f"proxy-{port}.kubeconfig"
    file.write_text(yaml.safe_dump(told), encoding="utf-8")
    return file
