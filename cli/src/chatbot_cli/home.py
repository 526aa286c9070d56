"""Where the state of each bot lives on this machine.

    $CHATBOT_HOME/NAME/  config/  secrets/  data/postgres  data/valkey  logs/  run/  state.json  lock

Everything below is only for its owner; secrets are files of mode 0600.
"""

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from chatbot_cli.errors import CliError

MAX_SOCKET_PATH = 100
"""Unix sockets: 108 bytes on Linux, 104 on macOS, with the final zero."""
LOCK_SECONDS = 180.0

Wait = Callable[[str], None]


@dataclass(frozen=True)
class Home:
    """One bot's folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def state_file(self) -> Path:
        return self.folder / "state.json"

    @property
    def sockets(self) -> Path:
        """Folder of the stores' sockets: `run/`, or a short path in the temporary folder where that is too long."""
        run = self.folder / "run"
        if len(os.fsencode(run / ".s.PGSQL.5432.lock")) <= MAX_SOCKET_PATH:
            return run
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"chatbot-{os.getuid()}-{digest}"

    def log(self, process: str) -> Path:
        return self.logs / f"{process}.log"

    def make(self) -> None:
        """Create the folders that are missing. Raises `OSError`."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self.config, self.secrets, self.data, self.logs):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        found = self.sockets.lstat()
        if not stat.S_ISDIR(found.st_mode) or (os.getuid() not in (0, found.st_uid)):
            raise CliError(f"{self.sockets} belongs to somebody else.", "Set CHATBOT_HOME to a shorter path.")


def root() -> Path:
    """Folder of all bots: $CHATBOT_HOME, else below $XDG_STATE_HOME, else ~/.local/state/chatbot."""
    if chosen := os.environ.get("CHATBOT_HOME"):
        return Path(chosen).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser().absolute() / "chatbot"


def home_of(name: str) -> Home:
    return Home(root() / name)


def known() -> list[Home]:
    """Every bot that was started here, by name."""
    folder = root()
    if not folder.is_dir():
        return []
    return [Home(path) for path in sorted(folder.iterdir()) if (path / "state.json").is_file()]


def write(path: Path, text: str, mode: int = 0o600) -> bool:
    """Replace a file in one step; False when it already held this text. A full disk leaves the old file."""
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            path.chmod(mode)
            return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    return True


@contextlib.contextmanager
def locked(home: Home, purpose: str, wait: Wait | None = None) -> Iterator[bool]:
    """Keep every other command that changes this bot out; gives whether one was at work before.

    Args:
        wait: told who is at work before waiting for its end; without it nobody waits.

    Raises:
        CliError: another command is at work, or still was after `LOCK_SECONDS`.
    """
    with open(home.folder / "lock", "a+", encoding="utf-8") as file:
        waited = not _try_lock(file)
        if waited and not (wait and _wait_for(file, wait)):
            raise CliError(f"{_holder(file)} is at work on {home.name}.", "Wait for it to end, then try again.")
        file.truncate(0)
        file.write(f"'chatbot {purpose}' (process {os.getpid()})")
        file.flush()
        try:
            yield waited
        finally:
            file.truncate(0)


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(file: TextIO, wait: Wait) -> bool:
    """Whether the lock became ours in time."""
    wait(_holder(file))
    deadline = time.monotonic() + LOCK_SECONDS
    while not (ours := _try_lock(file)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return ours


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip() or "another command"
