"""What the kubelet and Prometheus ask: /livez, /readyz and /metrics.

Liveness is deep: an operator that runs but hears nothing, or works on nothing, has to be started anew. Each check is an
age in seconds and the age from which on it cannot be right. None of them asks the API server.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

LAG_LIMIT = 20.0
LOOK_SECONDS = 1.0
REMEMBERED_LOOKS = 60


@dataclass(frozen=True)
class Check:
    """`age` in seconds; `limit`, from which on the process cannot be helped."""

    age: Callable[[], float]
    limit: float


@dataclass
class Probes:
    metrics: CollectorRegistry
    checks: dict[str, Check] = field(default_factory=dict)
    ready: Callable[[], bool] = lambda: False
    draining: bool = False

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _livez(self, _: web.Request) -> web.Response:
        ages = {name: check.age() for name, check in self.checks.items()}
        failed = [name for name, check in self.checks.items() if ages[name] >= check.limit]
        return web.json_response({"status": "stuck" if failed else "ok", "failed": failed, "seconds": _round(ages)},
                                 status=503 if failed else 200)  # fmt: skip

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = self.ready() and not self.draining
        return web.json_response({"status": "ready" if ready else "not-ready"}, status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(self.metrics)  # type: ignore[no-untyped-call]
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


class Lag:
    """How late the event loop was, at worst, within the last minute."""

    def __init__(self) -> None:
        self._late: deque[float] = deque(maxlen=REMEMBERED_LOOKS)

    def worst(self) -> float:
        return max(self._late, default=0.0)

    async def measure(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)
            self._late.append(max(0.0, time.monotonic() - began - LOOK_SECONDS))


@contextlib.asynccontextmanager
async def serving(probes: Probes, port: int) -> AsyncIterator[None]:
    """On all addresses: the kubelet comes from the node's. Raises `OSError` when the port is taken."""
    lag = Lag()
    probes.checks["event_loop_lag"] = Check(lag.worst, LAG_LIMIT)
    runner = web.AppRunner(probes.app(), access_log=None)
    await runner.setup()
    measuring = asyncio.create_task(lag.measure())
    try:
        await web.TCPSite(runner, port=port, reuse_address=True).start()
        yield
    finally:
        measuring.cancel()
        await runner.cleanup()


def _round(ages: Mapping[str, float]) -> dict[str, float]:
    return {name: round(age, 1) for name, age in ages.items()}
