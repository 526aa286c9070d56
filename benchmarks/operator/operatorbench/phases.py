"""The measurements, in the order in which they are taken. Each gives figures by name: seconds, MB, counts."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from operatorbench.api import MERGE
from operatorbench.machine import Machine, Metrics, Operator, operator
from operatorbench.world import CHILDREN, FIXED, SCALED, TIMED, Key, World, at_once, until, world

Figures = dict[str, Any]
Say = Callable[[str], None]

BATCH = 100
"""Edits at once, and samples of what is taken one after the other, where there are so many resources."""
PAUSE_SECONDS = 0.3
"""Between two of those that are taken one after the other."""
QUIET_SECONDS = 5.0
BUSY = 0.2
"""Share of a core."""
ANSWER_SECONDS = 120.0
READY_SECONDS = 1200.0
IDLE_SECONDS = 60.0
RESYNC_SECONDS = 30
"""For the measurement of a resync; it is 600 else."""


async def measure(machine: Machine, size: int, say: Say, *, scaled: bool = False) -> Figures:
    """All figures of one size."""
    async with world(machine.api, size, SCALED if scaled else FIXED) as seen:
        with operator(machine.layout) as first:
            found = await _create(machine, seen, first, say)
            found |= await _edits(seen, first, say)
            found |= await _healing(seen, first, say)
            await _settled(first, say)
            found |= {"memory": first.memory, "memory_peak": first.peak_memory}
            found |= {"conflicts": (await first.metrics()).sum("errors_total")}
            await first.stop()
        with operator(machine.layout) as second:
            found |= await _restart(seen, second, say)
            found |= await _idle(machine, second, say)
            await second.stop()
        with operator(machine.layout, resync_seconds=RESYNC_SECONDS) as third:
            found |= await _resync(seen, third, say)
            await third.stop()
    return {"size": size} | found


async def _create(machine: Machine, seen: World, process: Operator, say: Say) -> Figures:
    began, cpu = time.monotonic(), machine.server_cpu()
    creating = asyncio.create_task(seen.create())

    def all_ready() -> float | None:
        # They come on together, step by step: none is ready until nearly all are.
        say(f"{sum(map(len, seen.added.values()))} ConfigMaps, Services and Deployments, {len(seen.ready)} ready")
        process.runs()
        return time.monotonic() if len(seen.ready) == len(seen.bots) else None

    ready = await until("all resources to be ready", all_ready, READY_SECONDS)
    await creating
    last: float = max(when for key in seen.bots for kind in TIMED for when, _ in seen.added[key, kind])
    await _settled(process, say)
    metrics = await process.metrics()
    return {
        "children": await seen.count(),
        "all_children": last - began,
        "all_ready": ready - began,
        "create_calls": metrics.calls(),
        "create_reconciles": metrics.sum("reconciles_total"),
        "create_operator_cpu": process.cpu,
        "create_server_cpu": machine.server_cpu() - cpu,
    }


async def _edits(seen: World, process: Operator, say: Say) -> Figures:
    """To the first child that follows an edit: the gateway's new ConfigMap."""
    idle = []
    for number, key in enumerate(seen.bots[:BATCH]):
        say(f"edit {number + 1}")
        began = await seen.edit(key, 100)
        idle.append(await seen.appeared(key, "ConfigMap", began, ANSWER_SECONDS) - began)
        await asyncio.sleep(PAUSE_SECONDS)
    await _settled(process, say)
    batch = seen.bots[-BATCH:]
    say(f"{len(batch)} edits at once")

    async def edit(key: Key) -> float:
        return await seen.edit(key, 200)

    sent = await at_once(edit, batch, limit=len(batch))
    answers = [
        await seen.appeared(key, "ConfigMap", began, ANSWER_SECONDS) - began
        for key, began in zip(batch, sent, strict=True)
    ]
    await _settled(process, say)
    return _quantiles("edit_idle", idle) | _quantiles("edit_batch", answers) | {"batch": len(batch)}


async def _healing(seen: World, process: Operator, say: Say) -> Figures:
    deleted, edited = [], []
    for number, key in enumerate(seen.bots[:BATCH]):
        say(f"deletion {number + 1}")
        path = f"/{CHILDREN['Service']}".replace("services", f"namespaces/{key[0]}/services/{key[1]}-auth")
        began = time.monotonic()
        await seen.api.request("DELETE", path)
        deleted.append(await seen.appeared(key, "Service", began, ANSWER_SECONDS) - began)
        await asyncio.sleep(PAUSE_SECONDS)
        edited.append(await _mended(seen, path))
        await asyncio.sleep(PAUSE_SECONDS)
    await _settled(process, say)
    return _quantiles("deleted_back", deleted) | _quantiles("edited_back", edited)


async def _mended(seen: World, path: str) -> float:
    """A selector that somebody changes."""
    part = ("spec", "selector", "app.kubernetes.io/component")
    began = time.monotonic()
    await seen.api.request("PATCH", path, {part[0]: {part[1]: {part[2]: "nobody"}}}, MERGE)
    while (await seen.api.request("GET", path))[part[0]][part[1]][part[2]] == "nobody":
        if time.monotonic() - began > ANSWER_SECONDS:
            return math.inf
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def _restart(seen: World, process: Operator, say: Say) -> Figures:
    """Until each resource has been looked at once, and until there is nothing more to do."""
    looked = await _looked_at_all(seen, process, say)
    await _settled(process, say)
    metrics = await process.metrics()
    return {
        "restart": looked,
        "restart_cpu": process.cpu,
        "restart_writes": metrics.writes,
        "restart_calls": metrics.calls(),
        "restart_reconciles": metrics.sum("reconciles_total"),
        "restart_memory": process.memory,
        "restart_memory_peak": process.peak_memory,
    }


async def _looked_at_all(seen: World, process: Operator, say: Say) -> float:
    while True:
        # A resource has a phase from its first reconcile on.
        count = (await process.metrics()).sum("resources")
        say(f"{count:.0f} looked at after the restart")
        if count >= len(seen.bots):
            return time.monotonic() - process.started
        await asyncio.sleep(0.1)


async def _idle(machine: Machine, process: Operator, say: Say) -> Figures:
    say(f"doing nothing for {IDLE_SECONDS:.0f} s")
    before, cpu, server = await process.metrics(), process.cpu, machine.server_cpu()
    await asyncio.sleep(IDLE_SECONDS)
    share, server_share = process.cpu - cpu, machine.server_cpu() - server
    after = await process.metrics()
    return {
        "idle_cpu_percent": 100 * share / IDLE_SECONDS,
        "idle_server_cpu_percent": 100 * server_share / IDLE_SECONDS,
        "idle_calls": _difference(before, after),
        "idle_reconciles": after.sum("reconciles_total") - before.sum("reconciles_total"),
        "idle_memory": process.memory,
    }


async def _resync(seen: World, process: Operator, say: Say) -> Figures:
    await _looked_at_all(seen, process, say)
    await _settled(process, say)
    before, cpu = await process.metrics(), process.cpu
    began, counted = time.monotonic(), before.sum("resyncs_total")
    while (after := await process.metrics()).sum("resyncs_total") < counted + 2:
        say("waiting for two resyncs")
        # Each scrape costs the operator a few milliseconds.
        await asyncio.sleep(5)
        if time.monotonic() - began > 5 * RESYNC_SECONDS:
            break
    spent, resyncs = process.cpu - cpu, after.sum("resyncs_total") - counted
    return {
        "resyncs": resyncs,
        "resync_cpu": spent / max(resyncs, 1),
        "resync_writes": after.writes - before.writes,
        "resync_calls": _difference(before, after),
        "resync_reconciles": after.sum("reconciles_total") - before.sum("reconciles_total"),
    }


async def _settled(process: Operator, say: Say) -> None:
    """Until it has reconciled nothing for a while, nothing waits, and it is not busy with anything else either."""
    last, since = -1.0, time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        say("settling")
        cpu = process.cpu
        await asyncio.sleep(0.5)
        busy = process.cpu - cpu > BUSY * 0.5
        metrics = await process.metrics()
        done = metrics.sum("reconciles_total")
        if busy or done != last or metrics.sum("queue_oldest_seconds") > 0:
            last, since = done, time.monotonic()


def _difference(before: Metrics, after: Metrics) -> dict[str, int]:
    old = before.calls()
    return {verb: count - old.get(verb, 0) for verb, count in after.calls().items()}


def _quantiles(name: str, samples: Iterable[float]) -> Figures:
    """By nearest rank: what is given was measured."""
    ordered = sorted(samples)

    def rank(share: float) -> float:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return {f"{name}_p50": rank(0.5), f"{name}_p99": rank(0.99), f"{name}_samples": len(ordered)}
