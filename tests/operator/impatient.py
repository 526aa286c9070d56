"""The operator with less patience than it has, so that a test need not wait for minutes: `impatient.py`."""

import itertools
import sys
from collections.abc import Iterator

import aiohttp
from chatbot_operator import __main__ as program
from chatbot_operator import cluster, handlers, process


class Backoffs:
    """More attempts in a second than Kopf makes of its own accord."""

    def __iter__(self) -> Iterator[float]:
        return itertools.repeat(0.1)


cluster.TIMEOUT = aiohttp.ClientTimeout(total=3)
handlers.DEAF_SECONDS = 2.0
handlers.Backoffs = Backoffs  # type: ignore[misc,assignment]
process.STALE_LIMIT = 8.0
sys.exit(program.main())
