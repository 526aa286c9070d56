"""One-time sign-in links."""

import asyncio

from tests.auth.running import Auth, claims, problem, running
from tests.support.identity import Keys
from tests.support.stores import Postgres


class TestCreate:
    async def test_by_the_operator(self, auth: Auth) -> None:
        await auth.link()

        body = (await auth.new_link()).json()

        assert set(body) == {"token", "expires_in"}
        assert body["expires_in"] == 900

    async def test_by_another_service(self, auth: Auth) -> None:
        problem(await auth.new_link("chat"), 403, "forbidden")

    async def test_by_an_administrator(self, auth: Auth, keys: Keys) -> None:
        response = await auth.client.post("/internal/sign-in-links", json={}, headers=keys.bearer(role="admin"))

        problem(response, 401, "unauthenticated")

    async def test_with_a_token_for_another_service(self, auth: Auth, keys: Keys) -> None:
        headers = keys.service_headers("operator", "chat")

        problem(await auth.client.post("/internal/sign-in-links", json={}, headers=headers), 401, "unauthenticated")

    async def test_unknown_field(self, auth: Auth, keys: Keys) -> None:
        headers = keys.service_headers("operator", "auth")
        body = {"email": "ada@example.com"}

        problem(await auth.client.post("/internal/sign-in-links", json=body, headers=headers), 422, "invalid-request")


class TestFollow:
    async def test_signs_in_the_administrator(self, auth: Auth) -> None:
        response = await auth.post("link", {"token": await auth.link()})

        assert response.status_code == 200
        assert claims(response.json()["access_token"])["role"] == "admin"
        assert (await auth.refresh(response.json()["refresh_token"])).status_code == 200
        assert (await auth.me(response.json()["access_token"])).json()["last_login_at"]

    async def test_once(self, auth: Auth) -> None:
        token = await auth.link()

        responses = await asyncio.gather(*(auth.post("link", {"token": token}) for _ in range(4)))

        assert sorted(response.status_code for response in responses) == [200, 401, 401, 401]
        problem(await auth.post("link", {"token": token}), 401, "unauthenticated")

    async def test_expired(self, keys: Keys, postgres: Postgres, database: str) -> None:
        async with running(keys, postgres.url(database), sign_in_link_seconds=1) as auth:
            token = await auth.link()
            await asyncio.sleep(1.1)

            problem(await auth.post("link", {"token": token}), 401, "unauthenticated")

    async def test_made_up(self, auth: Auth) -> None:
        problem(await auth.post("link", {"token": "made-up"}), 401, "unauthenticated")

    async def test_refresh_token_is_no_link(self, auth: Auth) -> None:
        token = (await auth.register()).json()["refresh_token"]

        problem(await auth.post("link", {"token": token}), 401, "unauthenticated")
