"""`chatbot logs`: the processes' JSON lines, readable, as they come."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text

from chatbot_cli.calling import call
from chatbot_cli.errors import CliError
from chatbot_cli.home import Home
from chatbot_cli.screen import out, printable

POLL_SECONDS = 0.2
NAMES = ("gateway", "auth", "chat", "conversation", "worker", "postgres", "valkey")
_LEVELS = {"debug": "dim", "info": "green", "warning": "yellow", "error": "red", "critical": "bold red"}
_COLOURS = ("cyan", "magenta", "blue", "green", "yellow", "bright_cyan", "bright_magenta")
_OWN_FIELDS = ("timestamp", "level", "event", "logger", "trace_id", "span_id", "exception")


@dataclass
class _Follower:
    """Reads a log from where it was left, also after it was rotated."""

    name: str
    path: Path
    offset: int = 0
    rest: bytes = field(default=b"", repr=False)

    def lines(self) -> Iterator[str]:
        """Complete lines that are new."""
        try:
            size = self.path.stat().st_size
            if size < self.offset:
                self.offset, self.rest = 0, b""
            if size == self.offset:
                return
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                content = self.rest + file.read()
                self.offset = file.tell()
        except FileNotFoundError:
            return
        *complete, self.rest = content.split(b"\n")
        for line in complete:
            yield line.decode(errors="replace")


def show(home: Home, names: Sequence[str], *, count: int, follow: bool, raw: bool) -> None:
    """Print the last `count` lines of each log, then go on with what comes. Raises `CliError`."""
    if unknown := [name for name in names if name not in NAMES]:
        raise CliError(f"There is no process {unknown[0]}.", f"There are: {', '.join(NAMES)}.", code=2)
    followers = [_Follower(name, home.log(name)) for name in names or NAMES]
    if not follow and not any(follower.path.exists() for follower in followers):
        raise CliError("There is no log yet.", f"Start the bot with: {call('up -f FILE')}")
    past = [(follower.name, line) for follower in followers for line in list(follower.lines())[-count:]]
    for name, line in past if len(followers) == 1 else sorted(past, key=lambda item: _time(item[1])):
        _print(name, line, raw=raw)
    while follow:
        for follower in followers:
            for line in follower.lines():
                _print(follower.name, line, raw=raw)
        time.sleep(POLL_SECONDS)


def _print(name: str, line: str, *, raw: bool) -> None:
    if raw:
        out.file.write(line + "\n")
        out.file.flush()
    elif line.strip():
        out.print(pretty(name, line))


def pretty(name: str, line: str) -> Text:
    """One line of a log: time, process, level, event, and the fields that say more."""
    text = Text()
    record = _parsed(line)
    source = (f"{name:<12} ", _COLOURS[NAMES.index(name) % len(_COLOURS)])
    if record is None:
        return text.append(*source).append(printable(line), "dim" if name in ("postgres", "valkey") else "")
    level = str(record.get("level", "info"))
    text.append(_clock(str(record.get("timestamp", ""))) + " ", "dim").append(*source)
    text.append(f"{level:<8}", _LEVELS.get(level, "")).append(printable(str(record.get("event", ""))), "bold")
    for key, value in record.items():
        if key not in _OWN_FIELDS:
            shown = value if isinstance(value, str) else json.dumps(value)
            text.append(f" {printable(key)}=", "dim").append(printable(shown))
    if trace := record.get("trace_id"):
        text.append(f" trace={str(trace)[:8]}", "dim")
    for problem in record.get("exception") or []:
        if isinstance(problem, dict):
            text.append(printable(f"\n    {problem.get('exc_type')}: {problem.get('exc_value')}"), "red")
    return text


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _time(line: str) -> str:
    """Sort key. Lines without a time of their own (the stores') come first."""
    return str((_parsed(line) or {}).get("timestamp", ""))


def _clock(timestamp: str) -> str:
    """`2026-11-21T02:03:04.567890Z` → `02:03:04.567`."""
    return timestamp.partition("T")[2][:12]
