"""Leader election in one process; two real processes are in test_process.py."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from chatbot_operator import leader, names
from chatbot_operator.cluster import Cluster
from chatbot_operator.faults import Unavailable
from chatbot_operator.leader import Leadership, LeaseLost
from chatbot_operator.settings import LeaseSettings
from chatbot_operator.world import Manifest
from pydantic import ValidationError

from tests.operator.running import World
from tests.support.patience import within


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "LOOK_SECONDS", 0.2)


def candidate(world: World, identity: str, cluster: Cluster | None = None) -> Leadership:
    settings = LeaseSettings(namespace=world.namespace, duration=3, renew=0.3)
    return Leadership(cluster or world.cluster, settings, identity)


def lease(world: World) -> Manifest:
    spec: Manifest = world.existing("Lease", names.LEASE)["spec"]
    return spec


@contextlib.asynccontextmanager
async def holding(leadership: Leadership) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(leadership.hold())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LeaseLost):
            await task


class TestAcquire:
    async def test_the_first_one_leads_at_once(self, world: World) -> None:
        one = candidate(world, "one")
        with pytest.raises(LeaseLost):
            one.check()
        await one.acquire()
        one.check()
        assert lease(world)["holderIdentity"] == "one"

    async def test_the_second_one_waits_while_the_first_renews(self, world: World) -> None:
        one, two = candidate(world, "one"), candidate(world, "two")
        await one.acquire()
        async with holding(one):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4.5):
                    await two.acquire()
        assert lease(world)["holderIdentity"] == "one"
        assert not two.age < 3

    async def test_and_takes_over_when_the_first_is_dead(self, world: World) -> None:
        one, two = candidate(world, "one"), candidate(world, "two")
        await one.acquire()
        began = time.monotonic()
        await two.acquire()
        assert 2.9 <= time.monotonic() - began < 6
        assert lease(world)["holderIdentity"] == "two"
        assert lease(world)["leaseTransitions"] == 1

    @pytest.mark.parametrize("year", [2001, 2099])
    async def test_a_clock_that_is_wrong_changes_nothing(self, world: World, year: int) -> None:
        one, two = candidate(world, "one"), candidate(world, "two")
        await one.acquire()
        skewed = f"{year}-01-01T00:00:00.000000Z"
        spec = {"renewTime": skewed, "acquireTime": skewed}
        world.api.patch("Lease", world.namespace, names.LEASE, {"spec": spec})
        began = time.monotonic()
        await two.acquire()
        assert 2.9 <= time.monotonic() - began < 6

    async def test_a_released_lease_is_taken_at_once(self, world: World) -> None:
        one, two = candidate(world, "one"), candidate(world, "two")
        await one.acquire()
        await one.release()
        began = time.monotonic()
        await two.acquire()
        assert time.monotonic() - began < 2
        with pytest.raises(LeaseLost):
            one.check()

    async def test_that_was_taken_while_the_process_was_told_to_stop_is_given_back(self, world: World) -> None:
        one, stop, make = candidate(world, "one"), asyncio.Event(), world.cluster.create

        async def unanswered(body: Manifest) -> Manifest:
            await make(body)
            stop.set()
            await asyncio.Event().wait()
            raise AssertionError("for ever")

        world.cluster.create = unanswered  # type: ignore[method-assign]
        assert not await one.acquired(stop)
        assert lease(world)["holderIdentity"] == ""
        with pytest.raises(LeaseLost):
            one.check()

    async def test_is_not_touched_by_who_stops_before_it_leads(self, world: World) -> None:
        one, two, stop = candidate(world, "one"), candidate(world, "two"), asyncio.Event()
        assert await one.acquired(asyncio.Event())
        stop.set()
        assert not await two.acquired(stop)
        assert lease(world)["holderIdentity"] == "one"
        one.check()

    async def test_a_restarted_container_goes_on_at_once(self, world: World) -> None:
        await candidate(world, "one").acquire()
        began = time.monotonic()
        await candidate(world, "one").acquire()
        assert time.monotonic() - began < 2

    async def test_only_one_of_two_that_try_at_the_same_time(self, world: World) -> None:
        both = [candidate(world, name) for name in ("one", "two")]
        await asyncio.wait([asyncio.create_task(one.acquire()) for one in both], return_when=asyncio.FIRST_COMPLETED)
        assert sum(one.age < 3 for one in both) == 1


class TestHold:
    async def test_the_lease_is_renewed(self, world: World) -> None:
        one = candidate(world, "one")
        await one.acquire()
        async with holding(one):
            await asyncio.sleep(3.5)
            one.check()
        assert lease(world)["leaseTransitions"] == 0

    async def test_it_ends_when_another_has_it(self, world: World) -> None:
        one = candidate(world, "one")
        await one.acquire()
        async with holding(one) as task:
            world.api.patch("Lease", world.namespace, names.LEASE, {"spec": {"holderIdentity": "two"}})
            with pytest.raises(LeaseLost, match="another"):
                async with asyncio.timeout(3):
                    await task

    async def test_it_ends_before_another_may_take_over_when_the_server_is_away(self, world: World) -> None:
        one = candidate(world, "one")
        await one.acquire()

        async def away(*_: object) -> None:
            raise Unavailable("nobody is there")

        world.cluster.replace = away  # type: ignore[assignment,method-assign]
        began = time.monotonic()
        async with holding(one) as task:
            with pytest.raises(LeaseLost):
                await task
        assert 1.5 <= time.monotonic() - began < 3
        with pytest.raises(LeaseLost):
            one.check()

    async def test_somebody_who_labels_the_lease_does_not_end_it(self, world: World) -> None:
        one = candidate(world, "one")
        await one.acquire()
        async with holding(one) as task:
            for number in range(10):
                labels = {"metadata": {"labels": {"number": str(number)}}}
                world.api.patch("Lease", world.namespace, names.LEASE, labels)
                await asyncio.sleep(0.2)
            assert not task.done()
            one.check()

    async def test_a_deleted_lease_is_made_again(self, world: World) -> None:
        one = candidate(world, "one")
        await one.acquire()
        async with holding(one):
            world.api.delete("Lease", world.namespace, names.LEASE)
            async with asyncio.timeout(3):
                while not world.get("Lease", names.LEASE):
                    await asyncio.sleep(0.1)


class TestSignature:
    """On the ServiceAccount, for the chart's fencing policy."""

    ACCOUNT = "default"

    def candidate(self, world: World, identity: str) -> Leadership:
        settings = LeaseSettings(namespace=world.namespace, duration=3, renew=0.3, account=self.ACCOUNT)
        return Leadership(world.cluster, settings, identity)

    def signed(self, world: World) -> str | None:
        annotations: dict[str, str] = world.existing("ServiceAccount", self.ACCOUNT)["metadata"].get("annotations", {})
        return annotations.get(names.LEADER)

    async def account(self, world: World) -> None:
        """Every namespace has one, a moment after it was made."""
        async with within(10):
            while not world.get("ServiceAccount", self.ACCOUNT):
                await asyncio.sleep(0.1)

    async def test_names_the_leader_from_the_first_moment_on(self, world: World) -> None:
        await self.account(world)
        one, two = self.candidate(world, "one"), self.candidate(world, "two")
        await one.acquire()
        assert self.signed(world) == "one"
        await one.release()
        await two.acquire()
        assert self.signed(world) == "two"

    async def test_is_written_once_and_again_when_somebody_wipes_it(self, world: World) -> None:
        await self.account(world)
        one = self.candidate(world, "one")
        await one.acquire()
        async with holding(one):
            before = world.existing("ServiceAccount", self.ACCOUNT)["metadata"]["resourceVersion"]
            await asyncio.sleep(1)
            assert world.existing("ServiceAccount", self.ACCOUNT)["metadata"]["resourceVersion"] == before
            wiped = {"metadata": {"annotations": {names.LEADER: None}}}
            world.api.patch("ServiceAccount", world.namespace, self.ACCOUNT, wiped)
            async with asyncio.timeout(3):
                while self.signed(world) != "one":
                    await asyncio.sleep(0.1)

    async def test_of_one_who_was_stopped_before_it_never_covers_a_later_leaders(self, world: World) -> None:
        await self.account(world)
        one, two = self.candidate(world, "one"), self.candidate(world, "two")
        stopped, go_on = asyncio.Event(), asyncio.Event()
        patch = world.cluster.patch

        async def stopping(kind: str, *more: object) -> Manifest:
            if not stopped.is_set():
                stopped.set()
                await go_on.wait()
            return await patch(kind, *more)  # type: ignore[arg-type]

        world.cluster.patch = stopping  # type: ignore[method-assign,assignment]
        frozen = asyncio.create_task(one.acquire())
        await stopped.wait()
        await two.acquire()
        assert self.signed(world) == "two"
        go_on.set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await frozen
        assert self.signed(world) == "two"

    async def test_of_an_account_that_is_gone_holds_nobody_up(self, world: World) -> None:
        """As after `helm uninstall`: the leader had no rights left to give its Lease back, and its token is void."""
        await self.account(world)
        settings = LeaseSettings(namespace=world.namespace, duration=60, account=self.ACCOUNT)
        one, two = (Leadership(world.cluster, settings, name) for name in ("one", "two"))
        await one.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await two.acquire()
        world.api.delete("ServiceAccount", world.namespace, self.ACCOUNT)
        async with within(30):
            await two.acquire()
        assert lease(world)["holderIdentity"] == "two"

    async def test_of_another_account_that_may_be_alive_is_waited_for(self, world: World) -> None:
        """As while a release is renamed, or beside a second one in the namespace."""
        await self.account(world)
        renamed = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "renamed"}}
        world.api.create(renamed, world.namespace)
        settings = LeaseSettings(namespace=world.namespace, duration=30, renew=0.3, account="renamed")
        one, two = self.candidate(world, "one"), Leadership(world.cluster, settings, "two")
        await one.acquire()
        async with holding(one):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.5):
                    await two.acquire()
            one.check()
        assert (lease(world)["holderIdentity"], lease(world)["leaseTransitions"]) == ("one", 0)

    async def test_without_such_an_account_it_leads_all_the_same(self, world: World) -> None:
        settings = LeaseSettings(namespace=world.namespace, account="nobody")
        one = Leadership(world.cluster, settings, "one")
        await one.acquire()
        one.check()


class TestSettings:
    def test_a_renewal_comes_well_before_the_leader_has_to_stop(self) -> None:
        LeaseSettings(namespace="system", duration=6, renew=3)
        with pytest.raises(ValidationError, match="renew must be at most half of duration"):
            LeaseSettings(namespace="system", duration=6)


class TestCheck:
    async def test_every_write_is_asked_for_and_reading_is_not(self, world: World) -> None:
        one = candidate(world, "one")
        world.cluster.check = one.check
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": world.namespace}}
        with pytest.raises(LeaseLost):
            await world.cluster.apply(body)
        assert await world.cluster.get("ConfigMap", world.namespace, "a") is None
        await one.acquire()
        await world.cluster.apply(body)
        assert world.get("ConfigMap", "a")
