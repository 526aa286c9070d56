"""A way to the API server on which a test decides what happens: between the operator and a real one, by $KUBECONFIG.

It ends TLS with the API server's own certificate. Who comes with a token is passed on with it; who comes with none is
the administrator. All runs in a thread of its own, so that a test may block. What can go wrong is in misbehaviour.py.
"""

import asyncio
import contextlib
import json
import re
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from tests.support.apiserver import ApiServer

HOP = ("host", "connection", "transfer-encoding", "content-length")
KEPT = ("Content-Type", "Content-Encoding", "Retry-After")
WRITES = ("POST", "PUT", "PATCH", "DELETE")


class Cut(Exception):
    """The connection is to be dropped."""


@dataclass
class Seen:
    """One request, from when it came in."""

    at: float
    verb: str
    """`WATCH` for watches, which are no `GET`."""
    path: str
    """With the query, and with the name of what is to be created."""
    code: int = 0
    """0 while it is under way, and when the connection was cut instead of an answer."""


@dataclass(frozen=True)
class Asked:
    """One request, for a fault to deal with."""

    raw: web.Request
    pass_on: Callable[[], Awaitable[aiohttp.ClientResponse]]
    """To the API server."""


Fault = Callable[[Asked], Awaitable[web.StreamResponse]]


@dataclass
class Rule:
    """What befalls some requests."""

    fault: Fault
    verbs: tuple[str, ...] = ()
    """Empty: all."""
    path: str = ""
    """A regular expression that is searched for. Empty: all but Leases."""
    every: int = 1
    """Only each so many-th of those that match, from the first on."""
    times: int | None = None
    met: int = 0
    """How many it has befallen."""
    _matched: int = 0

    def takes(self, request: Seen) -> bool:
        if (self.verbs and request.verb not in self.verbs) or not re.search(self.path, request.path):
            return False
        if not self.path and "/leases/" in request.path:
            return False
        self._matched += 1
        if (self._matched - 1) % self.every or (self.times is not None and self.met >= self.times):
            return False
        self.met += 1
        return True


@dataclass
class Way:
    """The proxy, as a test holds it."""

    port: int
    loop: asyncio.AbstractEventLoop
    kubeconfig: Path = Path()
    seen: list[Seen] = field(default_factory=list)
    watches: set[asyncio.Transport] = field(default_factory=set)
    """Of those that are answered; some of them, whose answer hangs, their client may have left."""
    rules: list[Rule] = field(default_factory=list)

    def rule(self, fault: Fault, *verbs: str, path: str = "", every: int = 1, times: int | None = None) -> Rule:
        """From now on. The first rule that takes a request is the one."""
        made = Rule(fault, verbs, path, every, times)
        self.rules.append(made)
        return made

    def heal(self) -> None:
        """No more rules; what hangs already goes on hanging."""
        self.rules.clear()

    def asked(self, *verbs: str, path: str = "", since: float = 0.0) -> list[Seen]:
        """Requests that came in."""
        mine = [one for one in list(self.seen) if one.at >= since and (not verbs or one.verb in verbs)]
        return [one for one in mine if re.search(path, one.path)]

    def open_watches(self) -> int:
        return sum(not transport.is_closing() for transport in list(self.watches))

    def drop_watches(self) -> None:
        """Breaks the connections of those that are open."""
        for transport in list(self.watches):
            self.loop.call_soon_threadsafe(transport.abort)


@contextlib.contextmanager
def proxy(server: ApiServer, folder: Path, kubeconfig: Path | None = None) -> Iterator[Way]:
    """Runs one. `way.kubeconfig` is the administrator's, or the given one, by way of it."""
    started: list[Way] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with _Proxy(server) as running:
            started.append(running.way)
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.05)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    way = started[0]
    way.kubeconfig = _kubeconfig(kubeconfig or server.kubeconfig, server.layout.api_port, way.port, folder)
    try:
        yield way
    finally:
        stop.set()
        thread.join()


class _Proxy:
    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.way = Way(0, asyncio.get_running_loop())

    async def __aenter__(self) -> "_Proxy":
        pki = self._server.layout.pki
        near = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        near.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
        admin = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        admin.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._admin = _session(admin)
        self._with_token = _session(ssl.create_default_context(cafile=str(pki / "ca.crt")))
        app = web.Application(client_max_size=1024**3)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=near).start()
        self.way.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._runner.cleanup()
        await self._admin.close()
        await self._with_token.close()
        # TLS says goodbye within the next turns of the loop; what is open when the loop ends is a warning.
        await asyncio.sleep(0.3)

    async def _handle(self, raw: web.Request) -> web.StreamResponse:
        body = await raw.read()
        seen = _seen(raw, body)
        self.way.seen.append(seen)
        transport = raw.transport
        assert transport is not None
        if seen.verb == "WATCH":
            self.way.watches.add(transport)
        asked = Asked(raw, lambda: self._pass_on(raw, body))
        rule = next((rule for rule in list(self.way.rules) if rule.takes(seen)), None)
        try:
            found = await (rule.fault(asked) if rule else through(asked))
            seen.code = found.status
            return found
        except (Cut, aiohttp.ClientError, ConnectionError):
            transport.abort()
            return web.Response(status=502)
        finally:
            self.way.watches.discard(transport)

    async def _pass_on(self, raw: web.Request, body: bytes) -> aiohttp.ClientResponse:
        session = self._with_token if "Authorization" in raw.headers else self._admin
        headers = {name: value for name, value in raw.headers.items() if name.lower() not in HOP}
        url = URL(f"{self._server.layout.server}{raw.raw_path}", encoded=True)
        asking = asyncio.ensure_future(session.request(raw.method, url, headers=headers, data=body or None))
        try:
            # Not cancelled with its caller: TLS that is broken off while it is set up leaves its socket open.
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(_close)
            raise


async def through(asked: Asked) -> web.StreamResponse:
    """As if there were no proxy."""
    async with await asked.pass_on() as response:
        near = web.StreamResponse(status=response.status, headers=headers(response))
        await near.prepare(asked.raw)
        async for data in response.content.iter_any():
            await near.write(data)
        await near.write_eof()
        return near


def headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Those that are passed on."""
    return {name: response.headers[name] for name in KEPT if name in response.headers}


def _seen(raw: web.Request, body: bytes) -> Seen:
    verb = "WATCH" if raw.query.get("watch") == "true" else raw.method
    name = ""
    if verb == "POST":
        with contextlib.suppress(ValueError, KeyError):
            name = f"/{json.loads(body)['metadata']['name']}"
    return Seen(time.monotonic(), verb, f"{raw.path}{name}?{raw.query_string}")


def _close(asked: "asyncio.Future[aiohttp.ClientResponse]") -> None:
    if not asked.cancelled() and asked.exception() is None:
        asked.result().close()


def _session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
    )


def _kubeconfig(source: Path, api_port: int, port: int, folder: Path) -> Path:
    told = yaml.safe_load(source.read_text(encoding="utf-8").replace(f":{api_port}", f":{port}"))
    file = folder / f"proxy-{port}.kubeconfig"
    file.write_text(yaml.safe_dump(told), encoding="utf-8")
    return file
