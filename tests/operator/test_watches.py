"""Watches that misbehave: the real operator process hears of what happens all the same, and of no other thing twice."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from aiohttp.web import StreamResponse
from chatbot_operator import names
from chatbot_operator.kinds import WATCHED

from tests.operator.processes import Operator, operator
from tests.operator.running import BOT, measured, scaler
from tests.operator.test_process import Bot
from tests.support.apiserver import ApiServer, wait_for
from tests.support.misbehaviour import answer, broken, cut, deaf, expired, hang, late, over, twice, watching
from tests.support.proxy import Asked, Fault, Way, proxy, through

IMPATIENT = Path(__file__).with_name("impatient.py")
CHILD = f"{BOT}-postgres"

pytestmark = pytest.mark.timeout(180)


@dataclass
class Scene:
    bot: Bot
    way: Way
    process: Operator

    def child(self) -> str | None:
        """uid of a child that is made at once."""
        found = self.bot.api.get("Service", self.bot.namespace, CHILD)
        return str(found["metadata"]["uid"]) if found else None

    def hears(self, seconds: float) -> None:
        """A deleted child comes back, and so was noticed; a resync is minutes away."""
        uid = wait_for("the child", self.child)
        began = time.monotonic()
        self.bot.api.delete("Service", self.bot.namespace, CHILD)
        wait_for("it to come back", lambda: self.child() not in (None, uid), seconds)
        print(f"back after {time.monotonic() - began:.1f} s")

    def misbehave(self, fault: Fault, *verbs: str, path: str = "", times: int | None = None) -> float:
        """From now on, for watches that begin anew, as all do. When that was."""
        watches = self.watches()
        self.way.rule(fault, *(verbs or ("WATCH",)), path=path or "/", times=times)
        began = time.monotonic()
        self.way.drop_watches()
        wait_for("the watches to come back", lambda: len(self.paths(began)) >= watches)
        return began

    def paths(self, since: float) -> set[str]:
        return {one.path.partition("?")[0] for one in self.way.asked("WATCH", since=since)}

    def watches(self) -> int:
        """How many there are, once all are open."""
        wait_for("all watches", lambda: self.way.open_watches() >= 1 + len(WATCHED))
        return 1 + len(WATCHED)


@pytest.fixture(scope="module")
def running(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder, bot = tmp_path_factory.mktemp("watches"), Bot(api_server)
    with (
        proxy(api_server, folder) as way,
        operator(api_server, folder, bot.namespace, command=(IMPATIENT,), kubeconfig=way.kubeconfig) as process,
    ):
        process.wait_ready()
        scaling = {"mode": "Fixed", "replicas": 1}
        bot.create({"profile": "Dev", "components": {"chat": {"scaling": scaling}}})
        bot.wait_condition("SecretsReady", "True")
        yield Scene(bot, way, process)


@pytest.fixture
def scene(running: Scene) -> Iterator[Scene]:
    """The process outlives each test but the last one."""
    yield running
    running.way.heal()
    running.way.drop_watches()


class TestBeginning:
    def test_nothing_is_looked_at_before_everything_is_watched(self, api_server: ApiServer, tmp_path: Path) -> None:
        """Else what changes after a look, and before the watch, is heard of by nobody until the next resync."""
        bot, let = Bot(api_server), threading.Event()

        async def slow(asked: Asked) -> StreamResponse:
            while not let.is_set():
                await asyncio.sleep(0.02)
            return await through(asked)

        with proxy(api_server, tmp_path) as way:
            way.rule(slow, "WATCH", path="/services")
            with operator(api_server, tmp_path, bot.namespace, kubeconfig=way.kubeconfig):
                bot.create({"profile": "Dev"})
                wait_for("all other watches", lambda: way.open_watches() >= len(WATCHED), 30)
                time.sleep(1)
                assert not way.asked("POST", "PATCH", path="/secrets")
                let.set()
                bot.wait_condition("SecretsReady", "True")


class TestEvents:
    def test_that_come_twice_do_nothing_twice(self, scene: Scene) -> None:
        began = scene.misbehave(watching(twice))
        scene.hears(5)
        written = scene.way.asked("POST", "PATCH", "DELETE", path=f"/services/{CHILD}", since=began)
        assert [one.verb for one in written] == ["PATCH"]

    def test_that_come_late_are_heeded(self, scene: Scene) -> None:
        scene.misbehave(watching(late(0.5)))
        scene.hears(10)


class TestAutoscalers:
    def test_are_heard_when_they_cannot_follow_the_load(self, scene: Scene) -> None:
        """Of what they measure nothing comes through: test_quiet.py."""
        bot = scene.bot
        bot.api.create(scaler(BOT), bot.namespace)
        for active in ("False", "True"):
            for replicas in range(3):
                status = measured(replicas, active)
                bot.api.patch_status("HorizontalPodAutoscaler", bot.namespace, "busy", status)
            bot.wait_condition("AutoscalingReady", active)
        bot.api.delete("HorizontalPodAutoscaler", bot.namespace, "busy")
        scene.hears(5)


class TestBegun:
    def test_in_vain_a_few_times_in_every_way(self, scene: Scene) -> None:
        ways = [watching(expired), watching(over), cut, answer(429, retry_after=1), answer(500), answer(503)]
        turn = itertools.cycle(ways)

        async def each_in_turn(asked: Asked) -> StreamResponse:
            return await next(turn)(asked)

        scene.misbehave(each_in_turn, times=3 * scene.watches())
        scene.hears(15)

    def test_in_vain_for_ever_asks_no_more_than_once_in_a_while(self, scene: Scene) -> None:
        began = scene.misbehave(watching(over))
        time.sleep(2)
        asked = scene.way.asked("WATCH", since=began)
        print(f"{len(asked)} watches begun in 2 s")
        assert len(asked) <= 4 * (1 + len(WATCHED))

    def test_but_refused_for_longer_than_kopf_has_patience(self, scene: Scene) -> None:
        scene.misbehave(answer(403, "Forbidden"), "WATCH", "GET", path="/horizontalpodautoscalers[?].*(limit=|watch=)")
        time.sleep(2)
        scene.hears(5)
        assert scene.process.process.poll() is None


class TestDeaf:
    def test_watches_are_noticed_and_begun_anew(self, scene: Scene) -> None:
        scene.misbehave(watching(deaf), times=scene.watches())
        scene.hears(10)

    def test_for_good_is_told_by_the_liveness_probe(self, scene: Scene) -> None:
        scene.misbehave(hang)
        assert scene.process.answers("/livez")
        wait_for("the probe to notice", lambda: not scene.process.answers("/livez"), 20)
        assert "watch_staleness" in httpx2.get(f"{scene.process.url}/livez").text


class TestBeyondHelp:
    """Last: it ends the process."""

    def test_it_ends_at_once_and_leaves_its_lease_to_another(self, scene: Scene) -> None:
        scene.way.rule(watching(broken), "WATCH")
        scene.way.drop_watches()
        assert scene.process.process.wait(8) == 1
        assert scene.bot.get("Lease", names.LEASE)["spec"]["holderIdentity"] == ""
