"""What is remembered of each resource, so that what is no news costs nothing."""

from chatbot_operator.known import Known
from chatbot_operator.queue import Key

HARBOUR, QUAY, ELSEWHERE = ("docks", "harbour"), ("docks", "quay"), ("hills", "harbour")


CHAT = {"kind": "Deployment", "metadata": {"name": "harbour-chat"}}


def settle(known: Known, key: Key, versions: dict[str, str]) -> None:
    known.begin(key)
    known.settled(key, versions, [CHAT])


class TestSettled:
    def test_not_when_something_became_news_while_it_was_looked_at(self) -> None:
        known = Known()
        known.begin(HARBOUR)
        known.forget(HARBOUR)
        known.settled(HARBOUR, {"a": "1"}, [])
        assert not known.holds(HARBOUR, "a", "1")
        settle(known, HARBOUR, {"a": "1"})
        assert known.holds(HARBOUR, "a", "1")


class TestOthers:
    def test_are_as_they_were_when_the_resource_alone_was_edited(self) -> None:
        known = Known()
        settle(known, HARBOUR, {"bot": "1", "a": "1"})
        assert known.others(HARBOUR, "bot", "2") == [CHAT]

    def test_are_unknown_when_nothing_happened_so_that_a_complete_look_is_one(self) -> None:
        known = Known()
        settle(known, HARBOUR, {"bot": "1", "a": "1"})
        assert known.others(HARBOUR, "bot", "1") is None

    def test_are_unknown_when_anything_else_was_news(self) -> None:
        known = Known()
        settle(known, HARBOUR, {"bot": "1", "a": "1"})
        known.forget(HARBOUR)
        assert known.others(HARBOUR, "bot", "2") is None

    def test_are_unknown_to_another_resource_of_the_same_name(self) -> None:
        known = Known()
        settle(known, HARBOUR, {"bot": "1", "a": "1"})
        assert known.others(HARBOUR, "another", "2") is None


class TestHolds:
    def test_only_the_version_that_was_settled(self) -> None:
        known = Known()
        settle(known, HARBOUR, {"a": "1", "b": "2"})
        assert known.holds(HARBOUR, "a", "1")
        assert not known.holds(HARBOUR, "a", "2")
        assert not known.holds(HARBOUR, "c", "1")
        assert not known.holds(QUAY, "a", "1")

    def test_nothing_of_what_was_forgotten(self) -> None:
        known = Known()
        settle(known, HARBOUR, {"a": "1"})
        known.forget(HARBOUR)
        known.forget(QUAY)
        assert not known.holds(HARBOUR, "a", "1")


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
