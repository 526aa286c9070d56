"""Plays who makes pods run, in a process of its own, so that it takes no time from what is measured.

    python -m operatorbench.players workloads RUN API_PORT
    python -m operatorbench.players pods RUN API_PORT
    python -m operatorbench.players autoscalers RUN API_PORT

`workloads` plays the controllers: what is to run says at once that it does, and there are no pods. `pods` plays every
kubelet: pods become ready, and those of Jobs succeed, as soon as the real controllers have made them. `autoscalers`
plays the controllers, and that of autoscalers too, which notes every 15 seconds what it measures.
"""

import asyncio
import itertools
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from localcluster.paths import LOOPBACK, Layout

from operatorbench.api import MERGE, METADATA_LIST, Api, Object, connected

AT_ONCE = 16
MEASURE_SECONDS = 15.0
Status = Callable[[Object], Object | None]
"""What the controller of an object would write now; None when that is there."""


def pod(live: Object) -> Object | None:
    if live["status"].get("phase") != "Pending":
        return None
    job = any(owner["kind"] == "Job" for owner in live["metadata"].get("ownerReferences") or [])
    ready = {"type": "Ready", "status": "False" if job else "True"}
    return {"phase": "Succeeded" if job else "Running", "conditions": [ready]}


def workload(live: Object) -> Object | None:
    generation = live["metadata"]["generation"]
    if (live.get("status") or {}).get("observedGeneration") == generation:
        return None
    counts = ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
    return {"observedGeneration": generation} | dict.fromkeys(counts, live["spec"].get("replicas", 1))


def job(live: Object) -> Object | None:
    if (live.get("status") or {}).get("completionTime"):
        return None
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    done = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("SuccessCriteriaMet", "Complete")]
    return {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": done}


PLAYS: Mapping[str, Mapping[str, Status]] = {
    "pods": {"api/v1/pods": pod},
    "workloads": {
        "apis/apps/v1/deployments": workload,
        "apis/apps/v1/statefulsets": workload,
        "apis/batch/v1/jobs": job,
    },
}


def _plays(what: str) -> Mapping[str, Status]:
    return PLAYS["workloads" if what == "autoscalers" else what]


async def play(layout: Layout, what: str) -> None:
    async with connected(layout) as api, asyncio.TaskGroup() as group:
        for path, status in _plays(what).items():
            group.create_task(_follow(api, path, status))
        if what == "autoscalers":
            group.create_task(_measure(api))


async def _measure(api: Api) -> None:
    """Another value each time, as of a service that is never quite idle."""
    path, slots = "apis/autoscaling/v2/horizontalpodautoscalers", asyncio.Semaphore(AT_ONCE)
    for number in itertools.cycle(range(1, 50)):
        again = asyncio.create_task(asyncio.sleep(MEASURE_SECONDS))
        cpu = {"name": "cpu", "current": {"averageValue": f"{number}m", "averageUtilization": number}}
        active = {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"}
        status = {"currentReplicas": 1, "desiredReplicas": 1, "conditions": [active]}
        status["currentMetrics"] = [{"type": "Resource", "resource": cpu}]
        found = (await api.request("GET", f"/{path}", accept=METADATA_LIST))["items"]
        await asyncio.gather(*(_write(api, path, item["metadata"], status, slots) for item in found))
        await again


async def _follow(api: Api, path: str, status: Status) -> None:
    slots, running = asyncio.Semaphore(AT_ONCE), set[asyncio.Task[None]]()
    async for event in api.watch(f"/{path}"):
        if event["type"] != "DELETED" and (wanted := status(event["object"])):
            task = asyncio.create_task(_write(api, path, event["object"]["metadata"], wanted, slots))
            running.add(task)
            task.add_done_callback(running.discard)


async def _write(api: Api, path: str, metadata: Object, status: Object, slots: asyncio.Semaphore) -> None:
    kinds, plural = path.rsplit("/", 1)
    where = f"/{kinds}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}/status"
    async with slots:
        try:
            await api.request("PATCH", where, {"status": status}, MERGE)
        except aiohttp.ClientResponseError as error:
            if error.status != 404:  # deleted meanwhile
                raise


if __name__ == "__main__":
    run = Path(sys.argv[2])
    asyncio.run(play(Layout(run, run, int(sys.argv[3]), 0, LOOPBACK), sys.argv[1]))
