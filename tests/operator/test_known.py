"""What is remembered of each resource, so that what is no news costs nothing."""

from chatbot_operator.known import Known

HARBOUR, QUAY, ELSEWHERE = ("docks", "harbour"), ("docks", "quay"), ("hills", "harbour")


class TestHolds:
    def test_only_the_version_that_was_settled(self) -> None:
        known = Known()
        known.settled(HARBOUR, {"a": "1", "b": "2"})
        assert known.holds(HARBOUR, "a", "1")
        assert not known.holds(HARBOUR, "a", "2")
        assert not known.holds(HARBOUR, "c", "1")
        assert not known.holds(QUAY, "a", "1")

    def test_nothing_of_what_was_forgotten(self) -> None:
        known = Known()
        known.settled(HARBOUR, {"a": "1"})
        known.forget(HARBOUR)
        known.forget(QUAY)
        assert not known.holds(HARBOUR, "a", "1")


class TestDiffering:
    def test_is_who_changed_who_is_gone_and_who_is_new(self) -> None:
        known = Known()
        known.settled(HARBOUR, {"a": "1"})
        known.settled(QUAY, {"b": "1"})
        known.settled(ELSEWHERE, {"c": "1"})
        assert known.differing({HARBOUR: {"a": "1"}, QUAY: {"b": "1"}, ELSEWHERE: {"c": "1"}}, None) == set()
        assert known.differing({HARBOUR: {"a": "2"}, QUAY: {"b": "1"}, ELSEWHERE: {"c": "1"}}, None) == {HARBOUR}
        assert known.differing({HARBOUR: {"a": "1", "d": "1"}, ELSEWHERE: {"c": "1"}}, None) == {HARBOUR, QUAY}
        new = ("docks", "new")
        assert known.differing({new: {"e": "1"}, HARBOUR: {"a": "1"}, QUAY: {"b": "1"}}, "docks") == {new}
