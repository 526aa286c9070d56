"""What was started and where it listens: `state.json`, written after every step, so that a broken-off run goes on."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from chatbot_cli.home import Home, write
from chatbot_cli.processes import Process

VERSION = 1


@dataclass(frozen=True)
class Running:
    """A process that was started, and a digest of everything it was started with."""

    process: Process
    fingerprint: str
    since: float
    """Unix time."""


@dataclass
class State:
    """The record of one bot."""

    file: str | None = None
    port: int | None = None
    """The gateway's public port, the only one a user sees."""
    ports: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Process → its port and its private port; chosen once, kept while they stay free."""
    knowledge: str | None = None
    processes: dict[str, Running] = field(default_factory=dict)
    migrated: dict[str, str] = field(default_factory=dict)
    """Service → digest of the code whose migrations have run."""
    discovered: dict[str, Any] | None = None
    """The provider and model that were found for a file that names none; its key is among the secrets."""

    def alive(self, name: str) -> Running | None:
        """The record of a process that still runs."""
        record = self.processes.get(name)
        return record if record and record.process.alive else None


def load(home: Home) -> State:
    """The recorded state; a fresh one where there is none or it cannot be read."""
    try:
        document = json.loads(home.state_file.read_text(encoding="utf-8"))
        if document.pop("version", None) != VERSION:
            return State()
        return _from_json(document)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return State()


def save(home: Home, state: State) -> None:
    """Raises `OSError`; the old record stays then."""
    write(home.state_file, json.dumps({"version": VERSION, **asdict(state)}, indent=2) + "\n")


def _from_json(document: dict[str, Any]) -> State:
    processes = {
        name: Running(Process(**record["process"]), record["fingerprint"], record["since"])
        for name, record in document.pop("processes").items()
    }
    ports = {name: (int(port), int(private)) for name, (port, private) in document.pop("ports").items()}
    known = {name: value for name, value in document.items() if name in State.__dataclass_fields__}
    return State(**known, processes=processes, ports=ports)
