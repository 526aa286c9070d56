"""All five processes as a cluster runs them: started before their stores, which come, go for a while and return."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from chatbot_resource.configuration import SECRET_FILES, Service
from redis import Redis

from tests.support.configuration import mapping
from tests.support.doors import door
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import free_port
from tests.support.stores import Postgres

PROCESSES: dict[str, tuple[Service, str]] = {
    "gateway": ("gateway", "serve"),
    "auth": ("auth", "serve"),
    "chat": ("chat", "serve"),
    "conversation": ("conversation", "serve"),
    "conversation-worker": ("conversation", "worker"),
}
Readiness = dict[str, tuple[int, dict[str, str]]]
"""Per process: status of `/readyz`, and the checks that are not ok."""
WITHOUT_STORES = {
    "gateway": (200, set()),  # lets requests pass without Redis
    "chat": (200, set()),  # streams without it
    "auth": (503, {"database"}),
    "conversation": (503, {"database"}),
    "conversation-worker": (503, {"database", "vectors"}),
}


@dataclass
class Platform:
    """Processes by name, and the private and public ports they were told."""

    told: dict[str, dict[str, Any]]
    environment: dict[str, dict[str, str]]
    client: httpx2.AsyncClient
    running: dict[str, Process]

    async def start(self, name: str, command: str) -> Process:
        service, _ = PROCESSES[name]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"chatbot_{service}", command),
            env=os.environ | self.environment[name],
            stdout=DEVNULL,
        )

    def url(self, name: str, port: str = "port") -> str:
        return f"http://127.0.0.1:{self.told[name]['listen'][port]}"

    async def readiness(self) -> Readiness:
        answers = await asyncio.gather(
            *(self.client.get(self.url(name, "private_port") + "/readyz") for name in self.running)
        )
        return {
            name: (answer.status_code, {key: it for key, it in answer.json()["checks"].items() if it != "ok"})
            for name, answer in zip(self.running, answers, strict=True)
        }

    async def until(self, condition: Callable[[Readiness], bool], seconds: float = 60) -> None:
        """Wait for it; meanwhile all must live."""
        seen: Readiness = {}
        try:
            async with within(seconds):
                while True:
                    assert all(process.returncode is None for process in self.running.values())
                    with contextlib.suppress(httpx2.TransportError):
                        if condition(seen := await self.readiness()):
                            return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"it stayed so: {seen}")


def without_stores(seen: Readiness) -> bool:
    """The reasons that must be there are; the worker may know more of them."""
    return all(
        seen[name][0] == status and seen[name][1].keys() >= why for name, (status, why) in WITHOUT_STORES.items()
    )


def ready(seen: Readiness) -> bool:
    return all(status == 200 for status, _ in seen.values())


@contextlib.asynccontextmanager
async def platform(folder: Path, keys: Keys, secrets: dict[str, dict[str, str]]) -> AsyncIterator[Platform]:
    """Every process started; none is waited for."""
    listens = {name: {"host": "127.0.0.1", "port": free_port(), "private_port": free_port()} for name in PROCESSES}
    urls: dict[Service, str] = {
        service: f"http://127.0.0.1:{listens[name]['port']}"
        for name, (service, command) in PROCESSES.items()
        if command == "serve"
    }
    told, environment = {}, {}
    for name, (service, _) in PROCESSES.items():
        told[name] = mapping(service, keys, urls) | {"listen": listens[name]}
        environment[name] = _write(folder / name, service, dict(told[name]) | secrets[service])
    async with httpx2.AsyncClient(timeout=20) as client:
        bot = Platform(told, environment, client, {})
        try:
            for name, (_, command) in PROCESSES.items():
                bot.running[name] = await bot.start(name, command)
            yield bot
            for process in bot.running.values():
                process.send_signal(signal.SIGTERM)
            async with within(30):
                ends = [await process.wait() for process in bot.running.values()]
            assert ends == [0] * len(ends)
        finally:
            for process in bot.running.values():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


def _write(folder: Path, service: Service, told: dict[str, Any]) -> dict[str, str]:
    (folder / "secrets").mkdir(parents=True)
    for name in SECRET_FILES[service]:
        (folder / "secrets" / name).write_text(told.pop(name) + "\n")
    (folder / "config.json").write_text(json.dumps(told))
    return {"CHATBOT_CONFIG": str(folder / "config.json"), "CHATBOT_SECRETS": str(folder / "secrets")}


async def test_stores_come_go_and_return(tmp_path: Path, keys: Keys, postgres: Postgres, redis_url: str) -> None:
    postgres_port, redis_port = free_port(), free_port()
    with Redis.from_url(redis_url) as shared:  # others have called from this address, and may have used up its limit
        shared.flushall()
    redis_socket = Path(redis_url.removeprefix("unix://"))
    databases = {name: postgres.create() for name in ("auth", "conversation")}
    at = f"postgresql://postgres@127.0.0.1:{postgres_port}"
    redis = {"redis_url": f"redis://127.0.0.1:{redis_port}"}
    secrets = {
        "gateway": redis,
        "chat": redis,
        "conversation": {"database_url": f"{at}/{databases['conversation']}"},
        "auth": {
            "database_url": f"{at}/{databases['auth']}",
            "signing_keys": keys.signing_keys,
            "admin_password": "the first administrator",
        },
    }
    async with platform(tmp_path, keys, secrets) as bot:
        await bot.until(without_stores)
        migrations = [await bot.start(name, "migrate") for name in ("auth", "conversation")]
        async with door(postgres.socket, postgres_port), door(redis_socket, redis_port):
            assert [await migration.wait() for migration in migrations] == [0, 0]
            await bot.until(ready)
            token = await _register(bot)
            assert await _ask(bot, token) == "run.finished"
        await bot.until(without_stores)
        health = (await bot.client.get(bot.url("gateway") + "/health/all")).json()["services"]
        assert {name for name, service in health.items() if service["status"] == "ok"} == set()
        async with door(postgres.socket, postgres_port), door(redis_socket, redis_port):
            await bot.until(ready)
            assert await _ask(bot, token) == "run.finished"
    for name in databases.values():
        postgres.drop(name)


async def _register(bot: Platform) -> str:
    body = {"email": "ada@example.com", "password": "correct horse battery"}
    response = await bot.client.post(bot.url("gateway") + "/api/v1/auth/register", json=body)
    assert response.status_code == 201, response.text
    return str(response.json()["access_token"])


async def _ask(bot: Platform, token: str) -> str:
    """Type of the last event of an answer."""
    response = await bot.client.post(
        bot.url("gateway") + "/api/v1/chat/send",
        json={"content": "When are you open?"},
        headers={"Authorization": f"Bearer {token}", "Accept": "text/event-stream"},
    )
    assert response.status_code == 200, response.text
    *_, last = (line for line in response.text.splitlines() if line.startswith("data: {"))
    return str(json.loads(last[6:])["type"])
