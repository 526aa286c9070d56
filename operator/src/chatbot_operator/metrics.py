"""What the operator counts, served at /metrics. None of it goes into a resource's status: hot numbers belong here."""

import platform
from collections.abc import Callable

from prometheus_client import (
    GC_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)

PREFIX = "chatbot_operator"


class Metrics:
    """One process's. `result` of a reconcile: unchanged, changed, invalid, refused, gone or error."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        add = self.registry
        self.reconciles = Counter(f"{PREFIX}_reconciles", "Reconciles by result", ["result"], registry=add)
        self.seconds = Histogram(
            f"{PREFIX}_reconcile_seconds",
            "Duration of a reconcile",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=add,
        )
        self.errors = Counter(f"{PREFIX}_errors", "Reconciles that failed, by kind of error", ["reason"], registry=add)
        self.api_requests = Counter(
            f"{PREFIX}_api_requests", "Requests to the API server; code 0: no answer", ["verb", "code"], registry=add
        )
        self.resyncs = Counter(f"{PREFIX}_resyncs", "Looks at everything without an event", registry=add)
        self.resync_differences = Counter(
            f"{PREFIX}_resync_differences", "Resources that a resync found otherwise than last seen", registry=add
        )
        self.conflicts = Counter(f"{PREFIX}_field_conflicts", "Fields taken back from another manager", registry=add)
        self.resources = Gauge(f"{PREFIX}_resources", "Resources by phase", ["phase"], registry=add)
        self.resource_phase = Gauge(
            f"{PREFIX}_resource_phase",
            "1 for the phase a resource is in",
            ["bot_namespace", "bot", "phase"],
            registry=add,
        )
        self.leader = Gauge(f"{PREFIX}_leader", "1 for the process that holds the Lease", registry=add)
        self.queue_depth = Gauge(f"{PREFIX}_queue_depth", "Resources that wait to be reconciled", registry=add)
        self.queue_oldest = Gauge(f"{PREFIX}_queue_oldest_seconds", "How long the oldest has waited", registry=add)
        build = {"version": version, "python": platform.python_version()}
        Info(f"{PREFIX}_build", "What runs here", registry=add).info(build)
        ProcessCollector(registry=add)
        add.register(GC_COLLECTOR)

    def watch_queue(self, depth: Callable[[], float], oldest: Callable[[], float]) -> None:
        """Read at each scrape."""
        self.queue_depth.set_function(depth)
        self.queue_oldest.set_function(oldest)
