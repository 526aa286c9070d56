"""Who is asked again, and when: decided without asking anybody."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from chatbot_chat.providers.errors import (
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderTimeout,
    refusal,
    retry_after_of,
)
from chatbot_chat.providers.retries import ROUNDS, next_round
from chatbot_chat.providers.routing import shuffled
from chatbot_chat.settings import DeploymentSettings
from hypothesis import given
from hypothesis import strategies as st

BROKEN = ProviderError()
chances = st.floats(0, 1)


class TestRounds:
    @given(chances)
    def test_pauses_double_and_half_of_each_is_chance(self, chance: float) -> None:
        found = [next_round([("a", BROKEN)], rounds, 10, chance) for rounds in (1, 2)]
        assert [step and step[0] for step in found] == pytest.approx([0.1 + chance / 10, 0.2 + chance / 5])
        assert [step and step[1] for step in found] == [["a"], ["a"]]

    def test_there_are_so_many(self) -> None:
        assert next_round([("a", BROKEN)], ROUNDS, 10, 0) is None

    @pytest.mark.parametrize("error", [ProviderRefused(), ProviderTimeout()])
    def test_none_where_it_would_not_help(self, error: ProviderError) -> None:
        assert next_round([("a", error)], 1, 10, 0) is None
        assert next_round([("a", error), ("b", BROKEN)], 1, 10, 0) == (0.1, ["b"])

    @given(chances, st.floats(0.01, 10))
    def test_never_before_the_provider_wants(self, chance: float, wanted: float) -> None:
        found = next_round([("a", ProviderOverloaded(retry_after=wanted))], 1, 20, chance)
        assert found is not None
        assert wanted <= found[0] <= wanted * 1.1 + 1e-9

    def test_who_wants_to_wait_longer_is_left_out(self) -> None:
        failed = [("a", ProviderOverloaded(retry_after=8)), ("b", BROKEN)]
        assert next_round(failed, 1, 10, 0) == (0.1, ["b"])
        assert next_round(failed[:1], 1, 5, 0) is None


class TestStatus:
    @pytest.mark.parametrize(
        ("status", "transient", "outage"),
        [
            (400, False, False),
            (401, False, False),
            (404, False, False),
            (429, True, False),
            (500, True, True),
            (503, True, True),
            (529, True, False),
        ],
    )
    def test_says_what_to_do(self, status: int, transient: bool, outage: bool) -> None:
        error = refusal("p", status)
        assert (error.transient, error.outage) == (transient, outage)

    def test_who_says_when_to_come_back_is_well(self) -> None:
        error = refusal("p", 503, 3.0)
        assert (error.status, error.transient, error.outage) == (503, True, False)

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None),
            ({"retry-after": "7"}, 7),
            ({"retry-after": "0.5"}, 0.5),
            ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
            ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30),
            ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0),
            ({"retry-after": "soon"}, None),
            ({"retry-after-ms": "soon"}, None),
            ({"retry-after-ms": "inf"}, None),
            ({"retry-after-ms": "nan"}, None),
            ({"retry-after": "9" * 400}, None),
            ({"retry-after": "9" * 20}, 86_400),
            ({"retry-after": "Sat, 21 Nov 99999 12:00:30 GMT"}, None),
        ],
    )
    def test_retry_after(self, headers: dict[str, str], seconds: float | None) -> None:
        assert retry_after_of(headers, datetime(2026, 11, 21, 12, tzinfo=UTC)) == seconds


def test_weights_are_shares() -> None:
    three, one = (DeploymentSettings(provider="p", model="m", weight=weight) for weight in (3, 1))
    first = Counter(shuffled([three, one])[0].weight for _ in range(4000))
    assert first[3] / 4000 == pytest.approx(0.75, abs=0.05)
