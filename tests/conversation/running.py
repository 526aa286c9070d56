"""A conversation service and a worker on real stores, and what users and the chat service say to them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
from chatbot_common.ids import uuid7
from chatbot_conversation.main import create_app
from chatbot_conversation.settings import Settings
from chatbot_conversation.worker import Worker

from tests.support.configuration import mapping
from tests.support.identity import Keys
from tests.support.patience import clock
from tests.support.serving import serving


def make_settings(keys: Keys, auth_url: str, database_url: str, **changes: Any) -> Settings:
    told = mapping("conversation", keys, urls={"auth": auth_url}) | {"database_url": database_url}
    return Settings.model_validate(told | changes)


@dataclass(frozen=True)
class Conversation:
    """A running service."""

    client: httpx2.AsyncClient
    keys: Keys
    settings: Settings

    def as_chat(self, user_id: UUID | None = None) -> dict[str, str]:
        """Headers of the chat service, for a user or on its own."""
        service = self.keys.service_headers("chat", "conversation")
        return service | (self.keys.bearer(user_id) if user_id else {})

    async def start_turn(self, user_id: UUID, text: str = "Hello there", **body: Any) -> httpx2.Response:
        body = {"text": text, "client_message_id": str(uuid7())} | body
        return await self.client.post("/internal/turns", json=body, headers=self.as_chat(user_id))

    async def started(self, user_id: UUID, text: str = "Hello there", **body: Any) -> dict[str, Any]:
        response = await self.start_turn(user_id, text, **body)
        assert response.status_code == 200, response.text
        turn: dict[str, Any] = response.json()
        assert turn["state"] == "started"
        return turn

    async def reply(self, turn: dict[str, Any], text: str = "Good day", **body: Any) -> httpx2.Response:
        body = {
            "attempt": turn["attempt"],
            "status": "completed",
            "text": text,
            "parts": [{"type": "text", "text": text}],
            "citations": [],
            "usage": {"input_tokens": 3, "output_tokens": 4},
            "model": "retrieval",
            "error": None,
        } | body
        return await self.client.put(f"/internal/turns/{turn['turn_id']}/reply", json=body, headers=self.as_chat())

    async def exchange(self, user_id: UUID, text: str, answer: str, **body: Any) -> dict[str, Any]:
        """A completed turn."""
        turn = await self.started(user_id, text, **body)
        assert (await self.reply(turn, answer)).status_code == 200
        return turn

    async def get(self, path: str, user_id: UUID, **params: Any) -> httpx2.Response:
        return await self.client.get("/api/v1" + path, params=params, headers=self.keys.bearer(user_id))

    async def send(self, method: str, path: str, user_id: UUID, body: Any = None) -> httpx2.Response:
        return await self.client.request(method, "/api/v1" + path, json=body, headers=self.keys.bearer(user_id))


@contextlib.asynccontextmanager
async def running(keys: Keys, settings: Settings) -> AsyncIterator[Conversation]:
    async with serving(create_app(settings)) as url, httpx2.AsyncClient(base_url=url, timeout=30) as client:
        yield Conversation(client, keys, settings)


@contextlib.asynccontextmanager
async def working(settings: Settings, **options: Any) -> AsyncIterator[Worker]:
    """A worker in this process, with short waits."""
    worker = Worker(settings, **({"heartbeat": timedelta(seconds=1), "tick_seconds": 0.1} | options))
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await task


async def eventually(condition: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    """The first true result of `condition`."""
    end = clock() + seconds
    while not (result := await condition()):
        assert clock() < end, "it did not happen in time"
        await asyncio.sleep(0.05)
    return result
