"""Accounts: registration, the own account, the administrator."""

import asyncio
import base64
from typing import Any

import pytest
from argon2.low_level import Type, hash_secret_raw
from prometheus_client import REGISTRY

from tests.auth.running import ADMIN_EMAIL, ADMIN_PASSWORD, PASSWORD, Auth, claims, new_email, problem, running
from tests.auth.test_api_keys import Owner, token_of
from tests.support.identity import Keys
from tests.support.stores import Postgres


class TestRegister:
    async def test_signs_in(self, auth: Auth) -> None:
        email = new_email()

        response = await auth.register(email=email, username="countess", name="Ada Lovelace")

        assert response.status_code == 201
        pair = response.json()
        assert set(pair) == {"access_token", "refresh_token", "token_type", "expires_in"}
        assert (pair["token_type"], pair["expires_in"]) == ("bearer", 900)
        assert response.headers["cache-control"] == "no-store"
        me = (await auth.me(pair["access_token"])).json()
        assert (me["email"], me["username"], me["name"], me["role"]) == (email, "countess", "Ada Lovelace", "user")

    async def test_email_taken_in_other_case(self, auth: Auth) -> None:
        await auth.register(email="grace@example.com")

        body = problem(await auth.register(email=" Grace@Example.COM "), 409, "email-taken")

        assert "grace" not in str(body).lower()

    async def test_username_taken_in_other_case(self, auth: Auth) -> None:
        await auth.register(username="ada")

        problem(await auth.register(username="ADA"), 409, "username-taken")

    async def test_many_without_username(self, auth: Auth) -> None:
        assert [(await auth.register()).status_code for _ in range(2)] == [201, 201]

    async def test_same_email_at_the_same_moment(self, auth: Auth) -> None:
        email = new_email()

        responses = await asyncio.gather(*(auth.register(email=email) for _ in range(5)))

        assert sorted(response.status_code for response in responses) == [201, 409, 409, 409, 409]

    async def test_closed(self, keys: Keys, postgres: Postgres, database: str) -> None:
        async with running(keys, postgres.url(database), signup="Closed") as auth:
            body = problem(await auth.register(), 403, "sign-up-closed")

        assert "administrator" in body["title"]

    async def test_closed_to_all_but_an_administrator(self, keys: Keys, postgres: Postgres, database: str) -> None:
        async with running(keys, postgres.url(database), signup="Closed") as auth:
            admin = await signed_in_administrator(auth)
            body = {"email": new_email(), "password": PASSWORD, "name": "Ada Lovelace"}

            made = await auth.create_user(admin, body)

            assert made.status_code == 201
            told = made.json()
            assert (told["name"], told["role"], told["last_login_at"]) == ("Ada Lovelace", "user", None)
            assert (await auth.login(body["email"])).status_code == 200

    async def test_email_of_the_administrator(self, auth: Auth) -> None:
        problem(await auth.register(email=ADMIN_EMAIL.upper()), 409, "email-taken")

    @pytest.mark.parametrize(
        "fields",
        [
            {"email": "no-at-sign"},
            {"email": "two@@example.com"},
            {"email": "nul\x00@example.com"},
            {"email": "dot@.example.com"},
            {"email": "a" * 250 + "@example.com"},
            {"email": 5},
            {"password": "seven77"},
            {"password": "x" * 257},
            {"password": 12345678},
            {"username": ""},
            {"username": "x" * 101},
            {"username": "nul\x00"},
            {"name": "line\nbreak"},
            {"role": "admin"},
        ],
    )
    async def test_refuses(self, auth: Auth, fields: dict[str, Any]) -> None:
        body = problem(await auth.register(**fields), 422, "invalid-request")

        assert [error["pointer"] for error in body["errors"]] == [f"/{next(iter(fields))}"]
        value = str(next(iter(fields.values())))
        assert not value or value not in str(body).replace("/role", "")

    async def test_password_at_both_bounds(self, auth: Auth) -> None:
        for password in ("12345678", "ä" * 256):
            email = new_email()
            assert (await auth.register(email=email, password=password)).status_code == 201
            assert (await auth.login(email, password)).status_code == 200


class TestMe:
    async def test_fields(self, auth: Auth) -> None:
        pair = (await auth.register()).json()

        me = (await auth.me(pair["access_token"])).json()

        expected = {"id", "email", "username", "name", "role", "language", "timezone", "created_at", "last_login_at"}
        assert set(me) == expected
        assert me["id"] == claims(pair["access_token"])["sub"]
        assert (me["language"], me["timezone"], me["username"], me["name"]) == ("en", "UTC", None, None)
        assert me["last_login_at"].endswith("Z")

    async def test_without_token(self, auth: Auth) -> None:
        problem(await auth.client.get("/api/v1/users/me"), 401, "unauthenticated")

    async def test_forged_token(self, auth: Auth) -> None:
        problem(await auth.me(Keys().access_token()), 401, "unauthenticated")

    async def test_token_of_another_bot(self, auth: Auth, keys: Keys) -> None:
        problem(await auth.me(keys.access_token(aud="other")), 401, "unauthenticated")

    async def test_account_gone(self, auth: Auth, keys: Keys) -> None:
        problem(await auth.me(keys.access_token()), 401, "unauthenticated")

    async def test_account_disabled(self, auth: Auth, postgres: Postgres, database: str) -> None:
        pair = (await auth.register(email="gone@example.com")).json()
        run_sql(postgres, database, "UPDATE users SET status = 'disabled' WHERE email = 'gone@example.com'")

        problem(await auth.me(pair["access_token"]), 403, "account-disabled")


class TestLogin:
    async def test_email_in_other_case(self, auth: Auth) -> None:
        registered = (await auth.register(email="linus@example.com")).json()

        response = await auth.login("LINUS@example.com")

        assert response.status_code == 200
        first, second = claims(registered["access_token"]), claims(response.json()["access_token"])
        assert first["sub"] == second["sub"]
        assert first["sid"] != second["sid"]

    async def test_wrong_password_and_unknown_email_look_the_same(self, auth: Auth) -> None:
        email = new_email()
        await auth.register(email=email)

        wrong, unknown = await auth.login(email, "not this one"), await auth.login(new_email(), "not this one")

        assert problem(wrong, 401, "unauthenticated") | {"trace_id": ""} == unknown.json() | {"trace_id": ""}

    async def test_unknown_email_costs_a_check_too(self, auth: Auth) -> None:
        """Otherwise the time an answer takes would tell who has an account."""
        email = new_email()
        await auth.register(email=email)

        async def checks(address: str) -> float:
            before = REGISTRY.get_sample_value("auth_password_checks_total") or 0
            await auth.login(address, "not this one")
            return (REGISTRY.get_sample_value("auth_password_checks_total") or 0) - before

        assert (await checks(new_email()), await checks(email)) == (1, 1)

    async def test_short_password_is_only_wrong(self, auth: Auth) -> None:
        problem(await auth.login(new_email(), "short"), 401, "unauthenticated")

    async def test_disabled_is_told_only_to_who_knows_the_password(
        self, auth: Auth, postgres: Postgres, database: str
    ) -> None:
        email = new_email()
        await auth.register(email=email)
        run_sql(postgres, database, f"UPDATE users SET status = 'disabled' WHERE email = '{email}'")  # noqa: S608

        problem(await auth.login(email, "not this one"), 401, "unauthenticated")
        problem(await auth.login(email), 403, "account-disabled")

    async def test_old_parameters_are_rehashed(self, auth: Auth, postgres: Postgres, database: str) -> None:
        email = new_email()
        await auth.register(email=email)
        cheap = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + _cheap_digest(PASSWORD)
        run_sql(postgres, database, f"UPDATE users SET password_hash = '{cheap}' WHERE email = '{email}'")  # noqa: S608

        assert (await auth.login(email)).status_code == 200

        stored = run_sql(postgres, database, f"SELECT password_hash FROM users WHERE email = '{email}'")  # noqa: S608
        assert "m=65536" in stored
        assert (await auth.login(email)).status_code == 200

    async def test_nothing_secret_is_stored_readably(self, auth: Auth, postgres: Postgres, database: str) -> None:
        pair = (await auth.register()).json()
        link = await auth.link()

        rows = "".join(
            run_sql(postgres, database, f"SELECT t::text FROM {table} t")  # noqa: S608
            for table in ("users", "sessions", "refresh_tokens", "sign_in_links")
        )

        assert "$argon2id$" in rows
        for secret in (PASSWORD, ADMIN_PASSWORD, pair["refresh_token"], pair["access_token"], link):
            assert secret not in rows
            assert secret.encode().hex() not in rows


class TestAdministrator:
    async def test_is_created(self, keys: Keys, postgres: Postgres, empty_database: str) -> None:
        async with running(keys, postgres.url(empty_database)) as auth:
            await auth.link()
            pair = (await auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)).json()

        assert claims(pair["access_token"])["role"] == "admin"

    async def test_replicas_create_one(self, keys: Keys, postgres: Postgres, empty_database: str) -> None:
        url = postgres.url(empty_database)
        async with running(keys, url) as one, running(keys, url) as two, running(keys, url) as three:
            await asyncio.gather(one.link(), two.link(), three.link())

        assert "(1 row)" in run_sql(postgres, empty_database, "SELECT * FROM users")

    async def test_changed_password_stays(self, keys: Keys, postgres: Postgres, empty_database: str) -> None:
        url = postgres.url(empty_database)
        async with running(keys, url) as auth:
            await auth.link()
        async with running(keys, url, admin_password="another secret") as auth:
            await auth.link()

            assert (await auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)).status_code == 200
            assert (await auth.login(ADMIN_EMAIL, "another secret")).status_code == 401

    async def test_account_that_becomes_administrator_loses_its_holder(
        self, keys: Keys, postgres: Postgres, empty_database: str
    ) -> None:
        url = postgres.url(empty_database)
        async with running(keys, url) as auth:
            pair = (await auth.register(email="boss@example.com")).json()
            key = (await Owner(auth, pair["access_token"]).make()).json()["key"]
            assert await token_of(auth, key)
        async with running(keys, url, admin_email="Boss@example.com") as auth:
            await auth.link()
            assert await token_of(auth, key) is None

            problem(await auth.refresh(pair["refresh_token"]), 401, "unauthenticated")
            problem(await auth.login("boss@example.com"), 401, "unauthenticated")
            signed_in = (await auth.login("boss@example.com", ADMIN_PASSWORD)).json()

        assert claims(signed_in["access_token"])["role"] == "admin"


def run_sql(postgres: Postgres, database: str, statement: str) -> str:
    return str(postgres.server.psql(f"\\c {database}\n{statement};"))


def _cheap_digest(password: str) -> str:
    raw = hash_secret_raw(
        password.encode(), b"somesalt", time_cost=1, memory_cost=8, parallelism=1, hash_len=32, type=Type.ID
    )
    return base64.b64encode(raw).rstrip(b"=").decode()


async def signed_in_administrator(auth: Auth) -> str:
    """Access token of the one that every bot has."""
    await auth.link()
    return str((await auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)).json()["access_token"])


class TestCreate:
    """By an administrator, for somebody else."""

    async def test_needs_one(self, auth: Auth) -> None:
        someone = (await auth.register()).json()["access_token"]
        body = {"email": new_email(), "password": PASSWORD}

        problem(await auth.create_user(someone, body), 403, "forbidden")
        problem(await auth.create_user("none", body), 401, "unauthenticated")

    async def test_email_taken(self, auth: Auth) -> None:
        admin, email = await signed_in_administrator(auth), new_email()
        await auth.register(email=email)

        problem(await auth.create_user(admin, {"email": email, "password": PASSWORD}), 409, "email-taken")

    @pytest.mark.parametrize("wrong", [{"password": "short"}, {"email": "nobody"}, {"role": "admin"}])
    async def test_wrong_body(self, auth: Auth, wrong: dict[str, str]) -> None:
        body = {"email": new_email(), "password": PASSWORD} | wrong

        problem(await auth.create_user(await signed_in_administrator(auth), body), 422, "invalid-request")
