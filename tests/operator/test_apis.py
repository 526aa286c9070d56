"""What a cluster may have or not: kinds that somebody installs, and host names that somebody else has."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from chatbot_operator import apis
from chatbot_operator.apis import Apis
from chatbot_operator.cluster import Cluster
from chatbot_operator.connection import KUBECONFIG, api_client, configuration
from chatbot_operator.hosts import older_hosts, taken_hosts
from chatbot_operator.known import Known
from chatbot_operator.queue import Key
from chatbot_operator.referrers import Referrers
from chatbot_operator.resync import Resync

from tests.operator.running import BOT, Run, World
from tests.operator.simulated import make_bot
from tests.support.apiserver import ApiServer, playing_kubelet
from tests.support.misbehaviour import answer
from tests.support.optional_apis import GATEWAY, install, remove
from tests.support.proxy import Way, proxy

ROUTE = {"type": "HTTPRoute", "hostnames": ["chat.example.com"], "parentRefs": [{"name": "web"}]}


@pytest.fixture(scope="module")
def api_server(own_api_server: ApiServer) -> ApiServer:
    return own_api_server


async def test_kinds_are_noticed_and_used_and_missed_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apis, "LOOK_SECONDS", 0.2)
    found = Apis(world.cluster)
    assert await found.detect() == frozenset()
    changed = asyncio.create_task(found.changed())
    install(world.api, GATEWAY)
    try:
        await asyncio.wait_for(changed, 20)
        assert await found.detect() == {"HTTPRoute"}
        world.create_bot({"profile": "Dev", "exposure": ROUTE})
        run = Run(world, lambda: found.kinds)
        with playing_kubelet(world.api, world.namespace):
            await run.until("Ready", "True")
            told = await run.until("RouteReady", "False", "RoutePending")
            await run.until("DependenciesDetected", "True", "ApisInstalled")
            assert told.url == "https://chat.example.com"
            route = world.existing("HTTPRoute", f"{BOT}-gateway")
            assert route["spec"]["rules"][0]["timeouts"] == {"request": "0s"}
            writes = world.writes()
            await Run(world, lambda: found.kinds).reconcile(world.key)
            assert world.writes() == writes
            spec = route["spec"]
            header = {"name": "X-Forwarded-For", "value": "192.0.2.1"}
            header_set = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [header]}}
            edited = {"spec": {"rules": [spec["rules"][0] | {"filters": [header_set]}]}}
            world.api.patch("HTTPRoute", world.namespace, f"{BOT}-gateway", edited)
            await run.reconcile(world.key)
            assert world.existing("HTTPRoute", f"{BOT}-gateway")["spec"] == spec
            run.edit(exposure={"type": "None", "hostnames": None, "parentRefs": None})
            await run.until("RouteReady", "True", "NotExposed")
            assert world.get("HTTPRoute", f"{BOT}-gateway") is None
    finally:
        remove(world.api, GATEWAY)
    assert await found.detect() == frozenset()


class TestTrouble:
    @pytest.fixture
    async def way(self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Way]:
        """The cluster has the Gateway API, and the operator's way to it is bad."""
        install(world.api, GATEWAY)
        try:
            with proxy(world.api, tmp_path) as way:
                monkeypatch.setenv(KUBECONFIG, str(way.kubeconfig))
                async with api_client(await configuration(), world.metrics) as client:
                    world.cluster = Cluster(client)
                    yield way
        finally:
            remove(world.api, GATEWAY)

    async def test_a_namespace_that_is_gone_and_the_rights_in_it_hides_nothing(self, world: World, way: Way) -> None:
        way.rule(answer(403, "Forbidden"), path="/namespaces/gone/")
        watched = ("gone", world.namespace)
        assert await Apis(world.cluster, watched).detect() == {"HTTPRoute"}
        assert await Apis(world.cluster, ("gone",)).detect() == frozenset()
        bot = make_bot({"profile": "Dev", "exposure": ROUTE})
        assert await taken_hosts(world.cluster, bot, watched, frozenset({"HTTPRoute"})) == {}

    async def test_rights_that_one_namespace_does_not_give_hide_nothing_else(self, world: World, way: Way) -> None:
        """As a team that writes its own Roles may forget them."""
        refused = way.rule(answer(403, "Forbidden"), path=f"/namespaces/{world.namespace}/httproutes")
        world.create_bot({"profile": "Dev", "exposure": ROUTE})
        run, queued = Run(world, lambda: frozenset({"HTTPRoute"})), list[Key]()
        with playing_kubelet(world.api, world.namespace):
            await run.until("Available", "True")
            await run.until("DependenciesDetected", "False", "ApiNotInstalled")
        resync = Resync(
            world.cluster,
            Known(),
            Referrers(),
            world.metrics,
            queued.append,
            (world.namespace,),
            lambda: frozenset({"HTTPRoute"}),
        )
        met = refused.met
        await resync.once()
        assert (queued, refused.met) == ([world.key], met + 1)

    async def test_an_answer_is_waited_for(self, world: World, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(apis, "AGAIN_SECONDS", 0.1)
        rule = way.rule(answer(503), path="/httproutes", times=2)
        assert await Apis(world.cluster).detect() == {"HTTPRoute"}
        assert rule.met == 2


async def test_the_older_resource_has_the_host_name(world: World) -> None:
    exposure = {"type": "Ingress", "hostnames": ["taken.example.com"]}
    world.create_bot({"profile": "Dev", "exposure": exposure})
    other = World(world.api, world.api.namespace(), world.cluster, world.metrics)
    other.create_bot({"profile": "Dev", "exposure": exposure})
    with playing_kubelet(world.api, world.namespace), playing_kubelet(world.api, other.namespace):
        first, second = Run(world), Run(other)
        await first.until("Ready", "True")
        await asyncio.sleep(1)  # creation times are in whole seconds
        told = await second.until("Ready", "True")
        told = await second.until("RouteReady", "False", "HostnameTaken")
        message = next(item.message for item in told.conditions if item.type == "RouteReady")
        assert f"{world.namespace}/{BOT}" in message
        await first.until("RouteReady", "False", "RoutePending")
        first.edit(exposure={"type": "None", "hostnames": None})
        await first.until("RouteReady", "True")
        await second.until("RouteReady", "False", "RoutePending")


async def test_looking_for_host_names_costs_as_many_requests_as_there_are_namespaces() -> None:
    hosts = [f"{number}.example.com" for number in range(16)]
    bot = make_bot({"profile": "Dev", "exposure": {"type": "Ingress", "hostnames": hosts}})
    asked: list[Any] = []

    class Counting:
        async def list(self, *query: Any) -> list[Any]:
            asked.append(query)
            return [route("a", "one", "2026-01-01", hosts[0], "another.example.com")]

    cluster, spaces = cast("Cluster", Counting()), [f"team-{number}" for number in range(50)]
    assert await taken_hosts(cluster, bot, spaces, frozenset({"HTTPRoute"})) == {hosts[0]: "a/one"}
    assert len(asked) == 100
    asked.clear()
    assert await taken_hosts(cluster, bot, (), frozenset({"HTTPRoute"})) == {hosts[0]: "a/one"}
    assert len(asked) == 32, "one for each name, since a cluster may have a thousand"
    asked.clear()
    await taken_hosts(cluster, make_bot(), spaces, frozenset())
    assert not asked


def route(namespace: str, bot: str, created: str, *hosts: str) -> dict[str, Any]:
    labels = {"chatbot-operator.io/bot": bot}
    metadata = {"namespace": namespace, "labels": labels, "creationTimestamp": created}
    return {"kind": "Ingress", "metadata": metadata, "spec": {"rules": [{"host": host} for host in hosts]}}


class TestOlderHosts:
    def test_are_those_before_mine(self) -> None:
        routes = [
            route("c", "mine", "2026-01-02", "x"),
            route("b", "other", "2026-01-01", "x", "y"),
            route("d", "later", "2026-01-03", "z"),
        ]
        assert older_hosts(routes, ("c", "mine")) == {"x": "b/other", "y": "b/other"}

    def test_of_the_same_second_one_alone_gives_way(self) -> None:
        routes = [route("a", "one", "2026-01-01", "x"), route("b", "two", "2026-01-01", "x")]
        assert older_hosts(routes, ("a", "one")) == {}
        assert older_hosts(routes, ("b", "two")) == {"x": "a/one"}

    def test_all_are_older_than_what_is_not_made_yet(self) -> None:
        assert older_hosts([route("a", "one", "2026-01-01", "x")], ("b", "two")) == {"x": "a/one"}
