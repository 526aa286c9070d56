"""One operator process from its start to its end: probes, then the Lease, then watching and working."""

import asyncio
import itertools
import os
import signal
from contextlib import suppress
from functools import partial

import kopf
import structlog
from chatbot_resource.model import KIND
from opentelemetry.trace import Tracer

from chatbot_operator import handlers, left, plan, status, staying, tracing
from chatbot_operator.apis import Apis
from chatbot_operator.clock import Clock
from chatbot_operator.cluster import Cluster
from chatbot_operator.components import revisions, rotation, secrets
from chatbot_operator.connection import Watches, api_client, configuration, kopf_session
from chatbot_operator.faults import ApiFault
from chatbot_operator.kinds import watched
from chatbot_operator.known import Known
from chatbot_operator.leader import Leadership, LeaseLost
from chatbot_operator.metrics import Metrics
from chatbot_operator.outside import Outside
from chatbot_operator.pauses import LASTING
from chatbot_operator.probes import Check, Probes, serving
from chatbot_operator.queue import Queue
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.referrers import Referrers
from chatbot_operator.resync import Resync
from chatbot_operator.rules import Rules
from chatbot_operator.settings import Settings

FINISH_SECONDS = 10.0
"""For the reconciles that are under way when the process is told to stop."""
CLOSE_SECONDS = 2.0
KIND_SECONDS = 5.0
OLDEST_LIMIT = 600.0
STALE_LIMIT = 2.0 * handlers.WATCH_SECONDS + 120
LOST = 1
RULES = Rules(
    references=plan.references,
    missing_secrets=secrets.missing,
    rotate=rotation.rotate,
    effective=partial(revisions.effective, render=plan.plan),
    plan=plan.plan,
    wanted=staying.wanted,
    status_of=status.status_of,
    invalid=left.invalid,
    leaving=left.leaving,
)

log = structlog.get_logger("operator")


async def run(settings: Settings, identity: str) -> int:
    """Lead when it is our turn, until SIGTERM or SIGINT. The exit code.

    Raises:
        ConfigException: there are no credentials for an API server.
        OSError: the port of the probes is taken.
    """
    metrics, stop, clock = Metrics(settings.version), asyncio.Event(), Clock()
    _on_signals(stop)
    told = await configuration()
    # The Lease has connections of its own: a renewal must not wait for hundreds of children to be applied.
    async with api_client(told, metrics) as client, api_client(told, metrics) as aside:
        cluster = Cluster(client, clock=clock)
        leadership = Leadership(Cluster(aside, clock=clock), settings.lease, identity)
        cluster.check = leadership.check
        probes = Probes(metrics.registry, ready=lambda: leadership.looked)
        async with serving(probes, settings.probe_port):
            log.info("waiting for the Lease", identity=identity, version=settings.version)
            if not await leadership.acquired(stop):
                return 0
            spans = tracing.provider(settings, identity)
            try:
                return await Leader(
                    settings, metrics, cluster, leadership, probes, stop, spans.get_tracer(tracing.NAME)
                ).run()
            finally:
                tracing.close(spans)


class Leader:
    """What only the holder of the Lease does."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        cluster: Cluster,
        leadership: Leadership,
        probes: Probes,
        stop: asyncio.Event,
        tracer: Tracer,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._cluster = cluster
        self._leadership = leadership
        self._probes = probes
        self._stop = stop
        self._watches = Watches()
        self._referrers, self._known = Referrers(), Known(LASTING * settings.resync_seconds)
        self._apis = Apis(cluster, settings.watch_namespaces)
        self._outside = Outside(self._known, lambda key: self._queue.add(key))
        reconciler = Reconciler(
            cluster,
            settings,
            metrics,
            self._referrers,
            RULES,
            self._known,
            lambda: self._apis.kinds,
            tracer,
            self._outside,
        )
        self._queue = Queue(reconciler, settings.workers)
        self._resync = Resync(
            cluster,
            self._known,
            self._referrers,
            metrics,
            self._queue.add,
            settings.watch_namespaces,
            lambda: self._apis.kinds,
        )
        metrics.watch_queue(self._queue.depth, self._queue.oldest)

    async def run(self) -> int:
        self._metrics.leader.set(1)
        self._probes.ready = lambda: len(self._watches) > 0
        self._probes.checks |= {
            "lease_age": Check(lambda: self._leadership.age, 2.0 * self._settings.lease.duration),
            "queue_oldest": Check(self._queue.oldest, OLDEST_LIMIT),
            "watch_staleness": Check(lambda: self._watches.staleness, STALE_LIMIT),
        }
        kopf_stop = asyncio.Event()
        # Kopf regards every task that begins after it as its own, and ends it: so it begins last.
        holding = asyncio.create_task(self._leadership.hold())
        working = asyncio.create_task(self._work(), name="working")
        resyncing = asyncio.create_task(
            self._resync.run(self._settings.resync_seconds, self._watches.lost_track), name="resyncing"
        )
        asking = asyncio.create_task(self._outside.run(), name="asking")
        changing = asyncio.create_task(self._apis.changed())
        losing = asyncio.create_task(self._watches.kind_gone.wait())
        stopping = asyncio.create_task(self._stop.wait())
        watching = asyncio.create_task(self._watch(kopf_stop), name="watching")
        ending = {holding, working, resyncing, asking, changing, losing, stopping, watching}
        await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        if holding.done():
            self._lost(holding)
        anew = changing.done() or losing.done()
        code = 0 if self._stop.is_set() or anew else _failure(working, resyncing, asking, watching)
        resyncing.cancel()
        asking.cancel()
        changing.cancel()
        losing.cancel()
        await self._finish(working)
        holding.cancel()
        stopping.cancel()
        await self._leadership.release()
        kopf_stop.set()
        await asyncio.wait({watching}, timeout=FINISH_SECONDS)
        log.info("stopped", code=code)
        # All is done that has to be; a watch of Kopf's was seen to outlive its cancellation.
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, os._exit, code)
        return code

    async def _work(self) -> None:
        """Once everything is watched: what a look has seen does not change unheard after it."""
        await self._watches.complete.wait()
        await self._queue.run()

    async def _watch(self, stop: asyncio.Event) -> None:
        """Let Kopf fill the queue, once our kind is there to be watched."""
        await self._wait_for_kind()
        apis = await self._apis.detect()
        registry = handlers.registry(
            self._queue.add, self._referrers, self._known, lambda: kopf_session(self._metrics, self._watches), apis
        )
        namespaces = self._settings.watch_namespaces
        self._watches.expect((1 + len(watched(apis))) * max(1, len(namespaces)))
        others = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=handlers.settings(apis),
            # Else Kopf looks up the user's name, and a container's user has none. Its type is private to Kopf.
            identity=self._leadership.identity,  # type: ignore[arg-type]
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=stop,
        )
        # Kopf has taken the signals; it would stop watching before what is under way has ended.
        _on_signals(self._stop)
        ending = asyncio.create_task(kopf.run_tasks(tasks, ignored=others))
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            await ending
        # Else one has failed, and Kopf ends the others, which may take long: see CLOSE_SECONDS.
        for task in done:
            task.result()

    async def _wait_for_kind(self) -> None:
        """One namespace that answers is enough; another may be gone."""
        said: set[str] = set()
        for namespace in itertools.cycle(self._settings.watch_namespaces or (None,)):
            try:
                await self._cluster.list(KIND, namespace, limit=1)
                if said:
                    log.info(f"{KIND}s can be listed")
                return
            except ApiFault as fault:
                if str(fault) not in said:
                    text = f"waits until {KIND}s can be listed; is the CustomResourceDefinition installed?"
                    log.warning(text, namespace=namespace, error=str(fault))
                said.add(str(fault))
            await asyncio.sleep(KIND_SECONDS)

    async def _finish(self, working: asyncio.Task[None]) -> None:
        self._probes.draining = True
        self._queue.stop()
        self._watches.complete.set()
        await asyncio.wait({working}, timeout=FINISH_SECONDS)
        working.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await working

    def _lost(self, holding: asyncio.Task[None]) -> None:
        """At once, and without any tidying up: another process may be about to act."""
        error = holding.exception()
        expected = isinstance(error, LeaseLost)
        log.critical("the Lease is lost", error=str(error), exc_info=None if expected else error)
        os._exit(LOST)


def _failure(*tasks: asyncio.Task[None]) -> int:
    """None of these ends by itself while all is well; the kubelet starts us anew."""
    for task in tasks:
        if task.done():
            log.critical("cannot go on", ended=task.get_name(), exc_info=task.exception())
    return 1


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
