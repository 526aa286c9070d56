"""The real process: its commands, its files, its signals, its logs."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from chatbot_auth.__main__ import MIGRATIONS
from chatbot_auth.settings import Settings
from chatbot_auth.tables import Row
from chatbot_common.database import migrate
from chatbot_resource.configuration import SECRET_FILES
from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from tests.auth.running import ADMIN_PASSWORD, PASSWORD, auth_mapping
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import free_port
from tests.support.stores import Postgres


@dataclass
class Files:
    """A configuration file and a secrets folder, as the operator mounts them."""

    folder: Path
    settings: dict[str, Any]
    started: list[Process] = field(default_factory=list)

    def write(self) -> dict[str, str]:
        """Write both. Returns the environment that names them."""
        secrets = self.folder / "secrets"
        secrets.mkdir(exist_ok=True)
        config = dict(self.settings)
        for name in SECRET_FILES["auth"]:
            (secrets / name).write_text(config.pop(name) + "\n")
        (self.folder / "config.json").write_text(json.dumps(config))
        return {"CHATBOT_CONFIG": str(self.folder / "config.json"), "CHATBOT_SECRETS": str(secrets)}

    async def start(self, *command: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "chatbot_auth", *command, stdout=PIPE, stderr=STDOUT, env=os.environ | self.write()
        )
        self.started.append(process)
        return process

    async def run(self, *command: str) -> tuple[int, str]:
        """Exit status and everything printed."""
        process = await self.start(*command)
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()


@pytest.fixture
async def files(tmp_path: Path, keys: Keys, postgres: Postgres) -> AsyncIterator[Files]:
    listen = {"host": "127.0.0.1", "port": free_port(), "private_port": free_port()}
    files = Files(tmp_path, auth_mapping(keys, postgres.url(postgres.create()), listen=listen))
    yield files
    for process in files.started:  # those of a test that has failed
        if process.returncode is None:
            process.kill()
            await process.wait()


def lines(output: str) -> list[dict[str, Any]]:
    """Log lines; fails when one of them is not JSON."""
    return [json.loads(line) for line in output.splitlines()]


class TestMigrate:
    async def test_makes_what_the_code_expects(self, postgres: Postgres, empty_database: str) -> None:
        engine = create_async_engine(postgres.url(empty_database))
        async with engine.connect() as connection:
            difference = await connection.run_sync(_difference)
        await engine.dispose()

        assert difference == []

    async def test_without_database(self, files: Files, postgres: Postgres) -> None:
        files.settings["database_url"] = "postgresql+asyncpg://someone:hunter22@127.0.0.1:1/none"

        status, output = await files.run("migrate", "--wait", "0")

        assert status == 75
        assert [line["event"] for line in lines(output)] == ["migration failed"]
        assert "hunter22" not in output


class TestServe:
    async def test_from_before_the_migration_until_sigterm(self, files: Files) -> None:
        """Everything a process does in one life: each start costs seconds."""
        listen = files.settings["listen"]
        process = await files.start("serve")
        private = f"http://127.0.0.1:{listen['private_port']}"
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listen['port']}", timeout=30) as client:
            await _answering(process, client, private + "/livez")
            assert (await client.get(private + "/readyz")).status_code == 503
            await _migrates_once(files)
            await _answering(process, client, private + "/readyz")
            body = {"email": "ada@example.com", "password": PASSWORD}
            headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
            pair = (await client.post("/api/v1/auth/register", json=body, headers=headers)).json()
            assert (await client.post("/api/v1/auth/login", json=body | {"nonsense": 1})).status_code == 422
            metrics = (await client.get(private + "/metrics")).text
            assert 'endpoint="/api/v1/auth/register"' in metrics
            assert (await client.get("/readyz")).status_code == 404
            await _administrator_signs_in(client, files)
        process.send_signal(signal.SIGTERM)

        output = (await process.communicate())[0].decode()

        assert process.returncode == 0, output
        logged = lines(output)
        requests = [line for line in logged if line["event"] == "request"]
        assert [(line["endpoint"], line["status"]) for line in requests][:2] == [
            ("/api/v1/auth/register", 201),
            ("/api/v1/auth/login", 422),
        ]
        assert requests[0]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
        assert {"database unavailable", "administrator created"} <= {line["event"] for line in logged}
        for secret in (PASSWORD, ADMIN_PASSWORD, "ada@example.com", pair["access_token"], pair["refresh_token"]):
            assert secret not in output

    def test_unknown_setting(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in files.write().items():
            monkeypatch.setenv(name, value)
        (files.folder / "secrets" / "typo").write_text("hunter22")

        with pytest.raises(ValidationError, match="typo") as caught:
            Settings.load()

        assert "hunter22" not in str(caught.value)

    async def test_port_in_use(self, files: Files) -> None:
        files.settings["listen"]["private_port"] = files.settings["listen"]["port"]

        async with within(60):
            status, output = await files.run("serve")

        assert status != 0
        assert "address already in use" in output


async def _migrates_once(files: Files) -> None:
    """Two replicas' migrations at the same moment, and one after that."""
    results = await asyncio.gather(*(files.run("migrate") for _ in range(2)))
    for status, output in results:
        assert status == 0, output
        assert lines(output)[-1]["event"] == "database migrated"
        assert lines(output)[-1]["revision"] == "0002"
    assert await migrate(files.settings["database_url"], MIGRATIONS) == "0002"


async def _administrator_signs_in(client: httpx2.AsyncClient, files: Files) -> None:
    """The account is made a moment after the database can be used."""
    body = {"email": files.settings["admin_email"], "password": files.settings["admin_password"]}
    async with within(30):
        while (await client.post("/api/v1/auth/login", json=body)).status_code != 200:
            await asyncio.sleep(0.2)


async def _answering(process: Process, client: httpx2.AsyncClient, url: str) -> None:
    """Wait until `url` answers 200; fail with what the process printed when it ends or takes too long."""
    for _ in range(1200):
        with contextlib.suppress(httpx2.TransportError):
            if (await client.get(url)).status_code == 200:
                return
        if process.returncode is not None:
            break
        await asyncio.sleep(0.05)
    if process.returncode is None:
        process.kill()
    pytest.fail((await process.communicate())[0].decode())


def _difference(connection: Connection) -> list[Any]:
    return list(compare_metadata(MigrationContext.configure(connection), Row.metadata))
