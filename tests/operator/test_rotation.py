"""Rotation of the signing keys: published before they sign, honoured after, and each step taken once."""

import datetime
import json
from base64 import b64decode, b64encode
from typing import Any

import pytest
from chatbot_auth.sessions.keys import SigningKeys
from chatbot_operator.components.context import Context
from chatbot_operator.components.rotation import PUBLISH_SECONDS, Rotation, lost, rotate
from chatbot_operator.world import Manifest, Reference
from chatbot_resource.status import Status
from pydantic import SecretStr

from tests.operator.running import BOT, SETTINGS, Run, World, webhook_down
from tests.operator.simulated import Cluster, make_bot
from tests.operator.specs import DEV, EXTERNAL
from tests.support.apiserver import playing_kubelet

NAME = ("Secret", "demo-signing-keys")
BEGAN = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
DAY = 86400.0


def keys(secret: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b64decode(secret["data"]["signing_keys"]))
    return found


class Clock:
    """A bot that has converged, and the time."""

    def __init__(self, cluster: Cluster | None = None) -> None:
        self.cluster = (cluster or Cluster(make_bot(DEV))).converge()
        self.cluster.children[NAME]["metadata"]["creationTimestamp"] = BEGAN.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.now = BEGAN

    @property
    def secret(self) -> Manifest:
        return self.cluster.children[NAME]

    def kids(self) -> list[str]:
        return [key["kid"] for key in keys(self.secret)["keys"]]

    def current(self) -> str:
        return str(keys(self.secret)["current"])

    def ask(self, text: str) -> None:
        body = self.cluster.bot.metadata.model_copy(update={"annotations": {"chatbot-operator.io/rotate-keys": text}})
        self.cluster.bot = self.cluster.bot.model_copy(update={"metadata": body})

    def publish(self) -> None:
        """Every pod of auth does, which is noted."""
        self.cluster.converge()
        assert self.after(0).patch

    def after(self, seconds: float) -> Rotation:
        """What is to be done so much later, which is done."""
        self.now += datetime.timedelta(seconds=seconds)
        context = Context(self.cluster.bot, self.cluster.observed, SETTINGS)
        rotation = rotate(context, self.now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        if rotation.patch:
            live, patch = self.secret, rotation.patch
            annotations = (live["metadata"].get("annotations") or {}) | patch["metadata"]["annotations"]
            live |= {"data": patch["data"], "metadata": live["metadata"] | {"annotations": annotations}}
        return rotation


@pytest.fixture
def clock() -> Clock:
    made = Clock()
    made.secret["metadata"]["resourceVersion"] = "1"
    return made


class TestSchedule:
    def test_nothing_before_it_is_time(self, clock: Clock) -> None:
        rotation = clock.after(29 * DAY)
        assert (rotation.patch, rotation.again) == (None, DAY)

    def test_signs_where_the_users_store_has_no_authority_of_its_own(self) -> None:
        own = Reference("Secret", "auth-db", "ca.crt")
        clock = Clock(Cluster(make_bot({"profile": "Dev", "stores": EXTERNAL}), references={own: None}))
        (first,) = clock.kids()
        clock.after(30 * DAY)
        clock.publish()
        assert clock.after(PUBLISH_SECONDS).patch
        assert clock.current() != first

    def test_whole(self, clock: Clock) -> None:
        (first,) = clock.kids()
        assert clock.after(30 * DAY).patch
        assert (clock.kids()[0], len(clock.kids()), clock.current()) == (first, 2, first)
        clock.publish()
        assert clock.after(PUBLISH_SECONDS - 1).patch is None
        assert clock.after(1).patch
        second = clock.current()
        assert clock.kids() == [first, second]
        clock.cluster.converge()
        assert clock.after(DAY - 1).patch is None
        assert clock.after(1).patch
        assert (clock.kids(), clock.current()) == ([second], second)
        assert clock.after(0).again == 29 * DAY

    def test_does_not_sign_before_every_pod_publishes(self, clock: Clock) -> None:
        clock.after(30 * DAY)
        assert clock.after(PUBLISH_SECONDS * 2).patch is None
        clock.cluster.reconcile()
        assert clock.after(0).patch is None
        clock.cluster.settle("auth")
        assert clock.after(0).patch
        assert clock.after(PUBLISH_SECONDS - 1).patch is None, "who has asked an old pod just now asks again in 30 s"
        assert clock.current() == clock.kids()[0]
        assert clock.after(1).patch
        assert clock.current() == clock.kids()[1]

    def test_signs_while_auth_is_asleep(self, clock: Clock) -> None:
        clock.after(30 * DAY)
        clock.cluster.converge()
        live = clock.cluster.child("Deployment", "demo-auth")
        counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), 0)
        live["status"] |= counts
        assert clock.after(PUBLISH_SECONDS).patch is None, "it has lost its pods"
        live["spec"] = live["spec"] | {"replicas": 0}
        live["status"] |= {"replicas": 1, "updatedReplicas": 1}
        assert clock.after(0).patch is None, "one is still there"
        live["status"] |= counts
        assert clock.after(0).patch
        assert clock.after(PUBLISH_SECONDS).patch
        assert clock.current() == clock.kids()[1]

    def test_rolls_auth_and_nobody_else(self, clock: Clock) -> None:
        def templates() -> dict[str, Any]:
            found = clock.cluster.children.items()
            return {name: item["spec"]["template"] for (kind, name), item in found if kind == "Deployment"}

        before = templates()
        clock.after(30 * DAY)
        clock.cluster.converge()
        after = templates()
        assert {name for name in before if before[name] != after[name]} == {"demo-auth"}

    def test_auth_can_read_each_step(self, clock: Clock) -> None:
        for seconds in (30 * DAY, 0, PUBLISH_SECONDS, DAY):
            document = SecretStr(json.dumps(keys(clock.secret)))
            assert len(SigningKeys(document, "demo", "demo", 900).public.keys) == len(clock.kids())
            clock.after(seconds)
            clock.cluster.converge()

    def test_status_tells_of_it(self, clock: Clock) -> None:
        told = clock.cluster.report().secrets
        assert (told[0].purpose, told[0].secret) == ("signing-keys", "demo-signing-keys")
        assert (told[0].rotated_at, told[0].digest) == ("2026-11-01T00:00:00Z", clock.current())
        assert told[0].next_rotation == "2026-12-01T00:00:00Z"
        assert told[0].rotation == ""
        assert keys(clock.secret)["keys"][0]["d"] not in clock.cluster.report().model_dump_json()


@pytest.mark.parametrize("text", ["yesterday", "2026-01-01", "9999-12-31T00:00:00Z", "2046-11-01T00:00:00Z"])
class TestNotesThatSomebodyEdited:
    """Unreadable, or of a time to come: none of them stops a rotation, or cuts one short."""

    @staticmethod
    def edit(clock: Clock, name: str, text: str) -> None:
        noted = clock.secret["metadata"].get("annotations") or {}
        clock.secret["metadata"]["annotations"] = noted | {f"chatbot-operator.io/{name}": text}

    def test_the_schedule_goes_by_the_age_of_the_secret(self, clock: Clock, text: str) -> None:
        self.edit(clock, "rotated-at", text)
        assert clock.cluster.report().secrets[0].next_rotation == "2026-12-01T00:00:00Z"
        assert clock.after(29 * DAY) == Rotation(None, DAY)
        assert clock.after(DAY).patch
        assert len(clock.kids()) == 2

    def test_a_new_key_is_published_for_long_enough(self, clock: Clock, text: str) -> None:
        clock.after(30 * DAY)
        clock.publish()
        self.edit(clock, "rotation-since", text)
        clock.after(PUBLISH_SECONDS)
        assert clock.current() == clock.kids()[0]
        clock.after(PUBLISH_SECONDS)
        assert clock.current() == clock.kids()[1]

    def test_an_old_key_is_honoured_for_long_enough(self, clock: Clock, text: str) -> None:
        clock.after(30 * DAY)
        clock.publish()
        clock.after(PUBLISH_SECONDS)
        self.edit(clock, "rotated-at", text)
        clock.after(DAY)
        assert len(clock.kids()) == 2
        clock.after(DAY)
        assert len(clock.kids()) == 1


class TestAsked:
    def test_rotates_once_for_each_text(self, clock: Clock) -> None:
        clock.ask("now")
        assert clock.after(1).patch
        clock.publish()
        assert clock.after(PUBLISH_SECONDS).patch
        assert clock.after(DAY).patch
        assert clock.after(1).patch is None
        clock.ask("again")
        assert clock.after(1).patch

    def test_waits_while_hibernated(self, clock: Clock) -> None:
        clock.cluster.edit(mode="Hibernated")
        clock.ask("now")
        assert clock.after(1) == Rotation()

    @pytest.mark.parametrize("text", ["", "bm90IGpzb24=", "e30="])
    def test_leaves_alone_what_it_does_not_understand(self, clock: Clock, text: str) -> None:
        clock.secret["data"]["signing_keys"] = text
        clock.ask("now")
        assert clock.after(1) == Rotation()

    def test_leaves_alone_a_key_without_a_name(self, clock: Clock) -> None:
        document = keys(clock.secret)
        document["keys"].append({"d": "another"})
        clock.secret["data"]["signing_keys"] = b64encode(json.dumps(document).encode()).decode()
        assert clock.after(30 * DAY) == Rotation()

    def test_never_takes_away_all_keys(self, clock: Clock) -> None:
        """As it would for a key that signs and is not there."""
        document = keys(clock.secret)
        document |= {"current": "another", "keys": document["keys"] * 2}
        clock.secret["data"]["signing_keys"] = b64encode(json.dumps(document).encode()).decode()
        assert clock.after(30 * DAY) == Rotation()


def test_status_tells_what_it_is_at(clock: Clock) -> None:
    stages = [clock.cluster.report().secrets[0].rotation]
    clock.ask("now")
    stages.append(clock.cluster.report().secrets[0].rotation)
    for seconds in (1, 0, PUBLISH_SECONDS, DAY):
        assert clock.after(seconds).patch
        clock.cluster.converge()
        stages.append(clock.cluster.report().secrets[0].rotation)
    assert stages == ["", "Asked", "Publishing", "Publishing", "Overlapping", ""]


class TestLost:
    """A Warning is due when tokens are refused that should not be."""

    def lost(self, clock: Clock, previous: Status | None) -> str:
        return lost(clock.cluster.bot, clock.cluster.observed, previous)

    def test_is_what_somebody_deleted_or_replaced(self, clock: Clock) -> None:
        before = clock.cluster.report()
        assert self.lost(clock, before) == ""
        del clock.cluster.children[NAME]
        assert self.lost(clock, before) == "", "not before it was made anew"
        after = clock.cluster.converge().status
        assert self.lost(clock, before).startswith("Secret demo-signing-keys was deleted or replaced")
        assert self.lost(clock, after) == "", "once"
        assert self.lost(clock, None) == "", "a new resource, or a status that was lost"

    def test_is_told_also_when_it_was_seen_while_there_were_none(self, clock: Clock) -> None:
        """Deleted while paused, or refused once when it was to be made anew."""
        before = clock.cluster.report().secrets
        del clock.cluster.children[NAME]
        clock.cluster.edit(mode="Paused")
        without = clock.cluster.report()
        assert without.secrets == before
        clock.cluster.edit(mode="Active")
        clock.cluster.converge()
        assert self.lost(clock, without).startswith("Secret demo-signing-keys was deleted or replaced")

    def test_is_nothing_in_a_rotation(self, clock: Clock) -> None:
        clock.ask("now")
        for seconds in (1, 0, PUBLISH_SECONDS, DAY):
            before = clock.cluster.report()
            assert clock.after(seconds).patch
            assert self.lost(clock, before) == ""
            clock.cluster.converge()


async def test_on_a_real_api_server(world: World) -> None:
    world.create_bot({"profile": "Dev"})
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "True")
        before = run.secret("signing-keys")
        asked = {"metadata": {"annotations": {"chatbot-operator.io/rotate-keys": "2026-11-21"}}}
        world.api.patch("ChatbotDeployment", world.namespace, BOT, asked)
        await run.reconcile(world.key)
        after = run.secret("signing-keys")
        assert keys(after)["keys"][0] == keys(before)["keys"][0]
        assert (len(keys(after)["keys"]), keys(after)["current"]) == (2, keys(before)["current"])
        await run.until("Ready", "True")
        writes = world.writes()
        again = await run.reconcile(world.key)
        assert world.writes() == writes
        assert again is not None
        assert again <= PUBLISH_SECONDS

        for lost in ("signing-keys", "admin"):
            world.api.delete("Secret", world.namespace, f"{BOT}-{lost}")
        for _ in range(2):
            await run.reconcile(world.key)
        [told] = [message for reason, message in world.events() if reason == "AdminPasswordLost"]
        assert told.startswith(
            f"Secret {BOT}-admin is gone, and the database is not. The password in the one made now opens"
        )
        [told] = [message for reason, message in world.events() if reason == "SigningKeysLost"]
        assert f"Secret {BOT}-signing-keys was deleted" in told
        assert "sign in again" in told


async def test_a_webhook_that_is_down_puts_it_off_and_nothing_else(world: World) -> None:
    world.create_bot({"profile": "Dev"})
    run = Run(world)
    with playing_kubelet(world.api, world.namespace):
        await run.until("Ready", "True")
        asked = {"metadata": {"annotations": {"chatbot-operator.io/rotate-keys": "2026-11-21"}}}
        world.api.patch("ChatbotDeployment", world.namespace, BOT, asked)
        with webhook_down(world, "secrets"):
            run.edit(images={"chat": "chat:2"})
            told = await run.until("SecretsReady", "False", "ApplyRefused")
            assert any(f"Secret {BOT}-signing-keys" in item.message for item in told.conditions)
            live = world.existing("Deployment", f"{BOT}-chat")
            assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "chat:2"
        await run.until("Ready", "True")
        assert len(keys(run.secret("signing-keys"))["keys"]) == 2
