"""Who may pass, and to which service."""

import asyncio
import time

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.gateway.support import Platform, gateway, problem
from tests.support.identity import BOT, Keys


class TestRoute:
    @pytest.mark.parametrize(
        ("path", "service"),
        [
            ("/api/v1/auth/sessions", "auth"),
            ("/api/v1/users/me", "auth"),
            ("/api/v1/admin/users", "auth"),
            ("/api/v1/admin/usage", "conversation"),
            ("/api/v1/chat/models", "chat"),
            ("/v1/models", "chat"),
            ("/api/v1/conversations", "conversation"),
            ("/api/v1/conversations/1/messages", "conversation"),
            ("/api/v1/conversations/1/messages/2/regenerate", "chat"),
            ("/api/v1/conversations/1/messages/2/edit", "chat"),
            ("/api/v1/conversations/1/messages/2/feedback", "conversation"),
            ("/api/v1/faqs/1", "conversation"),
            ("/api/v1/chatter", "conversation"),
        ],
    )
    async def test_prefix_decides(self, bot: Platform, path: str, service: str) -> None:
        response = await bot.client.get(path, headers=bot.keys.bearer())
        assert response.json() == {"service": service}
        assert bot.services[service].last.path == path

    @pytest.mark.parametrize(
        ("path", "service"), [("", "conversation"), ("/1", "chat"), ("/1/messages", "conversation")]
    )
    async def test_by_method_one_goes_elsewhere(self, bot: Platform, path: str, service: str) -> None:
        found = await bot.client.delete(f"/api/v1/conversations{path}", headers=bot.keys.bearer())
        assert found.json() == {"service": service}
        patched = await bot.client.patch(f"/api/v1/conversations{path}", headers=bot.keys.bearer(), json={})
        assert patched.json() == {"service": "conversation"}

    @pytest.mark.parametrize(
        "path",
        [
            "/internal/turns",
            "/api/v1/../../internal/turns",
            "/api/v1/%2e%2e/%2e%2e/internal/turns",
            "/api/v1/x/..%2f..%2f..%2finternal",
            "/api/v1//internal",
            "/api/v1/.%2e/internal",
            "/api/v1/a%5c..%5cinternal",
            "/api/v1/a%00",
            "/v1/./models",
        ],
    )
    async def test_internal_and_ambiguous_paths_are_not_there(self, bot: Platform, path: str) -> None:
        # By hand: a good client would tidy the path up first.
        host, port = bot.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        token = bot.keys.access_token()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        assert await reader.readline() == b"HTTP/1.1 404 Not Found\r\n"
        writer.close()
        await writer.wait_closed()
        assert bot.reached == 0

    async def test_escapes_and_query_arrive_as_sent(self, bot: Platform) -> None:
        url = httpx2.URL(bot.url).copy_with(raw_path=b"/api/v1/faqs/a%20b%25?q=%2F%26&q=b+c&empty=")
        await bot.client.get(url, headers=bot.keys.bearer())
        assert (bot.last.path, bot.last.query) == ("/api/v1/faqs/a%20b%25", "q=%2F%26&q=b+c&empty=")

    async def test_unknown_path_is_a_problem(self, bot: Platform) -> None:
        response = await bot.client.get("/nothing")
        assert problem(response)["title"] == "Not Found"

    async def test_unknown_method_is_refused(self, bot: Platform) -> None:
        assert (await bot.client.request("TRACE", "/api/v1/faqs", headers=bot.keys.bearer())).status_code == 405


class TestToken:
    @pytest.mark.parametrize("name", ["register", "login", "refresh", "logout", "link"])
    async def test_sign_in_needs_none(self, bot: Platform, name: str) -> None:
        response = await bot.client.post(f"/api/v1/auth/{name}", json={})
        assert response.json() == {"service": "auth"}

    async def test_public_keys_need_none(self, bot: Platform) -> None:
        assert (await bot.client.get("/api/v1/.well-known/jwks.json")).json()["keys"][0]["kid"] == "k1"

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/api/v1/auth/login"), ("POST", "/api/v1/auth/loginx"), ("GET", "/api/v1/faqs")]
    )
    async def test_everything_else_needs_one(self, bot: Platform, method: str, path: str) -> None:
        response = await bot.client.request(method, path)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert problem(response)["type"] == "urn:chatbot:problem:unauthenticated"
        assert bot.reached == 0

    async def test_valid_one_travels_on(self, bot: Platform) -> None:
        headers = bot.keys.bearer()
        await bot.client.get("/api/v1/users/me", headers=headers)
        assert bot.last.header("authorization") == headers["Authorization"]

    async def test_forged_one_is_refused(self, bot: Platform) -> None:
        token = jwt.encode(
            jwt.decode(bot.keys.access_token(), options={"verify_signature": False}),
            Ed25519PrivateKey.generate(),
            algorithm="EdDSA",
            headers={"kid": "k1"},
        )
        response = await bot.client.get("/api/v1/faqs", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 401
        assert bot.reached == 0

    async def test_unsigned_one_is_refused(self, bot: Platform) -> None:
        claims = jwt.decode(bot.keys.access_token(), options={"verify_signature": False})
        token = jwt.encode(claims, None, algorithm="none", headers={"kid": "k1"})
        response = await bot.client.get("/api/v1/faqs", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 401

    @pytest.mark.parametrize(
        "changed", [{"exp": int(time.time()) - 1}, {"aud": "other"}, {"iss": "other"}, {"type": "refresh"}]
    )
    async def test_wrong_claims_are_refused(self, bot: Platform, changed: dict[str, object]) -> None:
        token = bot.keys.access_token(**changed)
        response = await bot.client.get("/api/v1/faqs", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 401
        assert bot.reached == 0

    async def test_service_token_of_a_client_opens_nothing(self, bot: Platform) -> None:
        headers = bot.keys.service_headers("chat", "conversation")
        assert (await bot.client.get("/api/v1/faqs", headers=headers)).status_code == 401

    async def test_openai_face_speaks_openai(self, bot: Platform) -> None:
        response = await bot.client.get("/v1/models", headers={"Authorization": "Bearer nothing"})
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "unauthenticated"

    async def test_unreachable_keys_are_not_the_clients_fault(self, keys: Keys, redis_url: str) -> None:
        async with gateway(keys, redis_url, {}) as (_, client):
            response = await client.get("/api/v1/faqs", headers=keys.bearer())
            assert response.status_code == 503
            assert BOT not in problem(response)["detail"]
