"""Staying signed in: tokens, rotation, the browser's cookie, signing out, the key set."""

import asyncio
import json
from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx2
import jwt
import pytest
from chatbot_auth.main import create_app
from jwt.algorithms import OKPAlgorithm
from pydantic import ValidationError

from tests.auth.running import ORIGIN, PASSWORD, Auth, auth_settings, claims, new_email, problem, running
from tests.auth.test_users import run_sql
from tests.support.identity import BOT, KeyPair, Keys
from tests.support.stores import Postgres

COOKIE = f"chatbot_refresh_{BOT}"


def cookie_of(response: httpx2.Response) -> "Morsel[str]":
    jar = SimpleCookie(response.headers["set-cookie"])
    return jar[COOKIE]


def key_pair(kid: str, pair: KeyPair) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": pair.public_text, "d": pair.private_text}


class TestAccessToken:
    async def test_claims(self, auth: Auth) -> None:
        token = (await auth.register(email="alan@example.com")).json()["access_token"]

        said = claims(token)

        assert set(said) == {"sub", "email", "role", "type", "exp", "iat", "jti", "iss", "aud", "sid"}
        assert (said["email"], said["role"], said["type"]) == ("alan@example.com", "user", "access")
        assert (said["iss"], said["aud"]) == (BOT, BOT)
        assert said["exp"] - said["iat"] == 900

    async def test_verifies_with_the_published_key(self, auth: Auth) -> None:
        token = (await auth.register()).json()["access_token"]
        document = (await auth.client.get("/api/v1/.well-known/jwks.json")).json()

        header = jwt.get_unverified_header(token)
        key: Any = OKPAlgorithm.from_jwk(next(key for key in document["keys"] if key["kid"] == header["kid"]))

        assert header["alg"] == "EdDSA"
        assert jwt.decode(token, key, algorithms=["EdDSA"], audience=BOT)


class TestKeySet:
    async def test_publishes_no_private_half(self, auth: Auth, keys: Keys) -> None:
        response = await auth.client.get("/api/v1/.well-known/jwks.json")

        assert response.json() == {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "kid": "k1",
                    "x": keys.user.public_text,
                    "alg": "EdDSA",
                    "use": "sig",
                }
            ]
        }

    async def test_exchange_of_keys(self, keys: Keys, postgres: Postgres, database: str) -> None:
        document = json.dumps({"current": "k2", "keys": [key_pair("k1", keys.user), key_pair("k2", KeyPair())]})
        async with running(keys, postgres.url(database), signing_keys=document) as auth:
            token = (await auth.register()).json()["access_token"]
            sub = claims(token)["sub"]

            assert jwt.get_unverified_header(token)["kid"] == "k2"
            assert (await auth.me(token)).status_code == 200
            assert (await auth.me(keys.access_token(sub))).status_code == 200  # signed with the previous key

    def test_mistakes_are_told_without_the_key(self, keys: Keys) -> None:
        mine = key_pair("k1", keys.user)
        for document in (
            {"current": "k9", "keys": [mine]},
            {"current": "k1", "keys": [mine, mine]},
            {"current": "k1", "keys": [mine | {"x": KeyPair().public_text}]},
            {"current": "k1", "keys": [mine | {"d": mine["d"][:-2]}]},
            {"current": "k1", "keys": [mine | {"kty": "RSA"}]},
        ):
            settings = auth_settings(keys, "postgresql:///none", signing_keys=json.dumps(document))
            with pytest.raises(ValidationError) as caught:
                create_app(settings)
            assert keys.user.private_text[:20] not in str(caught.value)


class TestRefresh:
    async def test_rotates(self, auth: Auth) -> None:
        first = (await auth.register()).json()

        second = (await auth.refresh(first["refresh_token"])).json()
        third = await auth.refresh(second["refresh_token"])

        assert third.status_code == 200
        assert len({pair["refresh_token"] for pair in (first, second, third.json())}) == 3
        assert claims(first["access_token"])["sid"] == claims(third.json()["access_token"])["sid"]

    async def test_second_use_ends_the_session(self, auth: Auth) -> None:
        first = (await auth.register()).json()
        second = (await auth.refresh(first["refresh_token"])).json()

        problem(await auth.refresh(first["refresh_token"]), 401, "unauthenticated")

        problem(await auth.refresh(second["refresh_token"]), 401, "unauthenticated")

    async def test_second_use_leaves_other_sessions(self, auth: Auth) -> None:
        email = new_email()
        stolen = (await auth.register(email=email)).json()["refresh_token"]
        other = (await auth.login(email)).json()["refresh_token"]
        await auth.refresh(stolen)
        await auth.refresh(stolen)

        assert (await auth.refresh(other)).status_code == 200

    async def test_at_the_same_moment_one_wins(self, auth: Auth) -> None:
        token = (await auth.register()).json()["refresh_token"]

        responses = await asyncio.gather(*(auth.refresh(token) for _ in range(5)))

        assert sorted(response.status_code for response in responses) == [200, 401, 401, 401, 401]
        winner = next(response for response in responses if response.status_code == 200)
        problem(await auth.refresh(winner.json()["refresh_token"]), 401, "unauthenticated")

    async def test_made_up(self, auth: Auth) -> None:
        problem(await auth.refresh("made-up"), 401, "unauthenticated")

    async def test_access_token_is_none(self, auth: Auth) -> None:
        token = (await auth.register()).json()["access_token"]

        assert (await auth.refresh(token)).status_code in (401, 422)

    async def test_nothing_sent(self, auth: Auth) -> None:
        problem(await auth.post("refresh"), 401, "unauthenticated")
        problem(await auth.post("refresh", {}), 401, "unauthenticated")

    async def test_expired(self, keys: Keys, postgres: Postgres, database: str) -> None:
        async with running(keys, postgres.url(database), refresh_token_seconds=1) as auth:
            token = (await auth.register()).json()["refresh_token"]
            await asyncio.sleep(1.1)

            problem(await auth.refresh(token), 401, "unauthenticated")

    async def test_account_disabled(self, auth: Auth, postgres: Postgres, database: str) -> None:
        email = new_email()
        token = (await auth.register(email=email)).json()["refresh_token"]
        run_sql(postgres, database, f"UPDATE users SET status = 'disabled' WHERE email = '{email}'")  # noqa: S608

        problem(await auth.refresh(token), 401, "unauthenticated")

    async def test_role_is_read_again(self, auth: Auth, postgres: Postgres, database: str) -> None:
        email = new_email()
        token = (await auth.register(email=email)).json()["refresh_token"]
        run_sql(postgres, database, f"UPDATE users SET role = 'admin' WHERE email = '{email}'")  # noqa: S608

        assert claims((await auth.refresh(token)).json()["access_token"])["role"] == "admin"

    async def test_leftovers_go(self, keys: Keys, postgres: Postgres, own_database: str) -> None:
        email = new_email()
        async with running(keys, postgres.url(own_database), refresh_token_seconds=1) as auth:
            await auth.link()
            await auth.register(email=email)
            await asyncio.sleep(1.1)
            await auth.login(email)

        assert "(1 row)" in run_sql(postgres, own_database, "SELECT * FROM refresh_tokens")


class TestBrowser:
    async def test_token_is_in_a_cookie_only(self, auth: Auth) -> None:
        body = {"email": new_email(), "password": PASSWORD}

        response = await auth.post("register", body, headers=ORIGIN)

        assert "refresh_token" not in response.json()
        cookie = cookie_of(response)
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/api/v1/auth")
        assert cookie["max-age"] == str(30 * 24 * 3600)
        assert not cookie["secure"]

    async def test_secure_behind_https(self, auth: Auth) -> None:
        body = {"email": new_email(), "password": PASSWORD}

        response = await auth.post("register", body, headers=ORIGIN | {"X-Forwarded-Proto": "https"})

        assert cookie_of(response)["secure"] is True

    async def test_refresh_by_cookie(self, auth: Auth) -> None:
        await auth.post("register", {"email": new_email(), "password": PASSWORD}, headers=ORIGIN)
        before = auth.client.cookies[COOKIE]

        response = await auth.post("refresh", headers=ORIGIN)

        assert response.status_code == 200
        assert "refresh_token" not in response.json()
        assert auth.client.cookies[COOKIE] != before
        assert (await auth.post("refresh", {}, headers=ORIGIN)).status_code == 200

    async def test_cookie_token_never_comes_back_in_a_body(self, auth: Auth) -> None:
        await auth.post("register", {"email": new_email(), "password": PASSWORD}, headers=ORIGIN)

        response = await auth.post("refresh")

        assert response.status_code == 200
        assert "refresh_token" not in response.json()

    async def test_logout_by_cookie(self, auth: Auth) -> None:
        await auth.post("register", {"email": new_email(), "password": PASSWORD}, headers=ORIGIN)
        token = auth.client.cookies[COOKIE]

        response = await auth.post("logout", headers=ORIGIN)

        assert response.status_code == 204
        assert COOKIE not in auth.client.cookies
        problem(await auth.refresh(token), 401, "unauthenticated")

    async def test_link_sets_the_cookie(self, auth: Auth) -> None:
        response = await auth.post("link", {"token": await auth.link()}, headers=ORIGIN)

        assert "refresh_token" not in response.json()
        assert cookie_of(response).value

    async def test_bots_on_one_host_keep_apart(self, auth: Auth, keys: Keys, postgres: Postgres, database: str) -> None:
        async with running(keys, postgres.url(database), bot="other") as other:
            other.client.cookies = auth.client.cookies.jar  # one browser: cookies know hosts, not ports
            emails = {new_email(): auth, new_email(): other}
            for email, bot in emails.items():
                await bot.post("register", {"email": email, "password": PASSWORD}, headers=ORIGIN)

            for email, bot in emails.items():
                pair = (await bot.post("refresh", headers=ORIGIN)).json()
                assert claims(pair["access_token"])["email"] == email


class TestLogout:
    async def test_ends_the_session(self, auth: Auth) -> None:
        pair = (await auth.register()).json()

        response = await auth.post("logout", {"refresh_token": pair["refresh_token"]})

        assert (response.status_code, response.content) == (204, b"")
        problem(await auth.refresh(pair["refresh_token"]), 401, "unauthenticated")

    async def test_with_a_used_token(self, auth: Auth) -> None:
        first = (await auth.register()).json()["refresh_token"]
        second = (await auth.refresh(first)).json()["refresh_token"]

        await auth.post("logout", {"refresh_token": first})

        problem(await auth.refresh(second), 401, "unauthenticated")

    async def test_leaves_other_sessions(self, auth: Auth) -> None:
        email = new_email()
        one = (await auth.register(email=email)).json()["refresh_token"]
        two = (await auth.login(email)).json()["refresh_token"]

        await auth.post("logout", {"refresh_token": one})

        assert (await auth.refresh(two)).status_code == 200

    @pytest.mark.parametrize("body", [None, {}, {"refresh_token": "made-up"}])
    async def test_nothing_to_end(self, auth: Auth, body: dict[str, str] | None) -> None:
        assert (await auth.post("logout", body)).status_code == 204

    async def test_unknown_field(self, auth: Auth) -> None:
        problem(await auth.post("logout", {"token": "x"}), 422, "invalid-request")
