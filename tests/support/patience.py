"""Waiting by the time that this machine had: what its host gave to others meanwhile does not count.

A guest of a busy host may get a twentieth of its processors for minutes. What is waited for is not late then, it has
not been worked on. So what is promised in seconds is asserted in seconds of this machine; what passed on the wall is
printed beside it, and measured by `benchmarks/`.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

ACCOUNT = Path("/proc/stat")
STEAL = 8
"""Where the first line of it says for how long others had our processors; proc_stat(5)."""


def stolen() -> float:
    """Seconds since the start of this machine for which a processor of it, on average, waited for its host."""
    try:
        with ACCOUNT.open() as file:
            ticks = int(file.readline().split()[STEAL])
    except (OSError, IndexError):  # not Linux
        return 0.0
    return ticks / os.sysconf("SC_CLK_TCK") / (os.cpu_count() or 1)


def clock() -> float:
    """`time.monotonic()` that stands still for as long as others have the processors."""
    return time.monotonic() - stolen()


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """`asyncio.timeout` by that clock. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    until = clock() + seconds
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as bound:

        def look() -> None:
            nonlocal timer
            if (left := until - clock()) > 0:
                timer = loop.call_later(left, look)
            else:
                bound.reschedule(loop.time())

        timer = loop.call_later(seconds, look)
        try:
            yield
        finally:
            timer.cancel()


def _share(seconds: float) -> float:
    """How much of the processors, from 0 to 1, others took while we wanted all of them for a while."""
    began, before = time.monotonic(), stolen()
    work = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    for busy in [subprocess.Popen([sys.executable, "-c", work]) for _ in range(os.cpu_count() or 1)]:  # noqa: S603 - ours
        busy.wait()
    return (stolen() - before) / (time.monotonic() - began)


def main() -> None:
    """Wait until the host leaves us at least two thirds of the processors, or until SECONDS, the argument, are over."""
    end = time.monotonic() + float(sys.argv[1])
    while (share := _share(2)) > 1 / 3 and time.monotonic() < end:
        left = end - time.monotonic()
        print(f"others have {share:.0%} of this machine's processors: waiting, for {left:.0f} s at most", flush=True)
        time.sleep(min(20.0, max(0.0, left)))


if __name__ == "__main__":
    main()
