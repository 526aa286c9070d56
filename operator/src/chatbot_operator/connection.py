"""How the operator gets to the API server: inside a cluster by its ServiceAccount, outside by $KUBECONFIG.

Two clients share it: `kubernetes.aio` for what we read and write, and Kopf for watching. Both count their requests.

Kopf lists each kind before it watches it, and handles all it finds. Of our own kind that is where the work begins. Of
all others it takes long where there are many, and tells nothing: no resource is looked at before everything is watched,
and the first look reads all. So these lists are asked for one object, and none is handed on.
"""

import asyncio
import math
import os
import re
import ssl
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import aiohttp
import kopf
import structlog
from chatbot_resource.model import KIND
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

from chatbot_operator.kinds import plural
from chatbot_operator.metrics import Metrics
from chatbot_operator.quiet import Quiet, Seen
from chatbot_operator.versions import READ

KUBECONFIG = "KUBECONFIG"
PAUSE_SECONDS = 1.0
"""Between two beginnings of one watch."""
METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
BOTS = plural(KIND)
WHOLE = {plural(kind): kind for kind in READ}
"""Kinds of which the metadata alone does not tell whether anything has changed."""
FORBIDDEN, NOT_FOUND = 403, 404
NAMESPACED = re.compile(r"/namespaces/([^/]+)/")
BEGIN_SECONDS = 20.0
"""Until work begins although something is not watched yet; what is missed then, the next resync finds."""
FORBIDDEN_SECONDS = 30.0
"""Until a namespace that may not be watched is tried again; less than Kopf waits for an answer."""

log = structlog.get_logger("connection")


async def configuration() -> Configuration:
    """Address and credentials.

    Raises:
        ConfigException: neither a ServiceAccount nor a usable $KUBECONFIG is there.
    """
    told = Configuration()
    if file := os.environ.get(KUBECONFIG):
        await load_kube_config(config_file=file, client_configuration=told, persist_config=False)  # type: ignore[no-untyped-call]
    else:
        load_incluster_config(client_configuration=told)  # type: ignore[no-untyped-call]
    return told


def api_client(told: Configuration, metrics: Metrics) -> ApiClient:
    """For cluster.py; closed at the end."""
    told.trace_configs = [_count(metrics)]
    # Looking for a proxy costs two threads per request; a kubeconfig may name one, and that is enough.
    told.client_session_kwargs = {"trust_env": False}
    return _Plain(told)


class _Plain(ApiClient):
    """Sends manifests as they are. To copy each, in case there is a model in it, takes longer than all else."""

    def sanitize_for_serialization(self, obj: Any) -> Any:
        return obj


class Watches:
    """When each of Kopf's watches was last answered. They end after minutes, so one that does not begin again is stuck.

    An answer may be a refusal: what a right is missing for would be no better after a restart.
    """

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._listed: set[str] = set()
        self._answered: set[str] = set()
        self._expected = math.inf
        self.complete = asyncio.Event()
        """All have been answered once."""
        self.seen: Seen = {}
        """Of kinds that say the same again and again, see quiet.py."""
        self.lost_track = asyncio.Event()
        """A list was made anew, because a watch could not go on: what was deleted in between, nobody has told."""
        self.kind_gone = asyncio.Event()
        """A definition was deleted, and with it all objects of its kind."""

    def expect(self, count: int) -> None:
        """How many there are going to be."""
        self._expected = count
        asyncio.get_running_loop().call_later(BEGIN_SECONDS, self.complete.set)

    def began(self, path: str) -> None:
        self._began[path] = time.monotonic()
        self._answer(path)

    def pause(self, path: str) -> float:
        """Seconds until this one may begin again."""
        return max(0.0, self._began.get(path, -math.inf) + PAUSE_SECONDS - time.monotonic())

    def listed(self, path: str) -> None:
        if path in self._listed:
            log.info("a watch has lost track", path=path)
            self.seen.clear()  # the list told of more than the watches did
            self.lost_track.set()
        self._listed.add(path)

    def given_up(self, path: str) -> None:
        """For now: that it does not begin again is no fault of this process."""
        self._began.pop(path, None)
        self._answer(path)

    @property
    def staleness(self) -> float:
        """Seconds since the oldest of them began; 0 when there is none yet."""
        now = time.monotonic()
        return now - min(self._began.values(), default=now)

    def __len__(self) -> int:
        return len(self._began)

    def _answer(self, path: str) -> None:
        self._answered.add(path)
        if len(self._answered) >= self._expected:
            self.complete.set()


async def kopf_session(metrics: Metrics, watches: Watches) -> kopf.AiohttpSession:
    """Kopf's login. Called again when the API server no longer takes the token.

    Of nearly every object it watches it gets the metadata alone: that is all handlers.py needs, a tenth of the memory
    and the work, and no Secret's content.
    """
    told = await configuration()
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=_tls(told)),
        headers=await _headers(told),
        trace_configs=[_count(metrics), _notice(watches)],
        middlewares=[_only_what_is_read, _without_repeats(watches.seen), _patience(watches)],
        response_class=_Slim,
    )
    return kopf.AiohttpSession(server=told.host, aiohttp_session=session)


async def _headers(told: Configuration) -> Mapping[str, str]:
    settings = await told.auth_settings()
    found = settings.get("BearerToken")
    return {found["key"]: found["value"]} if found and found["value"] else {}


def _tls(told: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=told.ssl_ca_cert)
    if told.cert_file:
        context.load_cert_chain(told.cert_file, keyfile=told.key_file)
    return context


def _count(metrics: Metrics) -> aiohttp.TraceConfig:
    """Counts every request by its HTTP method and the answer's code."""
    trace = aiohttp.TraceConfig()

    async def ended(_: aiohttp.ClientSession, __: SimpleNamespace, seen: aiohttp.TraceRequestEndParams) -> None:
        metrics.api_requests.labels(seen.method.lower(), seen.response.status).inc()

    async def failed(_: aiohttp.ClientSession, __: SimpleNamespace, seen: aiohttp.TraceRequestExceptionParams) -> None:
        metrics.api_requests.labels(seen.method.lower(), 0).inc()

    trace.on_request_end.append(ended)
    trace.on_request_exception.append(failed)
    return trace


def _notice(watches: Watches) -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()

    async def begins(_: aiohttp.ClientSession, __: SimpleNamespace, seen: aiohttp.TraceRequestStartParams) -> None:
        if seen.url.query.get("watch"):
            # A watch that ends as soon as it has begun is begun anew by Kopf without any pause.
            await asyncio.sleep(watches.pause(seen.url.path))

    async def ended(_: aiohttp.ClientSession, __: SimpleNamespace, seen: aiohttp.TraceRequestEndParams) -> None:
        if "watch" in seen.url.query:
            if seen.response.status < 500:
                watches.began(seen.url.path)
        elif seen.response.ok and "limit" in seen.url.query and "continue" not in seen.url.query:
            watches.listed(seen.url.path)

    trace.on_request_start.append(begins)
    trace.on_request_end.append(ended)
    return trace


async def _only_what_is_read(
    request: aiohttp.ClientRequest, handle: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    listing = "limit" in request.url.query
    if listing and request.url.name != BOTS:
        request.url = request.url.update_query(limit=1)
    if request.url.name not in WHOLE and (listing or "watch" in request.url.query):
        request.headers["Accept"] = METADATA.format("List" if listing else "")
    return await handle(request)


def _without_repeats(seen: Seen) -> aiohttp.ClientMiddlewareType:
    async def leave_out(request: aiohttp.ClientRequest, handle: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await handle(request)
        if request.url.name in WHOLE and "watch" in request.url.query and response.ok:
            response.content = Quiet(response.content, WHOLE[request.url.name], seen)  # type: ignore[assignment]
        return response

    return leave_out


class _Slim(aiohttp.ClientResponse):
    """Kopf keeps all objects of a list until each was handled; most of their metadata is who wrote which field."""

    async def json(self, **options: Any) -> Any:
        found = await super().json(**options)
        if "items" not in found:
            return found
        if self.url.name != BOTS:
            return found | {"items": [], "metadata": found["metadata"] | {"continue": ""}}
        found["items"] = found["items"] or []  # null where there is none, which Kopf does not expect
        for item in found["items"]:
            item["metadata"].pop("managedFields", None)
        return found


def _patience(watches: Watches) -> aiohttp.ClientMiddlewareType:
    """A namespace of several may be deleted, and with it our rights in it: Kopf would end, and the others with it.

    So it is told of a lost connection, which it survives. The namespace may come back. Where a definition is deleted,
    Kopf would end with a page of errors, too: it learns nothing, and the process ends by itself.
    """

    async def wait(request: aiohttp.ClientRequest, handle: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await handle(request)
        if response.status == NOT_FOUND:
            response.release()
            if not watches.kind_gone.is_set():
                log.warning("a definition is gone: starting anew without it", path=request.url.path)
            watches.kind_gone.set()
            await asyncio.sleep(FORBIDDEN_SECONDS)  # by then this process has ended, see process.py
            raise aiohttp.ClientConnectionError(f"nothing is served at {request.url.path}")
        namespaced = NAMESPACED.search(request.url.path)
        if response.status != FORBIDDEN or namespaced is None:
            return response
        response.release()
        watches.given_up(request.url.path)
        log.warning("may not watch", namespace=namespaced[1], path=request.url.path, again_in=FORBIDDEN_SECONDS)
        await asyncio.sleep(FORBIDDEN_SECONDS)
        raise aiohttp.ClientConnectionError(f"may not watch {request.url.path}")

    return wait
