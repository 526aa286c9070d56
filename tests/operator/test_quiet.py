"""A watch of autoscalers, without all that is no news."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chatbot_operator.quiet import Quiet
from chatbot_operator.versions import version
from chatbot_operator.world import Manifest

from tests.operator.running import measured, scaler

KIND = "HorizontalPodAutoscaler"


def live(number: int = 1, active: str = "True", **spec: Any) -> Manifest:
    """As it comes from the API server after `number` writes."""
    found = scaler("harbour")
    managed = [{"manager": "kube-controller-manager", "time": f"2026-11-21T06:00:{number:02}Z"}]
    metadata = found["metadata"] | {"uid": "a", "resourceVersion": str(number), "managedFields": managed}
    return found | {"metadata": metadata, "spec": found["spec"] | spec, "status": measured(number, active)}


class TestVersion:
    def test_is_that_of_the_server_where_the_status_is_read(self) -> None:
        assert version("Deployment", {"metadata": {"resourceVersion": "7"}}) == "7"

    def test_is_the_same_whatever_an_autoscaler_measures(self) -> None:
        assert version(KIND, live(1)) == version(KIND, live(2))

    @pytest.mark.parametrize("other", [live(active="False"), live(maxReplicas=3), live() | {"status": {}}])
    def test_is_another_where_anything_is_that_is_read(self, other: Manifest) -> None:
        assert version(KIND, other) != version(KIND, live())

    def test_is_another_for_labels_owners_and_deletion(self) -> None:
        for key, value in (("labels", {}), ("ownerReferences", [{"uid": "b"}]), ("deletionTimestamp", "now")):
            assert version(KIND, live() | {"metadata": live()["metadata"] | {key: value}}) != version(KIND, live())


class Wire:
    """What arrives, in pieces that are cut anywhere."""

    def __init__(self, *events: tuple[str, Manifest], piece: int = 100) -> None:
        self._bytes = b"".join(json.dumps({"type": kind, "object": item}).encode() + b"\n" for kind, item in events)
        self._piece = piece

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        for start in range(0, len(self._bytes), self._piece):
            yield self._bytes[start : start + self._piece]


async def heard(seen: dict[str, str], *events: tuple[str, Manifest], piece: int = 100) -> list[tuple[str, str]]:
    """Type and version of the events that come through."""
    wire: Any = Wire(*events, piece=piece)
    through = b"".join([data async for data in Quiet(wire, KIND, seen).iter_chunked(1 << 20)])
    found = [json.loads(line) for line in through.splitlines()]
    return [(event["type"], event["object"]["metadata"]["resourceVersion"]) for event in found]


class TestQuiet:
    @pytest.mark.parametrize("piece", [1, 100, 1 << 20])
    async def test_lets_through_what_is_news(self, piece: int) -> None:
        events = [("ADDED", live(1)), *(("MODIFIED", live(number)) for number in range(2, 9))]
        events += [("MODIFIED", live(9, "False")), ("MODIFIED", live(10, "False")), ("MODIFIED", live(11))]
        assert await heard({}, *events, piece=piece) == [("ADDED", "1"), ("MODIFIED", "9"), ("MODIFIED", "11")]

    async def test_lets_through_that_one_is_gone_and_one_of_its_name_is_there(self) -> None:
        events = [("ADDED", live(1)), ("DELETED", live(1)), ("ADDED", live(1))]
        assert [kind for kind, _ in await heard({}, *events)] == ["ADDED", "DELETED", "ADDED"]

    async def test_lets_through_what_shows_that_the_watch_lives(self) -> None:
        mark: Manifest = {"metadata": {"resourceVersion": "12"}}
        assert await heard({}, ("BOOKMARK", mark), ("BOOKMARK", mark)) == [("BOOKMARK", "12")] * 2

    async def test_goes_on_where_the_watch_before_it_ended(self) -> None:
        seen: dict[str, str] = {}
        await heard(seen, ("ADDED", live(1)))
        assert await heard(seen, ("ADDED", live(2)), ("MODIFIED", live(3))) == []
