"""The gateway as it really runs: one process, told by a file and a folder, stopped by a signal."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from websockets.asyncio.client import connect

from tests.gateway.support import Upstream
from tests.support.configuration import mapping
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import free_port, serving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@dataclass
class Running:
    process: asyncio.subprocess.Process
    public: httpx2.AsyncClient
    private: httpx2.AsyncClient
    upstream: Upstream

    async def stop(self) -> list[dict[str, object]]:
        """Wait for its end; its log."""
        async with within(20):
            output, _ = await self.process.communicate()
        assert self.process.returncode == 0
        return [json.loads(line) for line in output.decode().splitlines()]


def write(folder: Path, keys: Keys, redis_url: str, url: str, **changed: Any) -> dict[str, str]:
    """The file and the folder of secrets; environment that names them."""
    told = mapping("gateway", keys, {"auth": url, "chat": url, "conversation": url}) | changed
    told["listen"] = {"host": "127.0.0.1", "port": free_port(), "private_port": free_port()}
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "service_private_key").write_text(told.pop("service_private_key") + "\n")
    (secrets / "redis_url").write_text(redis_url + "\n")
    (folder / "config.json").write_text(json.dumps(told))
    return {"CHATBOT_CONFIG": str(folder / "config.json"), "CHATBOT_SECRETS": str(secrets)}


@asynccontextmanager
async def running(folder: Path, keys: Keys, redis_url: str, **changed: Any) -> AsyncIterator[Running]:
    upstream = Upstream("chat", keys)
    async with serving(upstream.app()) as url:
        environment = write(folder, keys, redis_url, url, **changed)
        listen = json.loads((folder / "config.json").read_text())["listen"]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "chatbot_gateway",
            "serve",
            env=os.environ | environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with (
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listen['port']}", timeout=10) as public,
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listen['private_port']}", timeout=10) as private,
        ):
            try:
                await readiness(private, 200)
                yield Running(process, public, private, upstream)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def readiness(private: httpx2.AsyncClient, expected: int) -> None:
    async with within(30):
        while True:
            try:
                if (await private.get("/readyz")).status_code == expected:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)


async def metrics_with(private: httpx2.AsyncClient, line: str) -> str:
    """The metrics once they hold the line: a request is counted a moment after its answer has left."""
    async with within(10):
        while line not in (text := (await private.get("/metrics")).text):
            await asyncio.sleep(0.05)
    return text


COUNTED = 'http_requests_total{endpoint="/api/v1/chat/{path:path}",method="POST",status="200"} 1.0'
FORWARDED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


CHATTY = {"otlp_endpoint": None, "sample_ratio": 1.0, "log_level": "debug"}


class TestServe:
    """Two starts for all of it: each costs seconds."""

    async def test_traces_believes_nobody_and_ends_streams_before_itself(
        self, tmp_path: Path, keys: Keys, redis_url: str
    ) -> None:
        parent = f"00-{TRACE}-00f067aa0ba902b7-01"
        async with running(tmp_path, keys, redis_url) as bot:
            headers = keys.bearer() | FORWARDED | {"traceparent": parent}
            spoofed = await bot.public.get("/api/v1/faqs", headers=headers)
            missing = await bot.public.get("/api/v1/faqs", headers={"traceparent": parent})
            async with bot.public.stream("GET", "/api/v1/chat/stream", headers=keys.bearer()) as response:
                parts = response.aiter_bytes()
                await anext(parts)
                bot.process.send_signal(signal.SIGTERM)
                await readiness(bot.private, 503)
                bot.upstream.proceed.set()
                assert b"".join([part async for part in parts]) == b"data: second\n\n"
            await bot.stop()
        seen = bot.upstream.last
        assert (seen.header("x-forwarded-for"), seen.header("x-forwarded-proto")) == ("127.0.0.1", "http")
        assert "strict-transport-security" not in spoofed.headers
        sent_on = seen.header("traceparent") or ""
        assert sent_on.split("-")[1] == TRACE
        assert sent_on != parent
        assert missing.json()["trace_id"] == TRACE

    async def test_tells_no_secret_and_believes_the_trusted_proxy(
        self, tmp_path: Path, keys: Keys, redis_url: str
    ) -> None:
        token = keys.access_token()
        async with running(tmp_path, keys, redis_url, trusted_proxies=["127.0.0.1"], telemetry=CHATTY) as bot:
            headers = {"Authorization": f"Bearer {token}", "X-Request-Id": "abc-1"} | FORWARDED
            sent = {"content": "my diagnosis", "client_message_id": "1"}
            secure = await bot.public.post("/api/v1/chat/send?q=my-diagnosis", headers=headers, json=sent)
            address = str(bot.public.base_url.join(f"/api/v1/chat/ws?token={token}&ticket=my-diagnosis"))
            async with connect(address.replace("http:", "ws:"), proxy=None, additional_headers=headers) as socket:
                await socket.wait_closed()
            metrics = await metrics_with(bot.private, COUNTED)
            bot.process.send_signal(signal.SIGTERM)
            log = await bot.stop()
        (line,) = [entry for entry in log if entry["event"] == "request" and entry.get("request_id") == "abc-1"]
        assert (line["endpoint"], line["status"]) == ("/api/v1/chat/{path:path}", 200)
        assert [entry["code"] for entry in log if entry["event"] == "socket"] == [4401]
        for told in (json.dumps(log), metrics):
            assert "diagnosis" not in told
            assert token not in told
        seen = bot.upstream.last
        assert (seen.header("x-forwarded-for"), seen.header("x-forwarded-proto")) == ("203.0.113.9", "https")
        assert "strict-transport-security" in secure.headers
