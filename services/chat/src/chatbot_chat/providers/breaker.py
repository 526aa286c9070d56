"""When a provider that keeps failing is left alone, and when it is tried again. Pure but for the clock it is given.

Closed: everybody asks. After `FAILURES` in a row it opens: nobody asks for a while. Then one may try: if the provider
speaks, everybody asks again; if not, it rests twice as long.
"""

import time
from collections.abc import Callable

FAILURES = 5
REST_SECONDS = 5.0
LONGEST_REST_SECONDS = 120.0
TRIAL_SECONDS = 1.0
"""What those are told to wait who come while one tries."""


class Attempt:
    """One request on its way, known by its identity."""


class Breaker:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0
        self._rest = REST_SECONDS
        self._trial: Attempt | None = None

    @property
    def open(self) -> bool:
        return self._failures >= FAILURES

    def rest(self) -> float:
        """Seconds for which the provider is not to be asked; 0 when it may be."""
        if not self.open:
            return 0.0
        left = max(self._until - self._clock(), 0.0)
        return max(left, TRIAL_SECONDS) if self._trial else left

    def begin(self) -> Attempt:
        """Somebody asks, after `rest` said that one may."""
        attempt = Attempt()
        if self.open:
            self._trial = attempt
        return attempt

    def spoke(self, attempt: Attempt) -> None:
        """The first words of a trial are enough: others need not wait for its last."""
        if self._trial is attempt:
            self.succeeded(attempt)

    def succeeded(self, attempt: Attempt) -> None:
        if self.open and self._trial is not attempt:
            return  # it was under way when the breaker opened; only a trial can close it
        self._failures, self._rest, self._trial = 0, REST_SECONDS, None

    def refused(self, attempt: Attempt) -> None:
        """It is well enough to say no: that ends a trial, and says nothing of those who are not refused."""
        self.spoke(attempt)

    def failed(self, attempt: Attempt) -> None:
        trial = self._trial is attempt
        self.gave_up(attempt)
        if self.open and not trial:
            return  # it was under way when the breaker opened, and says nothing new
        self._failures += 1
        if self.open:
            self._until = self._clock() + self._rest
            self._rest = min(self._rest * 2, LONGEST_REST_SECONDS)

    def gave_up(self, attempt: Attempt) -> None:
        """It ended for other reasons: nothing is known."""
        if self._trial is attempt:
            self._trial = None
