"""What the gateway answers itself: page, health, description of the API."""

import asyncio
import json

import pytest

from tests.gateway.support import Platform, Upstream, gateway
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import free_port, serving


class TestPage:
    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/", "text/html"),
            ("/docs", "text/html"),
            ("/static/app.js", "javascript"),
            ("/static/style.css", "text/css"),
            ("/static/docs.js", "javascript"),
            ("/static/icon.svg", "image/svg+xml"),
            ("/favicon.ico", "image/svg+xml"),
            ("/docs/swagger-ui.css", "text/css"),
            ("/docs/swagger-ui-bundle.js", "javascript"),
        ],
    )
    async def test_files_are_there_and_revalidated(self, bot: Platform, path: str, kind: str) -> None:
        response = await bot.client.get(path)
        assert response.status_code == 200
        assert kind in response.headers["content-type"]
        assert response.headers["cache-control"] == "no-cache"
        again = await bot.client.get(path, headers={"If-None-Match": response.headers["etag"]})
        assert again.status_code in (200, 304)

    @pytest.mark.parametrize("path", ["/", "/docs"])
    async def test_nothing_is_inline_or_from_elsewhere(self, bot: Platform, path: str) -> None:
        page = (await bot.client.get(path)).text
        assert "<script>" not in page
        assert "<style" not in page
        assert " style=" not in page
        assert "http://" not in page
        assert "https://" not in page

    @pytest.mark.parametrize("path", ["/static/../main.py", "/static/%2e%2e/main.py", "/static/nothing.js"])
    async def test_nothing_else_is_served(self, bot: Platform, path: str) -> None:
        assert (await bot.client.get(path)).status_code == 404


class TestHealth:
    @pytest.mark.parametrize("path", ["/health", "/api/v1/health"])
    async def test_own(self, bot: Platform, path: str) -> None:
        response = await bot.client.get(path)
        assert response.json() == {"status": "ok", "service": "gateway", "checks": {"redis": "ok"}}

    @pytest.mark.parametrize("path", ["/health/all", "/api/v1/health/all"])
    async def test_of_all(self, bot: Platform, path: str) -> None:
        response = await bot.client.get(path)
        assert response.status_code == 200
        behind = {"status": "ok", "checks": {"database": "ok"}}
        assert response.json() == {
            "status": "ok",
            "services": {
                "gateway": {"status": "ok", "checks": {"redis": "ok"}},
                "auth": behind,
                "chat": behind,
                "conversation": behind,
            },
        }

    async def test_dead_service_is_named(self, keys: Keys, redis_url: str, auth_url: str) -> None:
        urls = {"auth": auth_url, "chat": f"http://127.0.0.1:{free_port()}"}
        async with gateway(keys, redis_url, urls) as (_, client):
            response = await client.get("/health/all")
        assert response.status_code == 503
        services = response.json()["services"]
        assert response.json()["status"] == "degraded"
        assert services["gateway"]["status"] == "ok"
        assert services["chat"]["status"] == "unreachable"
        assert services["auth"]["status"] == "failing"  # it has no /health

    async def test_of_all_costs_the_services_one_call_a_second(self, own_bot: Platform) -> None:
        paths = ("/health/all", "/api/v1/health/all") * 15
        answers = await asyncio.gather(*(own_bot.client.get(path) for path in paths))
        answers += [await own_bot.client.get(path) for path in paths]
        assert {answer.status_code for answer in answers} == {200}
        # One, unless this machine is so slow that the sixty requests take seconds.
        assert all(service.asked["health"] < 15 for service in own_bot.services.values())

    async def test_change_is_seen(self, own_bot: Platform) -> None:
        assert (await own_bot.client.get("/health/all")).status_code == 200
        own_bot.services["chat"].healthy = False
        async with within(10):
            while (answer := await own_bot.client.get("/health/all")).status_code == 200:
                await asyncio.sleep(0.05)
        assert answer.json()["services"]["chat"] == {"status": "degraded", "checks": {"database": "timeout"}}


class TestDescription:
    async def test_joins_all_services_and_leaves_internals_out(self, bot: Platform) -> None:
        document = (await bot.client.get("/openapi.json")).json()
        assert document["openapi"] == "3.1.0"
        assert {"/api/v1/auth/login", "/api/v1/chat/send", "/api/v1/conversations", "/health/all"} <= set(
            document["paths"]
        )
        text = json.dumps(document)
        assert "/internal" not in text
        assert "Secret" not in document["components"]["schemas"]

    async def test_same_name_for_different_things_is_told_apart(self, bot: Platform) -> None:
        document = (await bot.client.get("/openapi.json")).json()
        schemas = document["components"]["schemas"]
        assert schemas["Item"]["title"] == "auth's"
        assert schemas["ChatItem"]["title"] == "chat's"
        assert "ConversationItem" not in schemas
        assert "#/components/schemas/ChatItem" in json.dumps(document["paths"]["/api/v1/chat/send"])

    async def test_says_where_a_token_is_needed(self, bot: Platform) -> None:
        document = (await bot.client.get("/openapi.json")).json()
        assert document["security"] == [{"bearer": []}]
        assert document["paths"]["/api/v1/auth/login"]["post"]["security"] == []
        assert document["paths"]["/health/all"]["get"]["security"] == []
        assert "security" not in document["paths"]["/api/v1/chat/send"]["post"]
        assert document["paths"]["/api/v1/chat/send"]["post"]["tags"] == ["chat"]

    async def test_names_what_is_missing(self, keys: Keys, redis_url: str) -> None:
        async with gateway(keys, redis_url, {}) as (_, client):
            document = (await client.get("/openapi.json")).json()
        assert "auth, chat, conversation" in document["info"]["description"]
        assert "/health/all" in document["paths"]

    @pytest.mark.parametrize("missing", [{}, {"chat": "http://127.0.0.1:1"}])
    async def test_costs_the_services_one_call(self, keys: Keys, redis_url: str, missing: dict[str, str]) -> None:
        behind = Upstream("auth", keys)
        async with serving(behind.app()) as url:
            urls = dict.fromkeys(("auth", "chat", "conversation"), url) | missing
            async with gateway(keys, redis_url, urls) as (_, client):
                await asyncio.gather(*(client.get("/openapi.json") for _ in range(30)))
        # Once for each service that is there; what lacks one is kept for 5 s.
        assert behind.asked["openapi"] <= 2 * 3
