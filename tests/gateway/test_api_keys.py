"""API keys at the door, in front of a real auth: what stands for one goes on, the key itself goes nowhere."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from chatbot_auth.__main__ import MIGRATIONS
from chatbot_auth.main import create_app as create_auth
from chatbot_common.database import migrate
from chatbot_common.errors import TooManyRequests, Unavailable
from chatbot_common.http import service_client
from chatbot_common.identity import ServiceIdentity
from chatbot_gateway import api_keys
from chatbot_gateway.api_keys import KEPT_SECONDS, NO_KEYS, TOGETHER, ApiKeys, WrongKey
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.exceptions import ConnectionClosed

from tests.auth.running import PASSWORD, auth_settings, claims, new_email
from tests.gateway.support import Platform, Seen, gateway, platform, problem
from tests.gateway.test_sockets import end_of, socket, with_token
from tests.support.identity import Keys
from tests.support.serving import free_port, in_thread
from tests.support.stores import Postgres

PATH = "/api/v1/users/me/api-keys"
NOBODYS = "sk-" + "x" * 43


@dataclass
class Counted:
    """An app that tells how often it was asked for what, and by how many at once. It takes `seconds` longer than it
    would, and hangs up on everybody while it is `away`."""

    app: ASGIApp
    paths: list[str] = field(default_factory=list)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    away: bool = False
    seconds: float = 0.0
    now: int = 0
    most: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.paths.append(scope["path"])
            self.headers += scope["headers"]
            if self.away:
                raise ConnectionAbortedError("told to be away")
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
            await self.app(scope, receive, send)
        finally:
            self.now -= 1

    @property
    def exchanges(self) -> int:
        return self.paths.count("/internal/api-keys/exchange")


@pytest.fixture(scope="module")
def shared_auth(keys: Keys, postgres: Postgres) -> Iterator[tuple[Counted, str]]:
    url = postgres.url(postgres.create())
    asyncio.run(migrate(url, MIGRATIONS))
    auth = Counted(create_auth(auth_settings(keys, url)))
    with in_thread(auth) as base:
        yield auth, base


@pytest.fixture
def auth(shared_auth: tuple[Counted, str]) -> Iterator[Counted]:
    counted = shared_auth[0]
    counted.paths.clear()
    counted.headers.clear()
    counted.most = 0
    yield counted
    counted.away, counted.seconds = False, 0.0


@dataclass
class World:
    """A gateway in front of a real auth and services that echo, and somebody who is signed in."""

    bot: Platform
    auth: Counted
    session: dict[str, str]

    async def key(self, **fields: Any) -> dict[str, Any]:
        response = await self.bot.client.post(PATH, json={"name": "ci"} | fields, headers=self.session)
        assert response.status_code == 201, response.text
        made: dict[str, Any] = response.json()
        return made

    async def ask(self, key: str, path: str = "/v1/models") -> httpx2.Response:
        return await self.bot.client.get(path, headers={"Authorization": f"Bearer {key}"})

    @property
    def seen(self) -> list[Seen]:
        return [seen for service in self.bot.services.values() for seen in service.seen]


@contextlib.asynccontextmanager
async def world(keys: Keys, redis_url: str, shared: tuple[Counted, str], **changed: Any) -> AsyncIterator[World]:
    counted, base = shared
    async with platform(keys, redis_url, base, **changed) as bot:
        body = {"email": new_email(), "password": PASSWORD}
        signed_in = await bot.client.post("/api/v1/auth/register", json=body)
        yield World(bot, counted, {"Authorization": f"Bearer {signed_in.json()['access_token']}"})


@pytest.fixture
async def there(keys: Keys, redis_url: str, shared_auth: tuple[Counted, str], auth: Counted) -> AsyncIterator[World]:
    async with world(keys, redis_url, shared_auth) as found:
        yield found


@contextlib.asynccontextmanager
async def door_keys(keys: Keys, auth_url: str, kept_seconds: float = KEPT_SECONDS) -> AsyncIterator[ApiKeys]:
    """What the gateway knows of keys, without the gateway around it."""
    identity = ServiceIdentity("gateway", keys.services["gateway"].private_text, {})
    found = ApiKeys(service_client(auth_url, identity, "auth"), kept_seconds)
    try:
        yield found
    finally:
        await found.close()


class TestPasses:
    async def test_as_a_token_that_names_its_owner_and_itself(self, there: World) -> None:
        made = await there.key(budget={"tokens_per_day": 5})
        assert (await there.ask(made["key"])).json() == {"service": "chat"}
        said = claims((there.bot.last.header("authorization") or "").removeprefix("Bearer "))
        owner = claims(there.session["Authorization"].removeprefix("Bearer "))["sub"]
        assert (said["type"], said["sub"], said["key_id"]) == ("key", owner, made["id"])
        assert said["budget"] == {"tokens_per_day": 5}

    async def test_and_goes_nowhere_itself(
        self, there: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            key = (await there.key())["key"]
            assert (await there.ask(key)).status_code == 200
            anonymous = {"Authorization": f"Bearer {key}"}
            await there.bot.client.post("/api/v1/auth/logout", json={}, headers=anonymous)
            await there.ask(key[:-1])
            there.auth.away = True
            await there.ask(NOBODYS)
        out, err = capfd.readouterr()
        told = caplog.text + out + err
        assert "API keys cannot be checked" in told, "else nothing was looked at"
        assert "/api/v1/auth/logout" in there.auth.paths
        for secret in (key, key[:-1], NOBODYS):
            assert secret not in told
            assert secret not in str(there.auth.headers)
            assert not [seen for seen in there.seen if secret in json.dumps(seen.headers) + seen.path + seen.query]

    async def test_for_many_questions_by_one_exchange(self, there: World) -> None:
        key = (await there.key())["key"]
        found = await asyncio.gather(*(there.ask(key) for _ in range(20)))
        assert {response.status_code for response in found} == {200}
        assert there.auth.exchanges == 1

    async def test_and_does_not_take_auths_time_for_the_gateways(self, there: World) -> None:
        key = (await there.key())["key"]
        there.auth.seconds = 1.5
        asked = await there.ask(key)
        assert asked.status_code == 200
        assert there.auth.exchanges == 1
        assert float(asked.headers["server-timing"].removeprefix("gw;dur=")) < 1200

    async def test_spends_its_owners_limits(self, keys: Keys, redis_url: str, shared_auth: tuple[Counted, str]) -> None:
        few = {"per_minute": 3, "per_hour": 1000, "per_day": 10_000}
        async with world(keys, redis_url, shared_auth, limits=few) as there:
            key = (await there.key())["key"]
            assert [(await there.ask(key)).status_code for _ in range(3)] == [200, 200, 429]

    async def test_not_to_account_and_key_routes(self, there: World) -> None:
        made = await there.key(scopes=["chat", "conversations"])
        assert problem(await there.ask(made["key"], PATH))["status"] == 403
        assert problem(await there.ask(made["key"], "/api/v1/users/me"))["status"] == 403


class TestRefused:
    async def test_once_revoked_within_seconds(self, there: World) -> None:
        made = await there.key()
        assert (await there.ask(made["key"])).status_code == 200
        revoked = time.monotonic()
        await there.bot.client.delete(f"{PATH}/{made['id']}", headers=there.session)
        while (response := await there.ask(made["key"])).status_code == 200:
            assert time.monotonic() - revoked < KEPT_SECONDS + 1
            await asyncio.sleep(0.2)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "unauthenticated"
        assert "API key is not valid" in response.json()["error"]["message"]

    async def test_once_expired_at_once(self, there: World) -> None:
        ends = datetime.now(UTC) + timedelta(seconds=2)
        made = await there.key(expires_at=ends.isoformat())
        assert (await there.ask(made["key"])).status_code == 200
        await asyncio.sleep((ends - datetime.now(UTC)).total_seconds() + 0.05)
        assert (await there.ask(made["key"])).status_code == 401

    async def test_beside_another_credential(self, there: World) -> None:
        key = (await there.key())["key"]
        both = [("Authorization", there.session["Authorization"]), ("Authorization", f"Bearer {key}")]
        assert (await there.bot.client.get("/v1/models", headers=both)).status_code == 401
        assert not there.seen

    async def test_a_wrong_one_without_asking_again(self, there: World) -> None:
        assert [(await there.ask(NOBODYS)).status_code for _ in range(3)] == [401] * 3
        assert there.auth.exchanges == 1

    async def test_guesses_once_the_addresss_limits_are_used_up(
        self, keys: Keys, redis_url: str, shared_auth: tuple[Counted, str], auth: Counted
    ) -> None:
        few = {"per_minute": 5, "per_hour": 1000, "per_day": 10_000}
        async with world(keys, redis_url, shared_auth, limits=few) as there:  # to register has cost the address one
            key = (await there.key())["key"]
            assert (await there.ask(key)).status_code == 200
            guesses = [await there.ask(f"{NOBODYS}{number}") for number in range(20)]
            assert [guess.status_code for guess in guesses] == [401] * 4 + [429] * 16
            assert all(int(guess.headers["retry-after"]) > 0 for guess in guesses[4:])
            assert auth.exchanges == 1 + 5
            assert (await there.ask(key)).status_code == 200, "known already, so nothing that can be guessed"

    async def test_guesses_however_long_and_never_a_key_in_use(
        self, keys: Keys, there: World, shared_auth: tuple[Counted, str]
    ) -> None:
        made, unused = await there.key(), await there.key(name="unused")
        async with door_keys(keys, shared_auth[1], kept_seconds=0.2) as at_door:
            await at_door.token(made["key"], "here")
            for _ in range(8):
                at_door.bar("here")
                assert await at_door.token(made["key"], "here")
                await asyncio.sleep(0.1)
            assert there.auth.exchanges > 2, "else it was only remembered"
            at_door.bar("here")
            with pytest.raises(TooManyRequests):
                await at_door.token(unused["key"], "here")
            assert await at_door.token(unused["key"], "elsewhere")
            await there.bot.client.delete(f"{PATH}/{made['id']}", headers=there.session)
            await asyncio.sleep(0.25)
            at_door.bar("here")
            with pytest.raises(WrongKey):
                await at_door.token(made["key"], "here")

    async def test_guesses_all_at_once_a_few_at_a_time(
        self, keys: Keys, there: World, shared_auth: tuple[Counted, str]
    ) -> None:
        used, unused = await there.key(), await there.key(name="unused")
        async with door_keys(keys, shared_auth[1], kept_seconds=0.1) as at_door:
            await at_door.token(used["key"], "here")
            await asyncio.sleep(0.1)
            there.auth.seconds = 0.2
            guesses = [asyncio.create_task(at_door.token(f"{NOBODYS}{number}", "here")) for number in range(40)]
            await asyncio.sleep(0.05)
            assert await at_door.token(used["key"], "here")
            assert await at_door.token(unused["key"], "elsewhere")
            assert not guesses[-1].done(), "else nothing was waited for"
            answers = await asyncio.gather(*guesses, return_exceptions=True)
        assert {type(answer) for answer in answers} == {WrongKey}
        assert there.auth.most <= TOGETHER + 2

    async def test_guesses_that_wait_as_long_as_for_auth(
        self, keys: Keys, there: World, shared_auth: tuple[Counted, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api_keys, "CALL_SECONDS", 0.2)
        there.auth.seconds = 1.0
        async with door_keys(keys, shared_auth[1]) as at_door, asyncio.timeout(3):
            asking = (at_door.token(f"{NOBODYS}{number}", "here") for number in range(200))
            answers = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(answer) for answer in answers} == {Unavailable}

    async def test_no_key_for_wrong_tokens_from_the_same_address(
        self, keys: Keys, redis_url: str, shared_auth: tuple[Counted, str]
    ) -> None:
        few = {"per_minute": 5, "per_hour": 1000, "per_day": 10_000}
        async with world(keys, redis_url, shared_auth, limits=few) as there:
            key = (await there.key())["key"]
            assert [(await there.ask("expired")).status_code for _ in range(8)] == [401] * 4 + [429] * 4
            assert (await there.ask(key)).status_code == 200


class TestAuthAway:
    async def test_tells_to_come_back(self, there: World) -> None:
        key = (await there.key())["key"]
        there.auth.away = True
        response = await there.ask(key)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert "cannot be checked right now" in response.json()["error"]["message"]
        there.auth.away = False
        assert (await there.ask(key)).status_code == 200, "a failure is not remembered"

    async def test_leaves_sessions_alone(self, there: World) -> None:
        await there.bot.client.get("/v1/models", headers=there.session)
        there.auth.away = True
        assert (await there.bot.client.get("/v1/models", headers=there.session)).status_code == 200

    async def test_that_cannot_be_reached(self, keys: Keys, redis_url: str) -> None:
        urls = dict.fromkeys(("auth", "chat", "conversation"), f"http://127.0.0.1:{free_port()}")
        async with gateway(keys, redis_url, urls) as (_, client):
            response = await client.get("/v1/models", headers={"Authorization": f"Bearer {NOBODYS}"})
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")


class TestSocket:
    async def test_opens_to_no_key(self, there: World) -> None:
        key = (await there.key())["key"]
        async with socket(there.bot.url, **with_token(key)) as connection:
            assert await end_of(connection) == (4403, NO_KEYS)
        ticket = await there.bot.client.post("/api/v1/chat/ws-ticket", headers={"Authorization": f"Bearer {key}"})
        assert problem(ticket)["detail"] == NO_KEYS

    @pytest.mark.parametrize("blank", ["", " "])
    async def test_passes_none_on(self, there: World, blank: str) -> None:
        async with socket(there.bot.url, additional_headers=there.session) as connection:
            await connection.recv()
            await connection.send(json.dumps({"type": "auth", "token": blank + NOBODYS}))
            with contextlib.suppress(ConnectionClosed):
                assert NOBODYS not in str(await connection.recv())
            assert (await end_of(connection))[0] == 4403
