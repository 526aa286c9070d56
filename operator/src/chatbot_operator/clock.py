"""What time it is on the API server: the one clock that the times of its objects can be compared with.

Every answer says in its `Date` header in which second it was sent, and that was between our request and its arrival.
So each bounds how far that clock is from our monotonic one. This machine's own clock may be wrong by hours: it is asked
only until the first answer.
"""

import datetime
import math
import time
from collections import deque
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from statistics import median_low

ANSWERS = 9
"""That count: so that most of them say so before the time jumps, and one from a proxy with a clock of its own does
nothing."""
SECOND = 1.0
"""What a `Date` is cut down to."""
BACK_SECONDS = 60.0
"""Less than that the time never goes back, it waits. By more, the API server's own clock was put right."""


class Clock:
    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._least: deque[float] = deque(maxlen=ANSWERS)
        self._most: deque[float] = deque(maxlen=ANSWERS)
        """By each answer, seconds that are to be added to the monotonic clock. One that took long only says less."""
        self._last = -math.inf

    def sent(self) -> float:
        """To be handed to `heard` with the answer."""
        return self._monotonic()

    def heard(self, date: str | None, sent: float) -> None:
        """An answer has arrived. One without a time that can be read says nothing.

        Args:
            date: its `Date` header.
        """
        try:
            told = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return
        self._least.append(told - self._monotonic())
        self._most.append(told + SECOND - sent)

    def now(self) -> datetime.datetime:
        """Rather a moment behind than ahead: nothing is over before its time."""
        if not self._least:
            return datetime.datetime.now(datetime.UTC)
        found = self._monotonic() + min(max(self._least), median_low(self._most))
        self._last = found if self._last - found > BACK_SECONDS else max(self._last, found)
        return datetime.datetime.fromtimestamp(self._last, datetime.UTC)

    def text(self) -> str:
        """RFC 3339, to the second."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")
