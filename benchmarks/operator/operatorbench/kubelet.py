"""Plays every kubelet: pods become ready, and those of Jobs succeed, as soon as they are there.

A process of its own, so that it takes no time from what is measured: `python -m operatorbench.kubelet RUN API_PORT`.
The workload controllers, which make the pods, are the real ones.
"""

import asyncio
import sys
from pathlib import Path

import aiohttp
from localcluster.paths import LOOPBACK, Layout

from operatorbench.api import MERGE, Api, Object, connected

AT_ONCE = 16


async def play(layout: Layout) -> None:
    async with connected(layout) as api:
        slots, running = asyncio.Semaphore(AT_ONCE), set[asyncio.Task[None]]()
        async for event in api.watch("/api/v1/pods"):
            pod = event["object"]
            if event["type"] == "ADDED" and pod["status"].get("phase") == "Pending":
                task = asyncio.create_task(_start(api, pod, slots))
                running.add(task)
                task.add_done_callback(running.discard)


async def _start(api: Api, pod: Object, slots: asyncio.Semaphore) -> None:
    metadata = pod["metadata"]
    job = any(owner["kind"] == "Job" for owner in metadata.get("ownerReferences") or [])
    ready = {"type": "Ready", "status": "False" if job else "True"}
    status = {"phase": "Succeeded" if job else "Running", "conditions": [ready]}
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
    async with slots:
        try:
            await api.request("PATCH", path, {"status": status}, MERGE)
        except aiohttp.ClientResponseError as error:
            if error.status != 404:  # deleted meanwhile
                raise


if __name__ == "__main__":
    run = Path(sys.argv[1])
    asyncio.run(play(Layout(run, run, int(sys.argv[2]), 0, LOOPBACK)))
