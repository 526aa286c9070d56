"""One service process: its public app, its private port, and the way it starts and stops."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import httpx2
import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chatbot_common.connections import recycled, say_goodbye
from chatbot_common.direct import Direct, Service
from chatbot_common.errors import add_error_handlers
from chatbot_common.identity import Identity, ServiceIdentity, UserVerifier
from chatbot_common.settings import ServiceSettings
from chatbot_common.telemetry import HttpTelemetry

T = TypeVar("T")

CHECK_SECONDS = 2.0
GC_THRESHOLDS = (10_000, 20, 20)
"""A request leaves hardly a cycle behind. To look for some each 700 objects, Python's own, took 4 % of chat's CPU."""
GOODBYE_SECONDS = 0.5
"""Between the signal and the end of idle connections: a busy caller gets an answer meanwhile that tells it to leave,
and so never writes into a connection that is being closed."""

Check = Callable[[], Awaitable[None]]
"""Returns when the dependency answers, raises when it does not."""


@dataclass
class Probes:
    """What a service depends on, and whether it is on its way out."""

    checks: dict[str, Check] = field(default_factory=dict)
    reported: dict[str, Check] = field(default_factory=dict)
    """Shown in `/health` and `/readyz?verbose`; readiness ignores them, because we go on serving without them."""
    draining: bool = False
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process was told to stop; work that outlives its request ends in time by it."""

    def leave(self) -> None:
        """From now on not ready, and on the way out."""
        self.draining = True
        self.leaving.set()

    async def run(self) -> dict[str, str]:
        """State of what readiness hangs on: `ok`, or the kind of error. Error texts may hold addresses."""
        return await self._run(self.checks)

    async def run_reported(self) -> dict[str, str]:
        """State of what we go on without."""
        return await self._run(self.reported)

    async def run_all(self) -> dict[str, str]:
        """State of every dependency, for people."""
        return await self._run(self.checks | self.reported)

    async def _run(self, checks: dict[str, Check]) -> dict[str, str]:
        results = await asyncio.gather(*(self._one(check) for check in checks.values()))
        return dict(zip(checks, results, strict=True))

    async def _one(self, check: Check) -> str:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await check()
        except TimeoutError:
            return "timeout"
        except Exception as error:
            return type(error).__name__
        return "ok"


def make_identity(name: str, settings: ServiceSettings, transport: httpx2.AsyncBaseTransport | None = None) -> Identity:
    """Identity of service `name`; user keys are read from auth when the first token arrives."""

    async def fetch() -> dict[str, Any]:
        async with httpx2.AsyncClient(timeout=5, transport=transport) as client:
            response = await client.get(settings.identity.jwks_url)
            response.raise_for_status()
            document: dict[str, Any] = response.json()
            return document

    return Identity(
        UserVerifier(fetch, settings.identity.issuer, settings.bot),
        ServiceIdentity(name, settings.service_private_key.get_secret_value(), settings.identity.service_public_keys),
    )


def create_service(
    name: str,
    *,
    identity: Identity,
    probes: Probes,
    routers: Iterable[APIRouter],
    lifespan: Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]] | None = None,
    middleware: Sequence[Middleware] = (),
    direct: Mapping[tuple[str, str], Direct] = MappingProxyType({}),
    openapi_url: str | None = "/openapi.json",
) -> FastAPI:
    """The public app of a service. Interactive documentation is the gateway's, which joins all services' schemas.

    Args:
        direct: by method and path, see direct.py.
    """
    app = Service(
        title=f"chatbot {name}",
        lifespan=lifespan,
        openapi_url=openapi_url,
        docs_url=None,
        redoc_url=None,
        telemetry={"operation_spans": False, "metrics": False, "logs": False, "exclude": _is_probe},
    )
    app.state.identity = identity
    app.state.probes = probes
    add_error_handlers(app)
    app.user_middleware[:0] = [Middleware(HttpTelemetry), *middleware]
    app.pass_by(direct, middleware)
    app.include_router(health_router(name, probes))
    for router in routers:
        app.include_router(router)
    return app


def _is_probe(scope: Mapping[str, Any]) -> bool:
    return scope.get("path") in ("/health", "/health/all")


def health_router(name: str, probes: Probes) -> APIRouter:
    """`GET /health`: for people and the gateway. Always 200; `status` says how it is."""
    router = APIRouter(tags=["health"])

    @router.get("/health")
    async def health() -> dict[str, Any]:
        checks = await probes.run_all()
        healthy = all(state == "ok" for state in checks.values())
        return {"status": "ok" if healthy else "degraded", "service": name, "checks": checks}

    return router


def private_app(probes: Probes) -> Starlette:
    """Probes and metrics. Liveness never looks at a dependency: restarting us does not mend theirs.

    `/readyz?verbose` adds the state of what readiness ignores. The kubelet does not ask for it, and never waits for it.
    """

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        verbose = "verbose" in request.query_params
        asked = (probes.run(), probes.run_reported()) if verbose else (probes.run(),)
        checks, *reported = await asyncio.gather(*asked)
        ready = not probes.draining and all(state == "ok" for state in checks.values())
        body = {"status": "ready" if ready else "not-ready", "draining": probes.draining, "checks": checks}
        more = {"reported": reported[0]} if verbose else {}
        return JSONResponse(body | more, 200 if ready else 503)

    async def metrics(_: Request) -> Response:
        body = generate_latest(REGISTRY)  # type: ignore[no-untyped-call]
        return Response(body, media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)])


def private_server(probes: Probes, settings: ServiceSettings) -> uvicorn.Server:
    """A server of the private port; whoever runs it sets `should_exit`."""
    listen = settings.listen
    return _Server(_config(private_app(probes), listen.host, listen.private_port, 1, lifespan="off"))


def run(process: Coroutine[Any, Any, T]) -> T:
    """Run a process's main coroutine on uvloop and return its result."""
    # What was made until now stays: the garbage collector need not look at all of it again and again.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(process)


async def serve(app: FastAPI, settings: ServiceSettings, trusted_proxies: Sequence[str] = ()) -> None:
    """Run both ports until SIGTERM or SIGINT; then finish what is in flight, up to `drain_seconds`.

    The private port stays open until the last stream has ended, so that readiness tells the truth meanwhile.

    Args:
        trusted_proxies: addresses or networks whose X-Forwarded-For and X-Forwarded-Proto replace the connection's own
            address and scheme on the public port. From anyone else, loopback too, these headers change nothing.
    """
    probes: Probes = app.state.probes
    listen = settings.listen
    forwarded = {"proxy_headers": bool(trusted_proxies), "forwarded_allow_ips": list(trusted_proxies)}
    public = _Server(_config(app, listen.host, listen.port, settings.drain_seconds, http=recycled(), **forwarded))
    private = private_server(probes, settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    async with asyncio.TaskGroup() as group:
        aside = group.create_task(private.serve())
        front = group.create_task(public.serve())
        waiting = group.create_task(stop.wait())
        await asyncio.wait({aside, front, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        probes.leave()
        if say_goodbye(public):
            await asyncio.sleep(GOODBYE_SECONDS)
        public.should_exit = True
        await front
        private.should_exit = True


def _config(app: Any, host: str, port: int, drain: int, **options: Any) -> uvicorn.Config:
    told: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        # uvicorn by itself believes whoever comes from loopback.
        "proxy_headers": False,
        "timeout_graceful_shutdown": drain,
        "timeout_keep_alive": 75,
        # Of sockets: no frame larger than a body may be, and no compressor's memory for each.
        "ws_max_size": 1024 * 1024,
        "ws_per_message_deflate": False,
    }
    return uvicorn.Config(app, host=host, port=port, **told | options)


class _Server(uvicorn.Server):
    """Signals are handled once, in `serve`: two servers share this process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield
