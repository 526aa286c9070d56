"""The embedded stores: started, killed hard, repaired, stopped."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chatbot_cli.errors import CliError
from chatbot_cli.home import Home
from chatbot_cli.postgres import Postgres
from chatbot_cli.processes import stop
from chatbot_cli.valkey import Valkey


@pytest.fixture
def postgres(home: Home) -> Iterator[Postgres]:
    server = Postgres(home)
    yield server
    server.stop(20)


class TestPostgres:
    def test_one_life(self, postgres: Postgres, home: Home) -> None:
        assert postgres.running() is None
        postgres.initialise()
        process = postgres.start()
        assert postgres.running() == process

        postgres.ensure_databases()
        postgres.ensure_databases()
        postgres.query("CREATE TABLE kept (x int)", "auth")
        assert postgres.query("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") == "1"
        assert home.sockets.stat().st_mode & 0o077 == 0

        os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while process.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        assert postgres.running() is None
        assert "not shut down" in (postgres.clear_stale() or "")
        assert postgres.clear_stale() is None

        again = postgres.start()
        assert again != process
        assert postgres.query("SELECT count(*) FROM kept", "auth") == "0"
        with pytest.raises(CliError, match="refused") as caught:
            postgres.query("SELECT nonsense", "auth")
        assert "nonsense" in "\n".join(caught.value.details)
        assert postgres.stop(20)
        assert not postgres.stop(20)

    def test_a_stale_pid_file_that_names_a_living_stranger_is_cleared(self, postgres: Postgres) -> None:
        """After a reboot the old server's process id may be anybody's; PostgreSQL itself would refuse to start."""
        postgres.initialise()
        (postgres.data / "postmaster.pid").write_text(f"{os.getpid()}\n{postgres.data}\n1\n5432\n\n\n\nready\n")
        assert postgres.running() is None
        assert postgres.clear_stale()
        assert postgres.start().alive

    def test_data_that_was_half_made_is_made_anew(self, postgres: Postgres, home: Home) -> None:
        (home.data / "postgres.new").mkdir()
        (home.data / "postgres.new" / "PG_VERSION").write_text("18")
        assert not postgres.initialised
        postgres.clear_stale()
        postgres.initialise()
        assert postgres.initialised

    def test_data_that_is_broken_shows_the_servers_own_words(self, postgres: Postgres) -> None:
        postgres.initialise()
        (postgres.data / "postgresql.conf").write_text("nonsense here\n")
        with pytest.raises(CliError, match="did not start") as caught:
            postgres.start()
        assert "unrecognized configuration parameter" in "\n".join(caught.value.details)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another account")
class TestAsRoot:
    def test_opens_only_what_is_closed_and_says_so(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        private, listed = tmp_path / "private", tmp_path / "private" / "listed"
        private.mkdir(mode=0o700)
        listed.mkdir(mode=0o755)
        home = Home(listed / "demo")
        home.make()
        Postgres(home).initialise()
        said = capsys.readouterr().out
        assert f"{private}  (chmod o+x" in said
        assert str(listed) not in said
        assert (private.stat().st_mode & 0o777, listed.stat().st_mode & 0o777) == (0o701, 0o755)
        server = Postgres(home)
        try:
            server.start()
        finally:
            server.stop(20)
        assert capsys.readouterr().out == ""


class TestValkey:
    def test_one_life(self, home: Home) -> None:
        server = Valkey(home)
        assert not server.answers()
        process = server.start()
        assert server.answers()
        os.kill(process.pid, signal.SIGKILL)
        while process.alive:
            time.sleep(0.01)
        assert server.socket.exists()
        assert not server.answers()
        again = server.start()
        assert server.answers()
        assert stop([again], 10) == ([again], [])

    def test_a_folder_with_blanks_in_its_name(self) -> None:
        with tempfile.TemporaryDirectory(prefix="my bots ") as folder:
            home = Home(Path(folder) / "demo")
            home.make()
            server = Valkey(home)
            process = server.start()
            assert "my%20bots" in server.url
            stop([process], 10)
