"""What is remembered of each resource, so that what is no news costs nothing."""

import time
from collections.abc import Mapping, Sequence

from chatbot_operator.known import Known
from chatbot_operator.queue import Key
from chatbot_operator.world import Manifest

HARBOUR, QUAY, ELSEWHERE = ("docks", "harbour"), ("docks", "quay"), ("hills", "harbour")

CHAT: Manifest = {"kind": "Deployment", "metadata": {"name": "harbour-chat"}}
PLACE: Manifest = {"kind": "Service", "metadata": {"name": "harbour-chat"}}
OTHERS: Mapping[str, Sequence[Manifest]] = {"Deployment": [CHAT], "ReplicaSet": [], "Service": [PLACE], "Pod": []}
AN_HOUR = 3600.0


def settle(known: Known, key: Key, versions: dict[str, str], due: float = AN_HOUR) -> None:
    known.begin(key)
    known.settled(key, versions, OTHERS, due)


def others(known: Known, uid: str = "bot") -> dict[str, list[Manifest]]:
    """What the next look of the resource need not read."""
    known.begin(HARBOUR)
    found = {kind: list(objects) for kind, objects in known.others(HARBOUR, uid).items()}
    known.settled(HARBOUR, {"bot": "1"}, OTHERS, AN_HOUR)
    return found


class TestNews:
    def test_is_all_of_what_was_never_looked_at(self) -> None:
        assert Known().news(HARBOUR, "Service", "a", "1")
        assert Known().news(HARBOUR, "Service", "a", "1", gone=True)

    def test_is_any_version_but_the_one_that_was_seen(self) -> None:
        known = Known()
        settle(known, HARBOUR, {"a": "1", "b": "2"})
        assert not known.news(HARBOUR, "Service", "a", "1")
        assert known.news(HARBOUR, "Service", "a", "2")
        assert known.news(HARBOUR, "Service", "c", "1")
        assert known.news(QUAY, "Service", "a", "1")

    def test_is_that_something_is_gone_which_was_there(self) -> None:
        known = Known()
        settle(known, HARBOUR, {"a": "1"})
        assert known.news(HARBOUR, "Service", "a", "1", gone=True)
        assert not known.news(HARBOUR, "Service", "b", "1", gone=True), "as we deleted it ourselves"

    def test_is_everything_of_what_was_forgotten(self) -> None:
        known = Known()
        settle(known, HARBOUR, {"a": "1"})
        known.forget(HARBOUR)
        known.forget(QUAY)
        assert known.news(HARBOUR, "Service", "a", "1")

    def test_during_a_look_is_judged_by_what_the_look_has_seen(self) -> None:
        known = Known(AN_HOUR)
        known.begin(HARBOUR)
        assert known.news(HARBOUR, "Service", "a", "2"), "nobody knows yet"
        known.settled(HARBOUR, {"a": "2"}, OTHERS, AN_HOUR)
        assert known.rest(HARBOUR) is not None, "it was our own write"
        known.begin(HARBOUR)
        assert known.news(HARBOUR, "Service", "a", "3")
        known.settled(HARBOUR, {"a": "2"}, OTHERS, AN_HOUR)
        assert known.rest(HARBOUR) is None, "it came after we looked"

    def test_does_not_settle_what_was_forgotten_during_the_look(self) -> None:
        known = Known(AN_HOUR)
        known.begin(HARBOUR)
        known.forget(HARBOUR)
        known.settled(HARBOUR, {"a": "1"}, OTHERS, AN_HOUR)
        assert known.news(HARBOUR, "Service", "a", "1")

    def test_does_not_hold_what_a_look_held_that_did_not_come_to_its_end(self) -> None:
        """What it met with was not what it had in mind."""
        known = Known(AN_HOUR)
        settle(known, HARBOUR, {"bot": "1"})
        known.begin(HARBOUR)
        known.end(HARBOUR)
        assert known.news(HARBOUR, "ChatbotDeployment", "bot", "1")
        assert others(known) == {}
        known.end(HARBOUR)
        assert others(known) == OTHERS, "this one was settled"


class TestRest:
    def test_is_the_time_to_the_next_look_while_nothing_is_news(self) -> None:
        known = Known(AN_HOUR)
        assert known.rest(HARBOUR) is None
        settle(known, HARBOUR, {"bot": "1"}, due=60)
        rest = known.rest(HARBOUR)
        assert rest is not None
        assert 50 < rest <= 60
        known.news(HARBOUR, "ChatbotDeployment", "bot", "2")
        assert known.rest(HARBOUR) is None

    def test_is_none_once_the_look_is_due(self) -> None:
        known = Known(AN_HOUR)
        settle(known, HARBOUR, {"bot": "1"}, due=0)
        assert known.rest(HARBOUR) is None

    def test_is_none_for_who_hears_of_no_events(self) -> None:
        known = Known()
        settle(known, HARBOUR, {"bot": "1"})
        assert known.rest(HARBOUR) is None


class TestOthers:
    def test_are_all_as_they_were_when_the_resource_alone_was_edited(self) -> None:
        known = Known(AN_HOUR)
        settle(known, HARBOUR, {"bot": "1"})
        known.news(HARBOUR, "ChatbotDeployment", "bot", "2")
        assert others(known) == OTHERS

    def test_are_but_those_of_the_kind_that_is_news_and_of_what_comes_along_with_it(self) -> None:
        known = Known(AN_HOUR)
        settle(known, HARBOUR, {"bot": "1"})
        known.news(HARBOUR, "Deployment", "a", "2")
        assert others(known) == {"Service": [PLACE], "Pod": []}
        assert others(known) == OTHERS, "news are read once"

    def test_are_none_of_what_was_never_looked_at_or_forgotten(self) -> None:
        known = Known(AN_HOUR)
        assert others(known) == {}
        known.forget(HARBOUR)
        assert others(known) == {}

    def test_are_none_of_what_is_forgotten_while_it_is_looked_at(self) -> None:
        known = Known(AN_HOUR)
        settle(known, HARBOUR, {"bot": "1"})
        known.begin(HARBOUR)
        known.forget(HARBOUR)
        assert known.others(HARBOUR, "bot") == {}

    def test_are_none_of_another_resource_of_the_same_name(self) -> None:
        known = Known(AN_HOUR)
        settle(known, HARBOUR, {"bot": "1"})
        assert others(known, "another") == {}

    def test_are_none_for_who_hears_of_no_events(self) -> None:
        known = Known()
        settle(known, HARBOUR, {"bot": "1"})
        assert others(known) == {}

    def test_are_none_after_a_while_however_often_it_was_looked_at(self) -> None:
        known = Known(0.05)
        settle(known, HARBOUR, {"bot": "1"})
        until = time.monotonic() + 5
        while others(known):
            assert time.monotonic() < until


class TestDiffering:
    def test_is_who_changed_who_is_gone_and_who_is_new(self) -> None:
        known = Known()
        settle(known, HARBOUR, {"a": "1"})
        settle(known, QUAY, {"b": "1"})
        settle(known, ELSEWHERE, {"c": "1"})
        assert known.differing({HARBOUR: {"a": "1"}, QUAY: {"b": "1"}, ELSEWHERE: {"c": "1"}}, None) == set()
        assert known.differing({HARBOUR: {"a": "2"}, QUAY: {"b": "1"}, ELSEWHERE: {"c": "1"}}, None) == {HARBOUR}
        assert known.differing({HARBOUR: {"a": "1", "d": "1"}, ELSEWHERE: {"c": "1"}}, None) == {HARBOUR, QUAY}
        new = ("docks", "new")
        assert known.differing({new: {"e": "1"}, HARBOUR: {"a": "1"}, QUAY: {"b": "1"}}, "docks") == {new}
