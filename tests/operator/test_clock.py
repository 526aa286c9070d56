"""The API server's clock is the one that counts: an operator whose own is wrong neither hurries nor tarries."""

import json
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from chatbot_operator.clock import ANSWERS, Clock

from tests.operator.processes import Operator, operator
from tests.operator.running import BOT
from tests.support.apiserver import ApiServer, Object, playing_kubelet, wait_for

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = 3600.0
SKEWED = Path(__file__).with_name("skewed.py")
PUBLISHED = 8.0
"""See skewed.py."""
BROKEN = "redis:broken"
DEADLINE = 6.0
SLACK = 2.0
"""What times are cut down to, twice."""


class Server:
    """One that answers at a time of its own, through a clock that is asked for it."""

    def __init__(self) -> None:
        self.mono = 5000.0
        self.ahead = 0.0
        self.clock = Clock(lambda: self.mono)

    @property
    def time(self) -> datetime:
        return NOON + timedelta(seconds=self.mono - 5000.0 + self.ahead)

    def answer(self, there: float = 0.01, back: float = 0.01, wrong: float = 0.0) -> None:
        """Seconds that the request and the answer were under way."""
        sent = self.clock.sent()
        self.mono += there
        told = self.time + timedelta(seconds=wrong)
        self.mono += back
        self.clock.heard(format_datetime(told.replace(microsecond=0), usegmt=True), sent)

    def answers(self, count: int, every: float = 0.3) -> None:
        for _ in range(count):
            self.mono += every
            self.answer()

    def off(self) -> float:
        """Seconds that the clock is ahead of the server's."""
        return (self.clock.now() - self.time).total_seconds()


@pytest.fixture
def server() -> Server:
    return Server()


class TestClock:
    def test_our_own_counts_until_the_first_answer(self, server: Server) -> None:
        assert abs((server.clock.now() - datetime.now(UTC)).total_seconds()) < 1
        server.answer()
        assert -1.1 < server.off() <= 0

    @pytest.mark.parametrize("text", [None, "", "soon", "2026-11-01T12:00:00Z"])
    def test_an_answer_without_a_time_says_nothing(self, server: Server, text: str | None) -> None:
        server.answer()
        before = server.clock.now()
        server.clock.heard(text, server.clock.sent())
        assert server.clock.now() == before

    def test_several_answers_tell_more_than_one(self, server: Server) -> None:
        server.answers(ANSWERS)
        assert -0.35 < server.off() <= 0

    def test_one_that_took_long_spoils_nothing(self, server: Server) -> None:
        server.answers(ANSWERS)
        server.answer(there=0.0, back=25.0)
        assert -0.35 < server.off() <= 0
        server.answer(there=25.0, back=0.0)
        assert -0.35 < server.off() <= 0

    @pytest.mark.parametrize("wrong", [HOUR, -HOUR])
    def test_one_by_another_clock_does_nothing(self, server: Server, wrong: float) -> None:
        server.answers(ANSWERS)
        server.answer(wrong=wrong)
        assert abs(server.off()) < 1.1
        server.answers(ANSWERS)
        assert abs(server.off()) < 1.1

    @pytest.mark.parametrize("by", [HOUR, -HOUR])
    def test_follows_when_the_servers_clock_is_put_right(self, server: Server, by: float) -> None:
        server.answers(ANSWERS)
        server.clock.now()
        server.ahead = by
        server.answers(ANSWERS)
        assert -0.35 < server.off() <= 0

    def test_never_goes_back(self, server: Server) -> None:
        before = server.clock.now()
        server.answer()
        for number in range(200):
            server.ahead = (0, 0.9, -0.9)[number % 3]  # servers of one cluster, behind one address
            server.mono += 0.17
            server.answer(0.01, 0.2 * (number % 4))
            assert number == 0 or server.clock.now() >= before
            before = server.clock.now()

    def test_text_is_to_the_second(self, server: Server) -> None:
        server.answer()
        assert server.clock.text() == "2026-11-01T12:00:00Z"


# -- A process on a machine whose clock is wrong ----------------------------------------------------------------------


class Scene:
    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.api, self.folder, self.namespace = server, folder, server.namespace()

    @contextmanager
    def operator(self, ahead: float) -> Iterator[Operator]:
        name = f"operator-{ahead:+.0f}"
        with operator(self.api, self.folder, self.namespace, name, (SKEWED, str(ahead))) as process:
            process.wait_ready()
            yield process

    def get(self, kind: str, name: str = "") -> Object:
        found = self.api.get(kind, self.namespace, name or BOT)
        assert found is not None, name
        return found

    def condition(self, kind: str) -> Object:
        found = self.get("ChatbotDeployment").get("status", {}).get("conditions", [])
        return next((item for item in found if item["type"] == kind), {"status": "", "reason": ""})

    def wait_ready(self) -> None:
        wait_for("it to be ready", lambda: self.condition("Ready")["status"] == "True", 60)

    def keys(self) -> tuple[list[str], str]:
        """Of all that are published, and the one that signs."""
        found = json.loads(b64decode(self.get("Secret", f"{BOT}-signing-keys")["data"]["signing_keys"]))
        return [key["kid"] for key in found["keys"]], found["current"]

    def edit(self, **body: Any) -> None:
        self.api.patch("ChatbotDeployment", self.namespace, BOT, body)

    def unpullable(self) -> Object | None:
        """The pod of the image that is not there, as its kubelet tells of it."""
        pod = self.api.get("Pod", self.namespace, f"{BOT}-redis-0")
        if pod is None or runs(pod) or pod["metadata"].get("deletionTimestamp"):
            return None
        waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
        told = {"name": "redis", "image": BROKEN, "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
        return self.api.patch_status("Pod", self.namespace, f"{BOT}-redis-0", {"containerStatuses": [told]})


def runs(pod: Object) -> bool:
    return not any(container["image"] == BROKEN for container in pod["spec"]["containers"])


def seconds_since(text: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()


@pytest.fixture
def scene(api_server: ApiServer, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(api_server, tmp_path)
    body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment", "metadata": {"name": BOT}}
    spec = {"profile": "Dev", "rollout": {"deadline": f"{DEADLINE:.0f}s"}}
    with playing_kubelet(api_server, made.namespace, runs):
        api_server.create(body | {"spec": spec}, made.namespace)
        yield made


@pytest.mark.timeout(180)
@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_what_does_not_start_is_given_its_time_and_no_more(scene: Scene, ahead: float) -> None:
    with scene.operator(ahead):
        scene.wait_ready()
        scene.edit(spec={"images": {"redis": BROKEN}})
        pod = wait_for("the pod", scene.unpullable, 30)
        wait_for("it to be given up", lambda: scene.condition("Ready")["reason"] == "RolledBack", 40)
        assert seconds_since(pod["metadata"]["creationTimestamp"]) >= DEADLINE
        scene.edit(spec={"images": None})
        scene.wait_ready()
        told_times(scene)


def told_times(scene: Scene) -> None:
    """All that the operator has written anywhere are of this test."""
    bot = scene.get("ChatbotDeployment")
    oldest = seconds_since(bot["metadata"]["creationTimestamp"]) + SLACK
    times = [item["lastTransitionTime"] for item in bot["status"]["conditions"]]
    times += [item["at"] for item in bot["status"]["version"]["history"]]
    events = [item for item in scene.api.list("Event", scene.namespace) if item["involvedObject"]["name"] == BOT]
    times += [item["lastTimestamp"] for item in events if item["involvedObject"]["kind"] == "ChatbotDeployment"]
    times += [scene.get("Lease", "chatbot-operator")["spec"]["renewTime"]]
    assert len(times) > 10
    assert all(-SLACK <= seconds_since(when) <= oldest for when in times), times


def published_since(scene: Scene) -> str:
    noted = scene.get("Secret", f"{BOT}-signing-keys")["metadata"]["annotations"]
    return str(noted["chatbot-operator.io/rotation-since"])


@pytest.mark.timeout(180)
def test_a_key_is_published_for_as_long_although_another_replica_goes_on(scene: Scene) -> None:
    """Its clock is two hours ahead of that of the one that has published it."""
    with scene.operator(-HOUR) as first:
        scene.wait_ready()
        scene.edit(metadata={"annotations": {"chatbot-operator.io/rotate-keys": "now"}})
        wait_for("the next key", lambda: len(scene.keys()[0]) == 2)
        noted = wait_for("every pod to publish it", lambda: published_since(scene))
        began = time.monotonic()
        (old, new), current = scene.keys()
        assert current == old
        first.stop()
    assert abs(seconds_since(noted)) < PUBLISHED
    with scene.operator(HOUR):
        wait_for("the next key to sign", lambda: scene.keys()[1] == new, 60)
        assert time.monotonic() - began >= PUBLISHED - SLACK
        assert scene.keys()[0] == [old, new], "its overlap is a day"
