"""The operator on a machine whose clock is wrong, and with less patience for a new key: `skewed.py SECONDS`."""

import datetime
import sys
import time
from typing import Any

AHEAD = float(sys.argv[1])
right_time, right_datetime = time.time, datetime.datetime


class Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return right_datetime.now(tz) + datetime.timedelta(seconds=AHEAD)


# Before anything is imported that would keep the right ones.
datetime.datetime = Wrong  # type: ignore[misc]
time.time = lambda: right_time() + AHEAD
time.time_ns = lambda: int(time.time() * 1e9)

from chatbot_operator import __main__ as program  # noqa: E402 - see above
from chatbot_operator.components import rotation  # noqa: E402 - see above

rotation.PUBLISH_SECONDS = 8.0
rotation.ROLLING_SECONDS = 1.0
sys.exit(program.main())
