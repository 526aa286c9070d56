"""`python -m chatbot_chat` as a process: settings from files, SIGTERM with an answer in flight."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7

from tests.chat.running import Chat
from tests.support.identity import Keys
from tests.support.serving import free_port

SECRETS = ("service_private_key", "redis_url")


@contextlib.asynccontextmanager
async def process(told: dict[str, Any], folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service, started the way the operator and the command line start it."""
    secrets = folder / "secrets"
    (secrets / "provider_keys").mkdir(parents=True)
    for name in SECRETS:
        (secrets / name).write_text(told[name] + "\n")
    for name, key in told["provider_keys"].items():
        (secrets / "provider_keys" / name).write_text(key)
    config = folder / "config.json"
    config.write_text(json.dumps({key: value for key, value in told.items() if key not in (*SECRETS, "provider_keys")}))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chatbot_chat"),
        env={"CHATBOT_CONFIG": str(config), "CHATBOT_SECRETS": str(secrets)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def test_sigterm_ends_the_answer_in_flight_properly(keys: Keys, told: dict[str, Any], tmp_path: Path) -> None:
    listen = {"host": "127.0.0.1", "port": free_port(), "private_port": free_port()}
    told = told | {"drain_seconds": 3, "listen": listen}
    ada = uuid7()
    async with (
        process(told, tmp_path) as child,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listen['port']}", timeout=30) as client,
    ):
        await answering(client)
        chat = Chat(client, keys, Settings.model_validate(told))
        async with chat.streaming(ada, "Count", model="endless") as events:
            seen = [await anext(events), await anext(events)]
            child.send_signal(signal.SIGTERM)
            seen += [event async for event in events]
        assert await asyncio.wait_for(child.wait(), 20) == 0
        assert child.stdout is not None
        logged = (await child.stdout.read()).decode()
    assert seen[-1]["type"] == "run.interrupted"
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert all(json.loads(line) for line in logged.splitlines())
    assert "sk-test" not in logged


async def answering(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if (await client.get("/health")).is_success:
                    return
            await asyncio.sleep(0.1)
