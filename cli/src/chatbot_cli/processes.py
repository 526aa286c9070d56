"""Processes that outlive this command: started in their own session, and never mistaken for another later.

A process id alone is not enough: after a reboot or a day the number may belong to somebody's editor. So each process
is remembered with the moment it started, and nothing is signalled whose moment differs.
"""

import atexit
import contextlib
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

LINUX = platform.system() == "Linux"
MAX_LOG_BYTES = 10 * 1024 * 1024
SOON_SECONDS = 1.0
"""Who has nothing left to do ends within this time."""

_children: list["subprocess.Popen[bytes]"] = []
"""Kept, so that those which die while we run are reaped."""


@dataclass(frozen=True)
class Process:
    """A process id and when that process started, in a form that survives clock changes."""

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        return identity(self.pid) == self.started


@dataclass(frozen=True)
class Account:
    """A system user to run as."""

    uid: int
    gid: int


def identity(pid: int) -> str | None:
    """What tells this process from any other that had or will have its id; None when it is gone or a zombie."""
    for child in _children:
        child.poll()
    if LINUX:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else f"{_boot()}:{fields[19]}"
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


@cache
def _boot() -> str:
    """Start times on Linux count from boot, so the boot belongs to the identity."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "boot"


def start(
    command: Sequence[str | Path],
    log: Path,
    cwd: Path,
    environment: Mapping[str, str],
    account: Account | None = None,
    umask: int = 0o077,
) -> Process:
    """Start a process in a session of its own, so that Ctrl-C and a closed terminal do not reach it."""
    rotate(log)
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        child = subprocess.Popen(  # noqa: S603 - our own programs, no shell
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(environment),
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            umask=umask,
        )
    _children.append(child)
    return Process(child.pid, identity(child.pid) or "gone")


@atexit.register
def _let_go() -> None:
    """Those that live on are meant to, and not to be complained about."""
    for child in _children:
        if child.poll() is None:
            child.returncode = 0


def send(process: Process, number: signal.Signals) -> bool:
    """Signal exactly this process; False when it is gone."""
    if LINUX:
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(process.pid)
            try:
                # The handle pins the process, so the id cannot change hands between the check and the signal.
                if process.alive:
                    signal.pidfd_send_signal(handle, number)
                    return True
                return False
            finally:
                os.close(handle)
    if process.alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
            return True
    return False


def stop(
    processes: Iterable[Process],
    seconds: float,
    number: signal.Signals = signal.SIGTERM,
    waiting: Callable[[], None] | None = None,
) -> tuple[list[Process], list[Process]]:
    """Ask all to end, wait up to `seconds`, then kill.

    Args:
        waiting: called once, when a process takes longer than `SOON_SECONDS` to end.

    Returns:
        Those that were still there when asked, and those that had to be killed.
    """
    asked = [process for process in processes if send(process, number)]
    left = wait_gone(asked, min(seconds, SOON_SECONDS))
    if left and waiting and seconds > SOON_SECONDS:
        waiting()
    left = wait_gone(left, seconds - SOON_SECONDS)
    for process in left:
        send(process, signal.SIGKILL)
    wait_gone(left, 5)
    return asked, left


def wait_gone(processes: Sequence[Process], seconds: float) -> list[Process]:
    """Those still alive when all have ended or the time is up."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if process.alive]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def strays(variable: str, folder: Path, known: Iterable[int]) -> list[Process]:
    """Our processes that no record knows: their environment's `variable` points below `folder`."""
    skip = {*known, os.getpid()}
    found = []
    for candidate in psutil.process_iter():
        if candidate.pid in skip:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            value = candidate.environ().get(variable, "") if "python" in candidate.name().lower() else ""
            if value.startswith(f"{folder}/") and (started := identity(candidate.pid)):
                found.append(Process(candidate.pid, started))
    return found


def rotate(log: Path) -> None:
    """Put a log that has grown too long aside; one older one is kept."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_name(log.name + ".1"))


def tail(log: Path, lines: int, since: int = 0) -> list[str]:
    """The last lines of a log, from byte `since` on."""
    try:
        with open(log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(min(since, size), size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]
