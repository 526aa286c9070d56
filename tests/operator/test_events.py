"""Which Events a resource gets: of what has changed, once, and few."""

from dataclasses import dataclass, field
from typing import Any, cast

from chatbot_operator.clock import Clock
from chatbot_operator.cluster import Cluster
from chatbot_operator.events import Events
from chatbot_operator.world import Manifest
from chatbot_resource.status import Condition, Status

from tests.operator.running import status
from tests.operator.simulated import NOW

BOT = {"metadata": {"name": "demo", "namespace": "team", "uid": "1", "resourceVersion": "1"}}
KEDA = "The cluster has no ScaledObject: install KEDA."
ROUTE = "The cluster has no HTTPRoute: install the Gateway API."


@dataclass
class Posted:
    """In the place of the API server, of which nothing but `create` is asked."""

    events: list[tuple[str, str, str]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    async def create(self, event: Manifest) -> Manifest:
        self.events.append((event["type"], event["reason"], event["message"]))
        return event


def said(**conditions: tuple[str, str]) -> Status:
    """Ready, and with what is wrong besides: reason and message by condition."""
    made = status({}, "Settled", "", "True", None, NOW)
    besides: list[Any] = [
        Condition(
            type=cast(Any, kind),
            status="False",
            reason=reason,
            message=message,
            last_transition_time=NOW,
            observed_generation=1,
        )
        for kind, (reason, message) in conditions.items()
    ]
    return made.model_copy(update={"conditions": [*made.conditions, *besides]})


async def told(*states: Status) -> list[tuple[str, str, str]]:
    """What was posted while it was in one state after the other, since it was Ready and all was well."""
    posted = Posted()
    events, before = Events(cast(Cluster, posted)), said()
    for state in states:
        await events.told(BOT, before, state)
        before = state
    return posted.events


LACKING = said(AutoscalingReady=("ApiNotInstalled", KEDA), DependenciesDetected=("ApiNotInstalled", KEDA))


async def test_what_ready_does_not_wait_for_is_told_once() -> None:
    assert await told(LACKING, LACKING) == [("Warning", "ApiNotInstalled", KEDA)]


async def test_what_waits_only_is_not() -> None:
    assert await told(said(AutoscalingReady=("MetricsPending", "no figures yet"))) == []


async def test_other_figures_are_no_news() -> None:
    measured = [said(AutoscalingReady=("MetricsUnavailable", f"failed {number} times")) for number in range(3)]
    assert len(await told(*measured)) == 1


async def test_what_comes_and_goes_is_told_once_in_ten_minutes() -> None:
    failing = said(AutoscalingReady=("MetricsUnavailable", "no server"))
    assert len(await told(failing, said(), failing, said(), failing)) == 1


async def test_a_sum_is_told_of_what_nobody_else_says() -> None:
    both = f"{KEDA} {ROUTE}"
    parts = {"AutoscalingReady": ("ApiNotInstalled", KEDA), "RouteReady": ("ApiNotInstalled", ROUTE)}
    assert len(await told(said(**parts, DependenciesDetected=("ApiNotInstalled", both)))) == 2
    refused = f"{KEDA} PodMonitor demo: forbidden"
    found = await told(
        LACKING,
        said(**{"AutoscalingReady": parts["AutoscalingReady"]}, DependenciesDetected=("ApiNotInstalled", refused)),
    )
    assert [message for _, _, message in found] == [KEDA, refused]


async def test_the_next_thing_that_lacks_for_the_same_reason_is_told_too() -> None:
    both = f"{KEDA} {ROUTE}"
    one, two = (said(DependenciesDetected=("ApiNotInstalled", message)) for message in (KEDA, both))
    assert [message for _, _, message in await told(one, two, one, two)] == [KEDA, both]


async def test_and_nothing_twice_that_ready_says_itself() -> None:
    stuck = status({}, "ApplyRefused", "PodMonitor demo: forbidden", "False", None, NOW)
    besides = said(DependenciesDetected=("ApplyRefused", "PodMonitor demo: forbidden")).conditions[1:]
    both = stuck.model_copy(update={"conditions": [*stuck.conditions, *besides]})
    assert await told(both) == [("Warning", "ApplyRefused", "PodMonitor demo: forbidden")]
