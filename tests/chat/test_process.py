"""`python -m chatbot_chat` as a process: settings from files, SIGTERM with an answer in flight, and a frozen one."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7

from tests.chat.running import Chat, sse_events
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
        env=os.environ | {"CHATBOT_CONFIG": str(config), "CHATBOT_SECRETS": str(secrets)},
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


async def test_a_frozen_process_keeps_nothing_and_loses_no_word(
    keys: Keys, told: dict[str, Any], tmp_path: Path, chat: Chat, conversation_database: str
) -> None:
    """As one that is killed, but that it comes back to a world that has moved on."""
    listen = {"host": "127.0.0.1", "port": free_port(), "private_port": free_port()}
    ada = uuid7()
    async with (
        process(told | {"listen": listen}, tmp_path) as child,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listen['port']}", timeout=60) as client,
    ):
        await answering(client)
        elsewhere = Chat(client, keys, chat.settings)
        async with (
            elsewhere.streaming(ada, "Count", model="endless") as events,
            elsewhere.streaming(ada, "Again", model="endless", client_message_id="again") as others,
        ):
            run, again = (await anext(events))["run_id"], (await anext(others))["run_id"]
            seen = [await first_text(chat, ada, run_id) for run_id in (run, again)]
            child.send_signal(signal.SIGSTOP)
            await expire(conversation_database, run, again)
            views = [await chat.ended(ada, run_id) for run_id in (run, again)]
            retried = await chat.stream(ada, "Again", model="echo", client_message_id="again", retry=True)
            child.send_signal(signal.SIGCONT)
            rest = [event async for event in events]
            await anext(event async for event in others if event["type"].startswith("run."))
    assert [view["state"] for view in views] == ["interrupted", "interrupted"]
    assert all(view["content"].startswith(text) for view, text in zip(views, seen, strict=True))
    assert (retried[-1]["type"], retried[-1]["attempt"]) == ("run.finished", 2)
    assert rest[-1]["type"] == "run.interrupted"
    assert await chat.run(ada, run) == views[0]
    after = await chat.events(ada, run)
    assert "".join(event["text"] for event in after if event["type"] == "text.delta") == views[0]["content"]
    assert await chat.events(ada, again) == retried


async def first_text(chat: Chat, user_id: UUID, run_id: str) -> str:
    """The first words of a run, seen from another replica: so they are in the log."""
    path = f"/api/v1/chat/runs/{run_id}/events"
    async with chat.client.stream("GET", path, headers=chat.keys.bearer(user_id)) as response:
        async for event in sse_events(response):
            if event["type"] == "text.delta" and event["text"].strip():
                return str(event["text"])
    raise AssertionError("the run has no words")


async def expire(database: str, *run_ids: str) -> None:
    """As if the leases of these runs had not been renewed for a while."""
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    past = "UPDATE turns SET leased_until = now() - interval '1 second' WHERE id = ANY($1::uuid[])"
    await connection.execute(past, [UUID(run_id) for run_id in run_ids])
    await connection.close()


async def answering(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if (await client.get("/health")).is_success:
                    return
            await asyncio.sleep(0.1)
