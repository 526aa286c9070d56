"""`chatbot up`: from a resource file to a bot that answers.

Level-based, like the operator: it looks at what should run and what does, and closes the gap. Run twice, the second
run finds nothing to do; broken off anywhere, the next run goes on from there.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from chatbot_cli import keys, layout, readiness, screen, signin, state
from chatbot_cli.calling import call
from chatbot_cli.errors import CliError
from chatbot_cli.home import LOCK_SECONDS, Home, home_of, known, locked
from chatbot_cli.knowledge import left_out, markdown_files
from chatbot_cli.layout import MIGRATED, PROGRAMS, Layout
from chatbot_cli.ports import holder, is_free, next_free
from chatbot_cli.postgres import DATABASES, Postgres
from chatbot_cli.processes import Process, stop, strays
from chatbot_cli.services import (
    SECRETS_VARIABLE,
    START_ORDER,
    STOP_SECONDS,
    Started,
    migrate,
    start_service,
    stop_services,
)
from chatbot_cli.state import Running
from chatbot_cli.substitutions import substitutions
from chatbot_cli.valkey import Valkey
from chatbot_cli.wish import Options, Wish, understand

DEFAULT_PORT = 8080
NEEDED_BYTES = 300 * 1024**2
FULL_BYTES = 8 * 1024**2
MAX_NAMED = 5


@dataclass(frozen=True)
class Outcome:
    """What the closing words need."""

    home: Home
    port: int
    link: str
    changed: bool
    """False when everything ran already."""
    seconds: float
    question: str | None
    """Something the bot knows an answer to."""


def up(options: Options) -> Outcome:
    """Bring the bot of a file up. Raises `CliError`, `OSError`."""
    began = time.monotonic()
    with screen.step("Resource", f"reading {options.file}") as step:
        wish = understand(options)
        ignored = f"; not needed here: {', '.join(wish.ignored)}" if wish.ignored else ""
        step.done(f"{wish.bot.name} from {options.file}{ignored}")
    home = home_of(wish.bot.name)
    _check_disk(home, NEEDED_BYTES)
    home.make()
    with locked(home, "up", _say_waiting) as waited:
        if waited:
            # What the other command left behind, such as a model it found, is part of the wish.
            wish = understand(options)
        try:
            return _Run(wish, home).run(began)
        except CliError:
            # Whoever met a full disk could not always write down that it did.
            _check_disk(home, FULL_BYTES)
            raise


def _say_waiting(other: str) -> None:
    screen.say("Waiting", f"for {other} to end, at most {LOCK_SECONDS:.0f} s")


def _say_draining() -> None:
    screen.say("Services", f"waiting for answers in flight to end, at most {STOP_SECONDS:.0f} s")


def _check_disk(home: Home, needed: int) -> None:
    """Raises `CliError` when fewer than `needed` bytes are free where the bot is or will be."""
    there = next(folder for folder in (home.folder, *home.folder.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise CliError(
            f"The disk is {'nearly ' if needed > FULL_BYTES else ''}full: {free // 1024**2} MiB are free at {there}, "
            f"a bot needs {NEEDED_BYTES // 1024**2}.",
            "Free some space, or set CHATBOT_HOME to a folder on another disk; then run the same command again.",
        )


class _Run:
    """One pass over the gap between what should run and what does."""

    def __init__(self, wish: Wish, home: Home) -> None:
        self._wish = wish
        self._home = home
        self._state = state.load(home)
        self._postgres = Postgres(home)
        self._valkey = Valkey(home)
        self._changed = False

    def run(self, began: float) -> Outcome:
        self._clear_what_is_dead()
        port = self._port()
        knowledge = self._knowledge()
        if self._wish.discovered and self._wish.trouble:
            screen.warn("Model", f"{self._wish.discovered.model}: {self._wish.trouble}")
        elif self._wish.found:
            screen.say("Model", self._wish.found)
        screen.substituted(substitutions(self._wish.bot))
        plan = self._configure(port, knowledge)
        self._start_stores()
        self._migrate()
        self._start_services(plan)
        self._await_knowledge(knowledge)
        link = f"http://127.0.0.1:{port}/#/sign-in?token={signin.link_token(self._home, self._state)}"
        question = next(iter(readiness.expected_answers(self._wish.references.faqs, ())), None)
        return Outcome(self._home, port, link, self._changed, time.monotonic() - began, question)

    def _save(self) -> None:
        state.save(self._home, self._state)

    def _clear_what_is_dead(self) -> None:
        """Forget processes that are gone, stop those nobody remembers, remove what a killed store left."""
        dead = [name for name in self._state.processes if not self._state.alive(name)]
        for name in dead:
            del self._state.processes[name]
        if dead:
            screen.warn("Cleared", f"no longer running: {', '.join(dead)}")
        remembered = [record.process.pid for record in self._state.processes.values()]
        if lost := strays(SECRETS_VARIABLE, self._home.folder, remembered):
            stop(lost, STOP_SECONDS)
            pids = ", ".join(str(process.pid) for process in lost)
            screen.warn("Cleared", f"left over from a broken-off run: process {pids}")
        if sentence := self._postgres.clear_stale():
            screen.warn("Cleared", sentence)

    def _port(self) -> int:
        """The public port: the one asked for, else where the gateway runs already, else 8080."""
        ours = self._state.port if self._state.alive("gateway") else None
        port = self._wish.options.port or ours or DEFAULT_PORT
        if port != ours and not is_free(port):
            by = _bot_on(port) or holder(port)
            other = next_free(port)
            raise CliError(
                f"Port {port} is in use{f' by {by}' if by else ''}.",
                f"Stop that, or choose another: {call(f'up -f {self._wish.options.file} --port {other}')}"
                f"  (or: make up PORT={other})",
            )
        return port

    def _knowledge(self) -> Path | None:
        """The folder of Markdown: the one named now, else that of last time."""
        options, remembered = self._wish.options, self._state.knowledge
        named = options.knowledge or (Path(remembered) if remembered else None)
        if options.no_knowledge or named is None:
            return None
        folder = named.expanduser().resolve()
        if not folder.is_dir():
            raise CliError(f"There is no folder {folder}.", "Name one with --knowledge DIR, or say --no-knowledge.")
        count = len(markdown_files(folder))
        again = "" if options.knowledge else "  (as last time; --no-knowledge leaves it out)"
        say = screen.say if count else screen.warn
        say("Knowledge", f"{count or 'no'} Markdown file{'' if count == 1 else 's'} in {folder}{again}")
        return folder

    def _configure(self, port: int, knowledge: Path | None) -> Layout:
        with screen.step("Configuration", "writing settings and secrets") as step:
            home, references = self._home, self._wish.references
            public_keys = keys.ensure(home)
            keys.write_urls(home, {name: self._postgres.url(name) for name in DATABASES}, self._valkey.url)
            keys.write_provider_keys(home, references.provider_keys, references.embeddings_key, references.mcp_tokens)
            ports = layout.choose_ports(self._state, port)
            plan = layout.lay_out(
                home, self._wish.bot, references, ports=ports, public_keys=public_keys, knowledge=knowledge
            )
            layout.write_layout(home, plan)
            self._state.file = str(self._wish.options.file.resolve())
            self._state.port, self._state.ports = port, ports
            self._state.knowledge = str(knowledge) if knowledge else None
            self._state.discovered = self._wish.discovered.as_json() if self._wish.discovered else None
            self._save()
            step.done(f"in {home.folder}")
        return plan

    def _start_stores(self) -> None:
        with screen.step("PostgreSQL", "looking for a running server") as step:
            if running := self._postgres.running():
                self._record("postgres", running)
                step.unchanged("runs already")
            else:
                if not self._postgres.initialised:
                    step.note("creating its data, the first time only")
                    self._postgres.initialise()
                    self._state.migrated.clear()
                step.note("starting")
                self._record("postgres", self._postgres.start())
                self._changed = True
                step.done("started")
            self._postgres.ensure_databases()
        with screen.step("Valkey", "starting") as step:
            if self._state.alive("valkey") and self._valkey.answers():
                step.unchanged("runs already")
            else:
                if half_alive := self._state.alive("valkey"):
                    stop([half_alive.process], 5)
                self._record("valkey", self._valkey.start())
                self._changed = True
                step.done("started")

    def _record(self, name: str, process: Process) -> None:
        known_record = self._state.processes.get(name)
        if known_record is None or known_record.process != process:
            self._state.processes[name] = Running(process, "", time.time())
            self._save()

    def _migrate(self) -> None:
        """Only where the code has changed since the last time: starting Python twice takes longer than all the rest."""
        codes = {service: layout.code(PROGRAMS[service].package) for service in MIGRATED}
        due = [service for service in MIGRATED if self._state.migrated.get(service) != codes[service]]
        with screen.step("Databases", f"migrating {', '.join(due)}") as step:
            if not due:
                step.unchanged("up to date")
                return
            migrate(self._home, due)
            self._state.migrated.update({service: codes[service] for service in due})
            self._save()
            step.done(f"migrated: {', '.join(due)}")

    def _start_services(self, plan: Layout) -> None:
        wanted = {name: layout.fingerprint(self._home, plan, name) for name in PROGRAMS}
        with screen.step("Services") as step:
            stale = [name for name in wanted if (old := self._state.alive(name)) and old.fingerprint != wanted[name]]
            if stale:
                step.note(f"stopping what has changed: {', '.join(stale)}")
                stop_services(self._state, stale, STOP_SECONDS, _say_draining)
            missing = [name for name in wanted if not self._state.alive(name)]
            started: dict[str, Started] = {}
            for name in sorted(missing, key=START_ORDER.index):
                started[name] = start_service(self._home, self._state, name, wanted[name])
            readiness.wait_ready(self._home, self._state, started, list(wanted), step.note)
            lacking = readiness.wait_healthy(plan.ports["gateway"][0], step.note)
            self._changed = self._changed or bool(missing)
            if missing:
                again = f" (changed: {', '.join(stale)})" if stale else ""
                step.done(f"{', '.join(missing)} ready{again}")
            else:
                step.unchanged(f"{', '.join(wanted)} run already, unchanged")
        for name, text in lacking.items():
            screen.warn("Degraded", f"{name} goes on without {text}; why: {call(f'logs {name}')}")

    def _await_knowledge(self, knowledge: Path | None) -> None:
        documents = self._documents(knowledge) if knowledge else []
        expected = readiness.expected_answers(self._wish.references.faqs, documents)
        if not expected:
            return
        with screen.step("Knowledge", "asking it a question") as step:
            token = signin.access_token(self._home, self._state)
            port = self._state.ports["conversation"][0]
            left = readiness.wait_knowledge(port, token, expected, step.note)
            step.done("answers come back" if not left else "still being indexed; answers will follow")

    def _documents(self, folder: Path) -> list[Path]:
        """Those that can be indexed; says which cannot."""
        documents = markdown_files(folder)
        bad = left_out(folder, documents)
        for path, reason in list(bad.items())[:MAX_NAMED]:
            screen.warn("Not indexed", f"{path.relative_to(folder)}: {reason}")
        if len(bad) > MAX_NAMED:
            screen.warn("Not indexed", f"and {len(bad) - MAX_NAMED} more")
        return [path for path in documents if path not in bad]


def _bot_on(port: int) -> str | None:
    for home in known():
        record = state.load(home)
        if record.port == port and record.alive("gateway"):
            return f"the bot {home.name} ({call(f'down --name {home.name}')} stops it)"
    return None
