"""`chatbot-valkey`: a password from a file, and an end that loses nothing."""

import signal
from pathlib import Path

import psutil
import pytest
import redis

from tests.images.conftest import Entry

PASSWORD = 'se "cret'


def client(entry: Entry, password: str | None = PASSWORD, user: str | None = None) -> "redis.Redis":
    return redis.Redis(port=entry.port, password=password, username=user, decode_responses=True)


def refusal(entry: Entry, *command: str, password: str | None = None, user: str | None = None) -> str:
    with client(entry, password, user) as connection, pytest.raises(redis.RedisError) as caught:
        connection.execute_command(*command)
    return str(caught.value)


class TestServing:
    def test_its_settings(self, valkey: Entry) -> None:
        valkey.up()
        with client(valkey) as connection:
            said = {name: connection.config_get(name)[name] for name in ("maxmemory", "maxmemory-policy", "appendonly")}
        assert said == {"maxmemory": str(32 * 1024**2), "maxmemory-policy": "noeviction", "appendonly": "yes"}

    def test_nobody_enters_without_the_right_password(self, valkey: Entry) -> None:
        valkey.up()
        assert "client already authenticated" in refusal(valkey, "GET", "x")
        assert "invalid username-password pair" in refusal(valkey, "GET", "x", password="wrong")

    def test_the_probes_user_may_only_ping(self, valkey: Entry) -> None:
        valkey.up()
        for command in (("GET", "x"), ("SET", "x", "1"), ("CONFIG", "GET", "requirepass"), ("ACL", "LIST")):
            assert "no permissions" in refusal(valkey, *command, password="any", user="probe")

    def test_the_password_is_in_no_command_line_no_file_and_no_log(self, valkey: Entry) -> None:
        valkey.up()
        with client(valkey) as connection:
            connection.set("key", "value")
        files = "".join(path.read_text(errors="replace") for path in _files(valkey.folder / "volume"))
        assert "value" in files
        for seen in (files, valkey.said(), " ".join(psutil.Process(valkey.pid).cmdline())):
            assert "cret" not in seen

    def test_ready_says_no_before_and_after(self, valkey: Entry) -> None:
        assert not valkey.ready()
        valkey.up()
        valkey.end(signal.SIGTERM)
        assert not valkey.ready()


class TestNextStart:
    def test_data_stays_and_a_changed_password_counts(self, valkey: Entry) -> None:
        valkey.up()
        with client(valkey) as connection:
            connection.set("kept", "42")
        assert valkey.end(signal.SIGTERM) == 0
        valkey.tell(password="changed")
        valkey.up()
        assert "invalid username-password pair" in refusal(valkey, "GET", "kept", password=PASSWORD)
        with client(valkey, "changed") as connection:
            assert connection.get("kept") == "42"

    def test_a_probe_works_when_the_password_changed_already(self, valkey: Entry) -> None:
        """A kubelet updates the file long before the pod restarts."""
        valkey.up()
        valkey.tell(password="changed")
        assert valkey.ready()


def test_a_missing_password_is_named(valkey: Entry) -> None:
    (valkey.passwords / "password").unlink()
    assert valkey.fails().strip().endswith("passwords/password: No such file or directory.")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
