"""Two releases of the operator that watch one namespace by mistake, with other settings: neither drowns the other."""

import pytest
from chatbot_operator import managed, reporting
from chatbot_operator.reconcile import Reconciler

from tests.operator.running import Run, SmallPlan, World, config, step

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
