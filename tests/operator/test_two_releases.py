"""Two releases of the operator that watch one namespace by mistake, with other settings: neither drowns the other."""

import pytest
from chatbot_operator import managed, reporting
from chatbot_operator.events import Events
from chatbot_operator.fights import FIGHT_SECONDS
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.reporting import Reports
from chatbot_resource.status import Status

from tests.operator.running import SECONDS, Run, SmallPlan, World, config, step

ROUNDS = 12
"""More than the fights that an operator has over one child."""


def release(world: World, text: str) -> Reconciler:
    return world.reconciler(SmallPlan(lambda bot, _: [step("chat", config(bot, text))]))


async def in_turn(world: World, *releases: Reconciler) -> None:
    """Each hears of what the others have written, and looks."""
    for _ in range(ROUNDS):
        for reconcile in releases:
            await reconcile(world.key)


def told(world: World) -> tuple[str, str]:
    return Run.ready(Run(world).status())


@pytest.fixture
async def both(world: World) -> tuple[Reconciler, Reconciler]:
    world.create_bot()
    found = release(world, "one"), release(world, "two")
    await in_turn(world, *found)
    return found


async def test_the_fight_is_told_and_ends(both: tuple[Reconciler, Reconciler], world: World) -> None:
    assert told(world) == ("False", "FieldConflict")
    assert managed.ANOTHER in Run(world).status().conditions[0].message
    before, events = world.writes(), world.events()
    await in_turn(world, *both)
    assert world.writes() == before
    assert world.events() == events


def with_available(told: Status, serves: str) -> Status:
    """The same with whether it serves, which small plans leave out."""
    available = told.conditions[0].model_copy(update={"type": "Available", "status": serves, "message": ""})
    return told.model_copy(update={"conditions": [*told.conditions, available]})


async def test_that_it_serves_no_more_is_told_by_whoever_sees_it(
    both: tuple[Reconciler, Reconciler], world: World
) -> None:
    """Also by one that has begun after the fight, and has not written of it."""
    previous = with_available(Run(world).status(), "True")
    reports = Reports(world.cluster, world.metrics, Events(world.cluster))
    settled = previous.model_copy(update={"conditions": [previous.conditions[-1]]})
    assert reports.seconds_to_leave(world.key, previous, settled) > FIGHT_SECONDS - SECONDS
    assert reports.seconds_to_leave(world.key, previous, with_available(Run(world).status(), "False")) == 0
    assert reports.seconds_to_leave(world.key, settled, previous) == 0


async def test_a_status_that_says_so_by_hand_is_put_right_in_the_end(world: World) -> None:
    world.create_bot()
    reports = Reports(world.cluster, world.metrics, Events(world.cluster))
    await release(world, "one")(world.key)
    condition = Run(world).status().conditions[0]
    hand = condition.model_copy(update={"message": managed.ANOTHER, "last_transition_time": "yesterday"})
    previous = Run(world).status().model_copy(update={"conditions": [hand]})
    assert 0 < reports.seconds_to_leave(world.key, previous, Run(world).status()) <= FIGHT_SECONDS


async def test_an_edit_is_observed(both: tuple[Reconciler, Reconciler], world: World) -> None:
    Run(world).edit(mode="Paused")
    await in_turn(world, *both)
    assert Run(world).status().observed_generation == world.bot()["metadata"]["generation"]


async def test_who_is_left_says_so_once_the_fight_is_old(
    both: tuple[Reconciler, Reconciler], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = release(world, str(world.existing("ConfigMap", "harbour-chat-config")["data"]["text"]))
    await left(world.key)
    assert told(world) == ("False", "FieldConflict")
    monkeypatch.setattr(reporting, "FIGHT_SECONDS", 0.0)
    await left(world.key)
    assert told(world) == ("True", "Settled")
