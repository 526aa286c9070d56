"""The breaker by itself: a clock, and what becomes of requests."""

import pytest
from chatbot_chat.providers.breaker import FAILURES, LONGEST_REST_SECONDS, REST_SECONDS, TRIAL_SECONDS, Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(breaker.begin())


class TestOpening:
    def test_after_failures_in_a_row(self, breaker: Breaker) -> None:
        fail(breaker, FAILURES - 1)
        assert breaker.rest() == 0
        fail(breaker)
        assert breaker.rest() == REST_SECONDS

    def test_an_answer_between_starts_the_count_anew(self, breaker: Breaker) -> None:
        fail(breaker, FAILURES - 1)
        breaker.succeeded(breaker.begin())
        fail(breaker, FAILURES - 1)
        assert breaker.rest() == 0

    def test_a_refusal_between_does_not(self, breaker: Breaker) -> None:
        fail(breaker, FAILURES - 1)
        breaker.refused(breaker.begin())
        fail(breaker)
        assert breaker.rest() == REST_SECONDS

    def test_those_under_way_do_not_close_it(self, breaker: Breaker, clock: Clock) -> None:
        under_way = breaker.begin()
        fail(breaker, FAILURES)
        breaker.succeeded(under_way)
        assert breaker.rest() == REST_SECONDS
        clock.now += REST_SECONDS
        breaker.begin()
        breaker.succeeded(under_way)
        assert breaker.rest() == TRIAL_SECONDS

    def test_those_under_way_do_not_make_it_longer(self, breaker: Breaker) -> None:
        under_way = [breaker.begin() for _ in range(50)]
        fail(breaker, FAILURES)
        for attempt in under_way:
            breaker.failed(attempt)
        assert breaker.rest() == REST_SECONDS


class TestTrial:
    @pytest.fixture(autouse=True)
    def rested(self, breaker: Breaker, clock: Clock) -> None:
        fail(breaker, FAILURES)
        clock.now += REST_SECONDS
        assert breaker.rest() == 0

    def test_is_one(self, breaker: Breaker) -> None:
        breaker.begin()
        assert breaker.rest() == TRIAL_SECONDS

    def test_its_first_words_let_the_others_in(self, breaker: Breaker) -> None:
        trial = breaker.begin()
        breaker.spoke(trial)
        assert breaker.rest() == 0
        breaker.failed(trial)
        assert breaker.rest() == 0

    def test_its_failure_makes_the_next_rest_longer_up_to_a_bound(self, breaker: Breaker, clock: Clock) -> None:
        rests = []
        for _ in range(6):
            fail(breaker)
            rests.append(breaker.rest())
            clock.now += breaker.rest()
        assert rests == [10, 20, 40, 80, LONGEST_REST_SECONDS, LONGEST_REST_SECONDS]

    def test_who_gives_up_leaves_it_to_the_next(self, breaker: Breaker) -> None:
        breaker.gave_up(breaker.begin())
        assert breaker.rest() == 0

    def test_a_refusal_is_an_answer(self, breaker: Breaker) -> None:
        breaker.refused(breaker.begin())
        assert breaker.rest() == 0

    def test_a_success_makes_rests_short_again(self, breaker: Breaker, clock: Clock) -> None:
        fail(breaker)
        clock.now += breaker.rest()
        breaker.succeeded(breaker.begin())
        fail(breaker, FAILURES)
        assert breaker.rest() == REST_SECONDS
