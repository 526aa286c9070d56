"""API keys: made by who is signed in, shown once, bounded, revocable; exchanged for tokens by the gateway alone."""

import asyncio
import hashlib
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from chatbot_common.ids import uuid7

from tests.auth.running import ADMIN_EMAIL, ADMIN_PASSWORD, Auth, claims, problem, running
from tests.support.identity import Keys
from tests.support.stores import Postgres

PATH = "/api/v1/users/me/api-keys"


class Owner:
    """Somebody who is signed in."""

    def __init__(self, auth: Auth, token: str) -> None:
        self.auth, self.token = auth, token
        self.headers = {"Authorization": f"Bearer {token}"}

    async def make(self, **fields: Any) -> httpx2.Response:
        return await self.auth.client.post(PATH, json={"name": "ci"} | fields, headers=self.headers)

    async def list(self) -> list[dict[str, Any]]:
        response = await self.auth.client.get(PATH, headers=self.headers)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["data"]
        return found

    async def revoke(self, key_id: str) -> httpx2.Response:
        return await self.auth.client.delete(f"{PATH}/{key_id}", headers=self.headers)


async def owner(auth: Auth) -> Owner:
    return Owner(auth, (await auth.register()).json()["access_token"])


async def exchange(auth: Auth, key: str, service: str = "gateway") -> httpx2.Response:
    body = {"digest": hashlib.sha256(key.encode()).hexdigest()}
    headers = auth.keys.service_headers(service, "auth")
    return await auth.client.post("/internal/api-keys/exchange", json=body, headers=headers)


async def token_of(auth: Auth, key: str) -> str | None:
    response = await exchange(auth, key)
    assert response.status_code == 200, response.text
    token: str | None = response.json()["access_token"]
    return token


class TestMaking:
    async def test_shows_the_key_once(self, auth: Auth) -> None:
        ada = await owner(auth)
        response = await ada.make(name=" ci ", budget={"tokens_per_day": 1000, "cost_per_month": "2.50"})
        assert response.status_code == 201, response.text
        assert response.headers["cache-control"] == "no-store"
        made = response.json()
        assert made["key"].startswith(made["prefix"])
        assert len(made["key"]) == 46
        assert made["key"].startswith("sk-")
        assert (made["name"], made["scopes"], made["last_used_at"]) == ("ci", ["chat"], None)
        assert made["budget"]["tokens_per_day"] == 1000
        assert made["budget"]["cost_per_month"] == "2.5"
        del made["key"]
        assert await ada.list() == [made]

    async def test_keeps_only_a_digest(self, auth: Auth, postgres: Postgres, database: str) -> None:
        made = (await (await owner(auth)).make()).json()
        connection = await asyncpg.connect(postgres.url(database).replace("+asyncpg", ""))
        row = await connection.fetchrow("SELECT * FROM api_keys WHERE id = $1", UUID(made["id"]))
        await connection.close()
        assert row["key_hash"] == hashlib.sha256(made["key"].encode()).digest()
        assert made["key"][len(made["prefix"]) :] not in str(dict(row))

    async def test_says_nothing_of_it_in_the_log(self, auth: Auth, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG):
            made = (await (await owner(auth)).make()).json()
            await exchange(auth, made["key"])
        assert made["key"] not in caplog.text

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"name": ""}, "/name"),
            ({"name": "x" * 101}, "/name"),
            ({"name": "a\nb"}, "/name"),
            ({"scopes": []}, "/scopes"),
            ({"scopes": ["everything"]}, "/scopes/0"),
            ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
            ({"expires_at": "9999-12-31T23:59:59-10:00"}, "/expires_at"),
            ({"budget": {"tokens_per_day": 0}}, "/budget/tokens_per_day"),
            ({"budget": {"tokens_per_day": 9, "tokens_per_month": 5}}, "/budget"),
            ({"budget": {"cost_per_day": "-1"}}, "/budget/cost_per_day"),
            ({"role": "admin"}, "/role"),
        ],
    )
    async def test_tells_what_is_wrong(self, auth: Auth, fields: dict[str, Any], pointer: str) -> None:
        told = problem(await (await owner(auth)).make(**fields), 422, "invalid-request")
        assert [item["pointer"] for item in told["errors"]] == [pointer]

    async def test_has_one_key_of_a_name(self, auth: Auth) -> None:
        ada = await owner(auth)
        first = (await ada.make(name="ci")).json()
        problem(await ada.make(name="CI"), 409, "key-name-taken")
        assert (await ada.revoke(first["id"])).status_code == 204
        assert (await ada.make(name="CI")).status_code == 201

    async def test_takes_the_place_of_one_that_has_expired(
        self, keys: Keys, postgres: Postgres, own_database: str
    ) -> None:
        async with running(keys, postgres.url(own_database)) as auth:
            ada = await owner(auth)
            ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
            old = [(await ada.make(name=f"key {number}", expires_at=ends)).json()["id"] for number in range(20)]
            assert len(old) == 20
            problem(await ada.make(name="another"), 409, "too-many-keys")
            problem(await ada.make(name="key 1"), 409, "too-many-keys")
            await _change(postgres, own_database, "UPDATE api_keys SET expires_at = now() - interval '1 second'")
            assert {key["id"] for key in await ada.list()} == set(old)
            made = (await ada.make(name="key 1")).json()
            assert [key["id"] for key in await ada.list()] == [made["id"]]

    async def test_ends_at_twenty_also_at_once(self, auth: Auth) -> None:
        ada = await owner(auth)
        responses = await asyncio.gather(*(ada.make(name=f"key {number}") for number in range(23)))
        assert sorted(response.status_code for response in responses) == [201] * 20 + [409] * 3
        assert len(await ada.list()) == 20

    async def test_needs_a_session(self, auth: Auth) -> None:
        ada = await owner(auth)
        made = (await ada.make(scopes=["chat", "conversations"])).json()
        program = Owner(auth, await token_of(auth, made["key"]) or "")
        problem(await program.make(name="another"), 403, "forbidden")
        problem(await auth.client.get(PATH, headers=program.headers), 403, "forbidden")
        problem(await program.revoke(made["id"]), 403, "forbidden")
        problem(await auth.me(program.token), 403, "forbidden")

    async def test_needs_a_session_that_goes_on(self, auth: Auth) -> None:
        pair = (await auth.register()).json()
        ada = Owner(auth, pair["access_token"])
        made = (await ada.make()).json()
        await auth.post("logout", {"refresh_token": pair["refresh_token"]})
        problem(await ada.make(name="another"), 401, "unauthenticated")
        assert await token_of(auth, made["key"]), "what was made before goes on"

    async def test_needs_a_session_that_was_not_stolen(self, auth: Auth) -> None:
        pair = (await auth.register()).json()
        thief = Owner(auth, (await auth.refresh(pair["refresh_token"])).json()["access_token"])
        problem(await auth.refresh(pair["refresh_token"]), 401, "unauthenticated")
        problem(await thief.make(), 401, "unauthenticated")


class TestRevoking:
    async def test_ends_a_key(self, auth: Auth) -> None:
        ada = await owner(auth)
        made = (await ada.make()).json()
        assert await token_of(auth, made["key"])
        assert (await ada.revoke(made["id"])).status_code == 204
        assert await token_of(auth, made["key"]) is None
        assert await ada.list() == []
        problem(await ada.revoke(made["id"]), 404, "not-found")

    async def test_of_somebody_else_is_a_404(self, auth: Auth) -> None:
        made = (await (await owner(auth)).make()).json()
        problem(await (await owner(auth)).revoke(made["id"]), 404, "not-found")
        problem(await (await owner(auth)).revoke(str(uuid7())), 404, "not-found")
        assert await token_of(auth, made["key"])


class TestExchange:
    async def test_tells_owner_scopes_and_budget(self, auth: Auth) -> None:
        ada = await owner(auth)
        made = (await ada.make(scopes=["conversations", "chat"], budget={"cost_per_day": "0.5"})).json()
        said = claims(await token_of(auth, made["key"]) or "")
        assert said["sub"] == claims(ada.token)["sub"]
        assert (said["type"], said["role"], said["scope"]) == ("key", "user", "chat conversations")
        assert (said["key_id"], said["key_name"], said["budget"]) == (made["id"], "ci", {"cost_per_day": 500_000})
        assert "sid" not in said

    async def test_gives_an_administrator_no_more(self, auth: Auth) -> None:
        admin = Owner(auth, (await auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)).json()["access_token"])
        made = (await admin.make(name=str(uuid7()))).json()
        token = await token_of(auth, made["key"]) or ""
        assert claims(token)["role"] == "user"
        problem(await auth.create_user(token, {"email": "x@example.com", "password": "long enough"}), 403, "forbidden")

    async def test_is_for_the_gateway_alone(self, auth: Auth) -> None:
        made = (await (await owner(auth)).make()).json()
        problem(await exchange(auth, made["key"], "chat"), 403, "forbidden")
        unnamed = await auth.client.post("/internal/api-keys/exchange", json={"digest": "0" * 64})
        problem(unnamed, 401, "unauthenticated")

    async def test_ends_with_the_key(self, auth: Auth) -> None:
        ends = datetime.now(UTC) + timedelta(seconds=2)
        made = (await (await owner(auth)).make(expires_at=ends.isoformat())).json()
        assert claims(await token_of(auth, made["key"]) or "")["exp"] <= ends.timestamp()
        await asyncio.sleep(2.1)
        assert await token_of(auth, made["key"]) is None

    async def test_of_a_key_nobody_made_gives_nothing(self, auth: Auth) -> None:
        assert await token_of(auth, "sk-" + "x" * 43) is None

    async def test_notes_the_use_once_a_minute(self, keys: Keys, postgres: Postgres, own_database: str) -> None:
        async with running(keys, postgres.url(own_database)) as auth:
            ada = await owner(auth)
            made = (await ada.make()).json()
            await token_of(auth, made["key"])
            [first] = await ada.list()
            assert first["last_used_at"]
            await token_of(auth, made["key"])
            assert (await ada.list()) == [first]
            await _change(postgres, own_database, "UPDATE api_keys SET last_used_at = now() - interval '61 seconds'")
            await token_of(auth, made["key"])
            assert (await ada.list())[0]["last_used_at"] >= first["last_used_at"]

    async def test_of_a_disabled_or_deleted_owner(self, keys: Keys, postgres: Postgres, own_database: str) -> None:
        async with running(keys, postgres.url(own_database)) as auth:
            made = (await (await owner(auth)).make()).json()
            await _change(postgres, own_database, "UPDATE users SET status = 'disabled'")
            assert await token_of(auth, made["key"]) is None
            await _change(postgres, own_database, "UPDATE users SET status = 'active'")
            assert await token_of(auth, made["key"])
            await _change(postgres, own_database, "DELETE FROM users WHERE role = 'user'")
            assert await token_of(auth, made["key"]) is None
            assert await _change(postgres, own_database, "DELETE FROM api_keys") == "DELETE 0"


async def _change(postgres: Postgres, database: str, statement: str) -> str:
    connection = await asyncpg.connect(postgres.url(database).replace("+asyncpg", ""))
    try:
        done: str = await connection.execute(statement)
        return done
    finally:
        await connection.close()
