"""Signing keys rotate under people who go on working: what the operator writes, real processes of auth and gateway.

The operator's rotation says what the Secret holds at each step; each step is rolled out as a Deployment would: a new
process comes up beside the old one, both serve, then the old one is told to stop. Verifiers ask for keys every second
instead of every thirty, see hasty.py, and tokens live for seconds instead of a quarter of an hour.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from chatbot_auth.__main__ import MIGRATIONS
from chatbot_common.database import migrate
from chatbot_operator.components.rotation import PUBLISH_SECONDS
from chatbot_resource.configuration import SECRET_FILES, Service

from tests.auth.running import PASSWORD, auth_mapping, new_email
from tests.operator.test_rotation import DAY, Clock
from tests.support.balancer import Balancer, balancing
from tests.support.configuration import mapping
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import free_port
from tests.support.stores import Postgres

pytestmark = pytest.mark.timeout(180)

HASTY = Path(__file__).with_name("hasty.py")
FASTER = 30
TOKEN_SECONDS = 8
TOGETHER_SECONDS = 2
"""In which old and new processes serve at the same time: who signed at one is verified by the other."""


@dataclass
class Pod:
    """One process of a service."""

    process: asyncio.subprocess.Process
    listen: dict[str, Any]

    async def ready(self) -> None:
        async with within(60), httpx2.AsyncClient() as client:
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    if (await client.get(f"http://127.0.0.1:{self.listen['private_port']}/readyz")).is_success:
                        return
                assert self.process.returncode is None
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        async with within(60):
            assert await self.process.wait() == 0


@dataclass
class Platform:
    """A gateway, and auth behind a Service."""

    folder: Path
    keys: Keys
    database_url: str
    redis_url: str
    service: Balancer
    pods: list[Pod] = field(default_factory=list)
    """Everything that was started."""

    async def start(self, service: Service, told: dict[str, Any]) -> Pod:
        listen = {"host": "127.0.0.1", "port": free_port(), "private_port": free_port()}
        environment = _write(self.folder / str(len(self.pods)), service, told | {"listen": listen})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HASTY), f"chatbot_{service}", "serve"),
            env=os.environ | environment,
            stdout=asyncio.subprocess.DEVNULL,
        )
        self.pods.append(Pod(process, listen))
        await self.pods[-1].ready()
        return self.pods[-1]

    async def gateway(self) -> str:
        """Its URL."""
        auth = f"http://127.0.0.1:{self.service.port}"
        pod = await self.start(
            "gateway", mapping("gateway", self.keys, {"auth": auth}) | {"redis_url": self.redis_url, "limits": MANY}
        )
        return f"http://127.0.0.1:{pod.listen['port']}"

    async def roll_out(self, signing_keys: str, old: Pod | None = None) -> Pod:
        """A new auth with these keys; the old one serves until it is ready, and for a moment longer."""
        told = {"signing_keys": signing_keys, "access_token_seconds": TOKEN_SECONDS}
        new = await self.start("auth", auth_mapping(self.keys, self.database_url) | told)
        self.service.ports.append(new.listen["port"])
        if old:
            await asyncio.sleep(TOGETHER_SECONDS)
            self.service.ports.remove(old.listen["port"])
            await old.stop()
        return new


MANY = {"per_minute": 10**6, "per_hour": 10**6, "per_day": 10**6}


def _write(folder: Path, service: Service, told: dict[str, Any]) -> dict[str, str]:
    """The file and the folder of secrets; environment that names them."""
    (folder / "secrets").mkdir(parents=True)
    for name in SECRET_FILES[service]:
        (folder / "secrets" / name).write_text(told.pop(name))
    (folder / "config.json").write_text(json.dumps(told))
    return {"CHATBOT_CONFIG": str(folder / "config.json"), "CHATBOT_SECRETS": str(folder / "secrets")}


@dataclass
class Person:
    """Somebody who asks all the time, and refreshes a token when it is this old."""

    client: httpx2.AsyncClient
    patience: float
    answers: list[tuple[str, int]] = field(default_factory=list)
    """Key the token was signed with, and status."""
    expires: dict[str, float] = field(default_factory=dict)
    """When the last token of each key does."""

    async def work(self) -> None:
        body = {"email": new_email(), "password": PASSWORD}
        pair = (await self.client.post("/api/v1/auth/register", json=body)).raise_for_status().json()
        while True:
            await self._use(pair["access_token"])
            again = await self.client.post("/api/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]})
            pair = again.raise_for_status().json()

    async def _use(self, token: str) -> None:
        kid = jwt.get_unverified_header(token)["kid"]
        self.expires[kid] = jwt.decode(token, options={"verify_signature": False})["exp"]
        until = time.monotonic() + self.patience
        while True:
            answer = await self.client.get("/api/v1/users/me", headers={"Authorization": f"Bearer {token}"})
            if time.time() >= self.expires[kid]:
                return  # the machine stood still for so long that the token has come to its own end
            self.answers.append((kid, answer.status_code))
            await asyncio.sleep(0.1)
            if time.monotonic() >= until:
                return

    def has_used(self, kid: str) -> bool:
        return kid in self.expires


@contextlib.asynccontextmanager
async def platform(folder: Path, keys: Keys, database_url: str, redis_url: str) -> AsyncIterator[Platform]:
    async with balancing() as service:
        made = Platform(folder, keys, database_url, redis_url, service)
        try:
            yield made
        finally:
            for pod in made.pods:
                if pod.process.returncode is None:
                    pod.process.kill()
                    await pod.process.wait()


@contextlib.asynccontextmanager
async def working(url: str) -> AsyncIterator[list[Person]]:
    """People at work: most with tokens that are always young, one who uses each nearly to its end."""
    async with httpx2.AsyncClient(base_url=url, timeout=20) as client:
        people = [Person(client, patience) for patience in (0, 0, 0.2, 1, TOKEN_SECONDS - 3)]
        tasks = [asyncio.create_task(person.work()) for person in people]
        try:
            yield people
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError] * len(ends), ends


class Rotating(Clock):
    """A bot whose rotation is due, and what its Secret holds."""

    def __init__(self) -> None:
        super().__init__()
        self.secret["metadata"]["resourceVersion"] = "1"

    @property
    def text(self) -> str:
        return b64decode(self.secret["data"]["signing_keys"]).decode()

    def step(self, seconds: float) -> str:
        """The next step, after so long; and then the rollout is complete as far as the operator can see."""
        assert self.after(seconds).patch
        self.cluster.converge()
        return self.text


async def until(condition: Any) -> None:
    async with within(60):
        while not condition():
            await asyncio.sleep(0.05)


async def test_no_session_breaks(tmp_path: Path, keys: Keys, postgres: Postgres, redis_url: str) -> None:
    database_url, bot = postgres.url(postgres.create()), Rotating()
    await migrate(database_url, MIGRATIONS)
    async with platform(tmp_path, keys, database_url, redis_url) as running:
        auth = await running.roll_out(bot.text)
        old = bot.current()
        async with working(await running.gateway()) as people:
            await until(lambda: all(person.has_used(old) for person in people))
            auth = await running.roll_out(bot.step(30 * DAY), auth)
            bot.step(0)  # every pod publishes the next key, which is noted
            await asyncio.sleep(PUBLISH_SECONDS / FASTER)
            auth = await running.roll_out(bot.step(PUBLISH_SECONDS), auth)
            new = bot.current()
            await until(lambda: all(person.has_used(new) for person in people))
            await until(lambda: all(time.time() > person.expires[old] for person in people))
            auth = await running.roll_out(bot.step(DAY), auth)
            before = sum(len(person.answers) for person in people)
            await until(lambda: sum(len(person.answers) for person in people) > before + 100)
        assert old != new
        assert bot.kids() == [new]
        for person in people:
            assert {status for _, status in person.answers} == {200}
            assert list(dict.fromkeys(kid for kid, _ in person.answers)) == [old, new]
