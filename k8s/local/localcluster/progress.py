"""What the user sees while it builds: what, how far, how long so far, and how long it took the last time."""

import time
from collections.abc import Sequence
from pathlib import Path

from chatbot_cli import screen

from localcluster import builds
from localcluster.builds import Build

NEWS_SECONDS = 60.0
"""How often a log, where no line can be redrawn, gets a new one."""


def build_missing(wanted: Sequence[Build], folder: Path) -> None:
    """Build, one after the other, what is not there as the checkout says. Raises `CliError`, `OSError`."""
    missing = [build for build in wanted if not builds.is_built(build, folder)]
    for number, build in enumerate(missing, start=1):
        where = f"{number} of {len(missing)}: " if len(missing) > 1 else ""
        screen.say("Build", f"{where}{', '.join(build.programs.values())}; {expected(build, folder)}")
        with screen.step(f"  {build.name}", "starting") as step:
            reporter = _Reporter(build, step)
            seconds = builds.build_one(build, folder, reporter.note)
            step.done(f"{reporter.compiled} packages compiled in {clock(seconds)}")


def expected(build: Build, folder: Path) -> str:
    last = builds.last_seconds(build, folder)
    before = f", {clock(last)} the last time here" if last else ""
    return f"from nothing about {clock(build.minutes * 60)} on two cores{before}"


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


class _Reporter:
    """Redraws a line on a terminal; in a log, says something once a minute."""

    def __init__(self, build: Build, step: screen.Step) -> None:
        self._build = build
        self._step = step
        self._said = time.monotonic()
        self.compiled = 0

    def note(self, compiled: int, seconds: float) -> None:
        self.compiled = compiled
        text = f"{compiled} packages compiled, {clock(seconds)} so far"
        self._step.note(text)
        if not screen.out.is_terminal and time.monotonic() - self._said > NEWS_SECONDS:
            self._said = time.monotonic()
            screen.say(f"  {self._build.name}", text)
