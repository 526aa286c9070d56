"""What every answer carries, and which headers cross the door."""

from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import ValidationError

from tests.gateway.support import Platform, Shared, platform, settings, shared
from tests.support.identity import Keys

ORIGIN = "https://app.example.com"


@pytest.fixture(scope="module")
def opened(keys: Keys, redis_url: str) -> Iterator[Shared]:
    with shared(keys, redis_url, cors_allow_origins=[ORIGIN]) as running:
        yield running


class TestSecurityHeaders:
    @pytest.mark.parametrize("path", ["/", "/nothing", "/health", "/api/v1/faqs", "/api/v1/headers", "/static/app.js"])
    async def test_are_on_every_answer(self, bot: Platform, path: str) -> None:
        headers = bot.keys.bearer() if path == "/api/v1/headers" else {}
        response = await bot.client.get(path, headers=headers)
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-xss-protection"] == "0"
        assert response.headers["referrer-policy"] == "no-referrer"
        policy = response.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "server" not in response.headers or "uvicorn" in response.headers["server"]

    async def test_hsts_only_on_https(self, bot: Platform) -> None:
        assert "strict-transport-security" not in (await bot.client.get("/")).headers
        claimed = await bot.client.get("/", headers={"X-Forwarded-Proto": "https"})
        assert "strict-transport-security" not in claimed.headers

    async def test_api_answers_are_not_stored(self, bot: Platform) -> None:
        response = await bot.client.get("/api/v1/faqs", headers=bot.keys.bearer())
        assert response.headers["cache-control"] == "no-store"


class TestRequestHeaders:
    async def test_what_a_client_may_not_say_is_dropped(self, bot: Platform, keys: Keys) -> None:
        await bot.client.get(
            "/api/v1/faqs",
            headers=keys.bearer()
            | keys.service_headers("chat", "conversation")
            | {
                "X-Forwarded-For": "6.6.6.6",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": "evil.example",
                "X-Forwarded-Prefix": "/evil",
                "X-Real-IP": "6.6.6.6",
                "Forwarded": "for=6.6.6.6",
                "Connection": "X-Secret-Hop, keep-alive",
                "X-Secret-Hop": "1",
                "Keep-Alive": "timeout=5",
                "TE": "trailers",
                "Proxy-Authorization": "Basic x",
                "Accept-Language": "de",
            },
        )
        seen = bot.last
        for gone in (
            "x-service-authorization",
            "x-forwarded-prefix",
            "x-real-ip",
            "forwarded",
            "x-secret-hop",
            "keep-alive",
            "te",
            "proxy-authorization",
        ):
            assert seen.header(gone) is None, gone
        assert seen.header("x-forwarded-for") == "127.0.0.1"
        assert seen.header("x-forwarded-proto") == "http"
        assert seen.header("x-forwarded-host") == bot.url.removeprefix("http://")
        assert seen.header("accept-language") == "de"

    async def test_proxy_in_front_is_believed_when_it_is_trusted(self, keys: Keys, redis_url: str) -> None:
        headers = keys.bearer() | {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
        async with platform(keys, redis_url, trusted_proxies=["127.0.0.0/8"]) as bot:
            response = await bot.client.get("/api/v1/faqs", headers=headers)
        assert bot.last.header("x-forwarded-for") == "203.0.113.9"
        assert bot.last.header("x-forwarded-proto") == "https"
        assert response.headers["strict-transport-security"].startswith("max-age=")

    @pytest.mark.parametrize("nobody", ["*", "", "ingress.example", "10.0.0.1/8"])
    def test_only_addresses_and_networks_can_be_trusted(self, keys: Keys, redis_url: str, nobody: str) -> None:
        with pytest.raises(ValidationError, match="trusted_proxies"):
            settings(keys, redis_url, {}, trusted_proxies=[nobody])

    async def test_cookies_and_origin_reach_auth(self, bot: Platform) -> None:
        headers = {"Cookie": "chatbot_refresh_demo=abc", "Origin": bot.url}
        await bot.client.post("/api/v1/auth/refresh", headers=headers)
        assert bot.last.header("cookie") == "chatbot_refresh_demo=abc"
        assert bot.last.header("origin") == bot.url


class TestResponseHeaders:
    async def test_of_the_service_pass(self, bot: Platform) -> None:
        response = await bot.client.get("/api/v1/headers", headers=bot.keys.bearer())
        assert response.headers["etag"] == '"1"'
        assert len(response.headers.get_list("set-cookie")) == 2

    async def test_hop_by_hop_and_cors_of_the_service_do_not(self, bot: Platform) -> None:
        response = await bot.client.get("/api/v1/headers", headers=bot.keys.bearer())
        assert "keep-alive" not in response.headers
        assert "access-control-allow-origin" not in response.headers
        assert len(response.headers.get_list("date")) == 1

    async def test_own_time_is_told(self, bot: Platform) -> None:
        response = await bot.client.get("/api/v1/faqs", headers=bot.keys.bearer())
        name, _, milliseconds = response.headers["server-timing"].partition(";dur=")
        assert name == "gw"
        assert 0 < float(milliseconds) < 1000


class TestRequestId:
    async def test_of_the_client_is_kept(self, bot: Platform) -> None:
        response = await bot.client.get("/api/v1/faqs", headers=bot.keys.bearer() | {"X-Request-Id": "abc-1"})
        assert response.headers["x-request-id"] == bot.last.header("x-request-id") == "abc-1"

    @pytest.mark.parametrize("given", [None, "no spaces please", "x" * 129])
    async def test_is_made_where_there_is_no_usable_one(self, bot: Platform, given: str | None) -> None:
        headers = bot.keys.bearer() | ({"X-Request-Id": given} if given else {})
        response = await bot.client.get("/api/v1/faqs", headers=headers)
        assert len(response.headers["x-request-id"]) == 36
        assert response.headers["x-request-id"] == bot.last.header("x-request-id")


class TestTrace:
    async def test_goes_on(self, bot: Platform) -> None:
        trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
        headers = bot.keys.bearer() | {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
        await bot.client.get("/api/v1/faqs", headers=headers)
        assert (bot.last.header("traceparent") or "").split("-")[1] == trace_id


class TestCors:
    @pytest.fixture
    async def open_to_app(self, opened: Shared) -> AsyncIterator[Platform]:
        async with opened.visit() as visited:
            yield visited

    async def test_preflight_of_an_allowed_origin(self, open_to_app: Platform) -> None:
        headers = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type",
        }
        response = await open_to_app.client.options("/api/v1/chat/send", headers=headers)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert response.headers["access-control-allow-credentials"] == "true"
        assert "authorization" in response.headers["access-control-allow-headers"].lower()
        assert response.headers["x-frame-options"] == "DENY"
        assert open_to_app.reached == 0

    async def test_errors_are_readable_too(self, open_to_app: Platform) -> None:
        response = await open_to_app.client.get("/api/v1/faqs", headers={"Origin": ORIGIN})
        assert response.status_code == 401
        assert response.headers["access-control-allow-origin"] == ORIGIN

    async def test_other_origins_get_nothing(self, open_to_app: Platform) -> None:
        evil = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        preflight = await open_to_app.client.options("/api/v1/chat/send", headers=evil)
        plain = await open_to_app.client.get("/api/v1/faqs", headers=open_to_app.keys.bearer() | evil)
        assert preflight.status_code == 400
        assert "access-control-allow-origin" not in preflight.headers
        assert "access-control-allow-origin" not in plain.headers

    async def test_wildcard_gets_no_credentials(self, keys: Keys, redis_url: str) -> None:
        async with platform(keys, redis_url, cors_allow_origins=["*"]) as bot:
            response = await bot.client.get("/health", headers={"Origin": ORIGIN, "Cookie": "a=b"})
        assert "access-control-allow-credentials" not in response.headers
