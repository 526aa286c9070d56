"""`chatbot down`: stop everything in the order that loses no answer; with `--purge` remove the data too."""

import shutil

from chatbot_cli import screen, state
from chatbot_cli.errors import CliError
from chatbot_cli.home import Home, locked
from chatbot_cli.layout import PROGRAMS
from chatbot_cli.postgres import Postgres
from chatbot_cli.processes import stop, strays
from chatbot_cli.services import SECRETS_VARIABLE, stop_services

STORE_SECONDS = 30.0


def down(home: Home, seconds: float, purge: bool) -> bool:
    """Stop the bot.

    Args:
        seconds: how long answers in flight may take to end before their process is killed.
        purge: remove conversations, accounts, keys and logs as well.

    Returns:
        Whether anything was running.
    """
    with locked(home, "down"):
        stopped = _stop_services(home, seconds)
        stopped = _stop_stores(home) or stopped
        if purge:
            _purge(home)
    return stopped


def _stop_services(home: Home, seconds: float) -> bool:
    record = state.load(home)
    with screen.step("Services", "letting answers in flight end") as step:
        stopped, killed = stop_services(record, PROGRAMS.keys(), seconds)
        lost = strays(SECRETS_VARIABLE, home.folder, ())
        stop(lost, seconds)
        for name in PROGRAMS:
            record.processes.pop(name, None)
        state.save(home, record)
        if not stopped and not lost:
            step.unchanged("none was running")
            return False
        names = stopped + [f"process {process.pid}" for process in lost]
        late = f"; killed after {seconds:.0f} s: {', '.join(killed)}" if killed else ""
        step.done(f"stopped {', '.join(names)}{late}")
    return True


def _stop_stores(home: Home) -> bool:
    record = state.load(home)
    postgres = Postgres(home)
    with screen.step("Stores", "stopping") as step:
        valkey = record.alive("valkey")
        stopped = ["Valkey"] if valkey and stop([valkey.process], STORE_SECONDS)[0] else []
        if postgres.stop(STORE_SECONDS):
            stopped.append("PostgreSQL")
        if postgres.running():
            raise CliError("PostgreSQL does not stop.", f"Its log: {postgres.log}")
        record.processes.clear()
        state.save(home, record)
        step.done(f"stopped {', '.join(stopped)}") if stopped else step.unchanged("none was running")
    return bool(stopped)


def _purge(home: Home) -> None:
    with screen.step("Data", f"removing {home.folder}") as step:
        if home.sockets.parent != home.folder:
            shutil.rmtree(home.sockets, ignore_errors=True)
        shutil.rmtree(home.folder)
        step.done(f"removed all of {home.name}, {home.folder}")
