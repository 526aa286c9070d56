"""The worker process: runs background jobs, keeps seeds in step, closes turns that nobody finished.

It depends on nothing at start: while Postgres is away it waits and says so on `/readyz` of its private port.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import structlog
from chatbot_common.app import Probes, private_server
from chatbot_common.database import CONNECT_SECONDS, STATEMENT_SECONDS
from opentelemetry.instrumentation.utils import suppress_instrumentation
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.adapters.tracing.opentelemetry import OpenTelemetryTracing
from pgqueuer.core.qm import QueueManager

from chatbot_conversation.context import Context, make_context
from chatbot_conversation.handlers import Handlers
from chatbot_conversation.knowledge.watch import SeedWatch
from chatbot_conversation.settings import Settings

log = structlog.get_logger(__name__)

QUEUE_POOL = 3
"""Connections of the queue: one listens, the others fetch and report."""
CONCURRENT_JOBS = 8
POOL_SIZE, POOL_OVERFLOW = CONCURRENT_JOBS, 0
"""One connection a job, kept: opening one costs Postgres more than most jobs do."""
POLL = timedelta(seconds=10)
"""Jobs are announced by NOTIFY; polling finds those of a worker that died."""
HEARTBEAT = timedelta(seconds=30)
"""A job whose worker has been silent for this long is taken up again."""
TICK_SECONDS = 10.0
RETRY_SECONDS = 1.0
NICE = 10


class Worker:
    def __init__(
        self, settings: Settings, *, heartbeat: timedelta = HEARTBEAT, tick_seconds: float = TICK_SECONDS
    ) -> None:
        self._settings = settings
        self._heartbeat = heartbeat
        self._tick_seconds = tick_seconds
        self._context: Context = make_context(settings, pool_size=POOL_SIZE, max_overflow=POOL_OVERFLOW)
        self._seeds = SeedWatch(self._context.database, settings, self._context.embedder.name, self._context.vectors)
        self._handlers = Handlers(self._context)
        self._stop = asyncio.Event()
        self._consuming = False
        self.probes = Probes(
            {
                "database": self._context.database.ping,
                "vectors": self._context.vectors.ping,
                "jobs": self._check_jobs,
                **self._seeds.checks,
            }
        )

    def stop(self) -> None:
        """Take no new job; `run` returns once those in hand are finished, or `drain_seconds` have passed."""
        self.probes.draining = True
        self._stop.set()

    async def run(self) -> None:
        jobs = asyncio.create_task(self._consume())
        chores = [
            asyncio.create_task(self._repeat("seeds", self._seeds.sync)),
            asyncio.create_task(self._repeat("overdue turns", self._context.turns.close_overdue)),
        ]
        await self._stop.wait()
        for chore in chores:
            chore.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_seconds):
                await jobs
        await asyncio.gather(*chores, return_exceptions=True)
        await self._context.close()

    async def _check_jobs(self) -> None:
        if not self._consuming:
            raise ConnectionError("the job queue is not connected")

    async def _repeat(self, what: str, chore: Callable[[], Awaitable[object]]) -> None:
        """Run a chore every tick, sooner while it fails. Its own queries belong to no request, so to no trace."""
        while True:
            delay = self._tick_seconds
            try:
                with suppress_instrumentation():
                    await chore()
            except Exception as error:
                log.warning("chore failed, will try again", chore=what, error=type(error).__name__)
                delay = RETRY_SECONDS
            await asyncio.sleep(delay)

    async def _consume(self) -> None:
        while not self._stop.is_set():
            try:
                with suppress_instrumentation():
                    await self._consume_while_connected()
            except Exception as error:
                log.warning("job queue not available, will try again", error=type(error).__name__)
            self._consuming = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS):
                    await self._stop.wait()

    async def _consume_while_connected(self) -> None:
        dsn = self._settings.database_url.get_secret_value()
        limits = {"timeout": CONNECT_SECONDS, "command_timeout": STATEMENT_SECONDS}
        async with asyncpg.create_pool(dsn, min_size=1, max_size=QUEUE_POOL, **limits) as pool:
            manager = QueueManager(Queries(AsyncpgPoolDriver(pool)), tracer=OpenTelemetryTracing())
            self._handlers.register(manager)
            stopping = asyncio.create_task(self._forward_stop(manager))
            self._consuming = True
            try:
                await manager.run(
                    dequeue_timeout=min(POLL, self._heartbeat),
                    batch_size=CONCURRENT_JOBS // 2,
                    max_concurrent_tasks=CONCURRENT_JOBS,
                    shutdown_on_listener_failure=True,
                    heartbeat_timeout=self._heartbeat,
                )
            finally:
                stopping.cancel()

    async def _forward_stop(self, manager: QueueManager) -> None:
        await self._stop.wait()
        manager.shutdown.set()


async def run_worker(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT. The private port answers until the last job has ended."""
    _stand_back()
    worker = Worker(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    server = private_server(worker.probes, settings)
    serving = asyncio.create_task(server.serve())
    log.info("worker started")
    await worker.run()
    server.should_exit = True
    await serving
    log.info("worker stopped")


def _stand_back() -> None:
    """Where answers and jobs share the cores, answers go first: nobody waits for a job."""
    os.nice(NICE)
    # Linux shares out the cores between sessions first, and each process of the platform is one.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICE))
