"""A Redis outside the cluster: pods go on without it, so only they tell that it is gone."""

import httpx2
import pytest
from chatbot_common.app import Probes, private_app
from chatbot_operator.asking import Target, ask, serving
from chatbot_operator.known import Known
from chatbot_operator.outside import Outside
from chatbot_operator.queue import Key
from chatbot_operator.world import Answer, Manifest

from tests.operator import test_reachability as pods
from tests.operator.simulated import Cluster, make_bot
from tests.operator.test_reachability import READY, Service, condition, external

KEY: Key = ("team", "demo")
LACKING = READY | {"reported": {"redis": "ConnectionError", "conversation": "timeout"}}
HEARD = {"demo-chat-1": Answer(ready=True, failing={}, lacking={"redis": "ConnectionError"})}


def ready(port: int, name: str = "demo-chat-1", part: str = "chat") -> Manifest:
    return pods.pod(port, name, part, conditions=[{"type": "Ready", "status": "True"}])


class TestAsking:
    async def test_hears_what_a_ready_pod_goes_on_without(self) -> None:
        async with pods.serving(Service(LACKING)) as service:
            several = [
                ready(service.port),
                ready(service.port, "demo-chat-0"),
                ready(service.port, "demo-auth-1", "auth"),
            ]
            assert await ask(serving(several, {"chat"})) == HEARD
            assert service.asked == 1

    async def test_understands_what_services_answer(self) -> None:
        async def away() -> None:
            raise ConnectionError("cache.example.com")

        transport = httpx2.ASGITransport(private_app(Probes(reported={"redis": away})))
        async with httpx2.AsyncClient(transport=transport, base_url="http://pod") as client:
            told, plain = await client.get("/readyz?verbose"), await client.get("/readyz")
        assert (told.status_code, plain.status_code) == (200, 200)
        assert "reported" not in plain.json()
        async with pods.serving(Service(told.json())) as service:
            assert await ask(serving([ready(service.port)], {"chat"})) == HEARD

    async def test_leaves_pods_alone_that_leave_or_are_not_ready(self) -> None:
        leaving = ready(1)
        leaving["metadata"]["deletionTimestamp"] = "2026-11-21T06:00:00Z"
        assert serving([leaving, pods.pod(1, part="chat")], {"chat"}) == []


class TestStatus:
    def lacking(self, cluster: Cluster, *parts: str) -> Cluster:
        for part in parts:
            cluster.pod(part, f"demo-{part}-1", {"phase": "Running"})
            cluster.answers[f"demo-{part}-1"] = Answer(ready=True, failing={}, lacking={"redis": "TimeoutError"})
        return cluster

    def test_names_the_secret_and_who_goes_on_without(self) -> None:
        cluster = self.lacking(external(), "gateway", "chat")
        told = cluster.report()
        text = "Pods of chat go on without the Redis whose address is in Secret cache: no connection."
        for kind, status in (("CacheReady", "False"), ("Ready", "False"), ("Degraded", "True")):
            found = condition(told, kind)
            assert (found.status, found.reason, found.message) == (status, "StoreUnreachable", text)
        assert condition(told, "Available").status == "True"
        assert (told.phase, told.components_ready) == ("Degraded", "4/4")
        assert told.stores is not None
        assert told.stores.redis is not None
        assert not told.stores.redis.ready

    def test_does_not_stand_in_the_way_of_a_rollout(self) -> None:
        cluster = self.lacking(external(), "chat")
        cluster.child("Deployment", "demo-chat")["status"]["updatedReplicas"] = 0
        told = cluster.report()
        assert condition(told, "Ready").reason == "StoreUnreachable"
        assert next(item.reason for item in told.components if item.name == "chat").startswith("RollingOut")

    def test_silence_is_no_recovery(self) -> None:
        cluster = self.lacking(external(), "chat")
        cluster.report()
        cluster.pods[:] = [ready(1)]
        cluster.answers.clear()
        found = condition(cluster.report(), "CacheReady")
        assert (found.reason, found.message.rpartition(" ")[2]) == ("StoreUnreachable", "connection.")
        cluster.answers["demo-chat-1"] = Answer(ready=True, failing={}, lacking={})
        assert condition(cluster.report(), "CacheReady").status == "True"

    def test_of_ours_its_own_pod_tells(self) -> None:
        cluster = self.lacking(Cluster(make_bot({"profile": "Dev"})).converge(), "chat")
        assert condition(cluster.report(), "CacheReady").reason == "StoreReady"


class TestAgainAndAgain:
    @pytest.fixture
    def queued(self) -> list[Key]:
        return []

    @pytest.fixture
    def known(self) -> Known:
        """It was settled, and would not be looked at again."""
        known = Known(lasting=600)
        known.begin(KEY)
        known.settled(KEY, {"uid": "1"}, {}, due=600)
        return known

    def targets(self, service: Service) -> list[Target]:
        return serving([ready(service.port)], {"chat"})

    async def test_queues_what_has_become_otherwise(self, known: Known, queued: list[Key]) -> None:
        outside = Outside(known, queued.append)
        async with pods.serving(Service(READY)) as service:
            outside.note(KEY, self.targets(service), {})
            await outside.once()
            assert (queued, known.rest(KEY) is None, service.asked) == ([], False, 1)
            service.says = LACKING
            await outside.once()
            assert (queued, known.rest(KEY)) == ([KEY], None)

    async def test_says_nothing_twice(self, known: Known, queued: list[Key]) -> None:
        outside = Outside(known, queued.append)
        async with pods.serving(Service(LACKING)) as service:
            outside.note(KEY, self.targets(service), HEARD)
            await outside.once()
            # Another word for the same is no news.
            service.says = READY | {"reported": {"redis": "TimeoutError"}}
            await outside.once()
            assert (queued, service.asked) == ([], 2)
            service.says = READY
            await outside.once()
            assert queued == [KEY]

    async def test_takes_silence_for_no_news(self, known: Known, queued: list[Key]) -> None:
        outside = Outside(known, queued.append)
        async with pods.serving(Service("no answer")) as service:
            outside.note(KEY, self.targets(service), HEARD)
            await outside.once()
        await outside.once()
        assert queued == []

    async def test_leaves_those_alone_that_have_nobody_to_ask(self, known: Known, queued: list[Key]) -> None:
        outside = Outside(known, queued.append)
        async with pods.serving(Service(LACKING)) as service:
            outside.note(KEY, self.targets(service), {})
            outside.note(KEY, [], {})
            await outside.once()
            assert service.asked == 0
