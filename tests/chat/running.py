"""A chat service, and what people say to it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx2
from chatbot_chat.main import create_app
from chatbot_chat.settings import Settings
from openai import AsyncOpenAI

from tests.gateway.support import gateway
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import serving

SCRIPTS = (
    *("echo", "endless", "picky", "surrogate", "half", "agent", "signing", "formal", "flaky", "soon", "silent"),
    *("large", "halting", "hang", "hang-midway", "hang-silent", "garbage", "cut", "early", "refuse", "busy"),
    *("broken", "unknown", "filtering"),
)


def spec(model_url: str) -> dict[str, Any]:
    """A resource with every script of the model server as a model, a dead provider, and `retrieval` as default."""
    timeouts = {"connect": "1s", "firstToken": "2s", "idle": "1s"}
    # Only for who hangs: on a busy machine the other scripts may well pause for a second.
    hasty = {"name": "hasty", "type": "OpenAICompatible", "baseURL": model_url, "timeouts": timeouts}
    return {
        "profile": "Dev",
        "llm": {
            "providers": [
                hasty,
                {"name": "scripted", "type": "OpenAICompatible", "baseURL": model_url},
                {"name": "dead", "type": "OpenAICompatible", "baseURL": "http://127.0.0.1:1/v1", "timeouts": timeouts},
                {"name": "retrieval", "type": "Retrieval"},
            ],
            "models": [
                {"name": "retrieval", "deployments": [{"provider": "retrieval", "model": "retrieval"}]},
                {"name": "dead", "deployments": [{"provider": "dead", "model": "echo"}]},
                *({"name": name, "deployments": [{"provider": provider_of(name), "model": name}]} for name in SCRIPTS),
            ],
            "default": "retrieval",
        },
    }


def provider_of(script: str) -> str:
    return "hasty" if script.startswith("hang") else "scripted"


def parse_sse(text: str) -> list[dict[str, Any]]:
    """Data of each event; comments and the other fields are left out."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


@dataclass(frozen=True)
class Chat:
    """A running chat service."""

    client: httpx2.AsyncClient
    keys: Keys
    settings: Settings

    async def send(self, user_id: UUID, content: Any, **body: Any) -> httpx2.Response:
        body = {"content": content} | body
        return await self.client.post("/api/v1/chat/send", json=body, headers=self.keys.bearer(user_id))

    async def stream(self, user_id: UUID, content: str, **body: Any) -> list[dict[str, Any]]:
        """All events of a message's run."""
        async with self.streaming(user_id, content, **body) as events:
            return [event async for event in events]

    @contextlib.asynccontextmanager
    async def streaming(self, user_id: UUID, content: str, **body: Any) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Events as they arrive; leaving the block disconnects."""
        headers = self.keys.bearer(user_id) | {"Accept": "text/event-stream"}
        body = {"content": content} | body
        async with self.client.stream("POST", "/api/v1/chat/send", json=body, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            yield sse_events(response)

    async def events(self, user_id: UUID, run_id: str, after: str | None = None) -> list[dict[str, Any]]:
        params = {"after": after} if after else {}
        response = await self.client.get(
            f"/api/v1/chat/runs/{run_id}/events", params=params, headers=self.keys.bearer(user_id)
        )
        assert response.status_code == 200, response.text
        return parse_sse(response.text)

    async def run(self, user_id: UUID, run_id: str) -> dict[str, Any]:
        response = await self.client.get(f"/api/v1/chat/runs/{run_id}", headers=self.keys.bearer(user_id))
        assert response.status_code == 200, response.text
        view: dict[str, Any] = response.json()
        return view

    async def ended(self, user_id: UUID, run_id: str) -> dict[str, Any]:
        """The run once it is no longer running."""
        async with within(20):
            while (view := await self.run(user_id, run_id))["state"] == "running":
                await asyncio.sleep(0.05)
        return view


async def sse_events(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


@contextlib.asynccontextmanager
async def running(keys: Keys, settings: Settings, connections: int = 100) -> AsyncIterator[Chat]:
    limits = httpx2.Limits(max_connections=connections)
    async with (
        serving(create_app(settings)) as url,
        httpx2.AsyncClient(base_url=url, timeout=30, limits=limits) as client,
    ):
        yield Chat(client, keys, settings)


@contextlib.asynccontextmanager
async def in_front(
    chat: Chat, redis_url: str, auth_url: str, conversation_url: str
) -> AsyncIterator[httpx2.AsyncClient]:
    """A gateway before all services, and a client for it; its limits of requests are for more than tests ask."""
    urls = {"auth": auth_url, "chat": str(chat.client.base_url), "conversation": conversation_url}
    limits = {"per_minute": 100_000, "per_hour": 100_000, "per_day": 100_000}
    async with gateway(chat.keys, redis_url, urls, limits=limits) as (_, client):
        yield client


@dataclass(frozen=True)
class Face:
    """Where a client of OpenAI's asks, by what, and as whom."""

    base_url: str
    credential: str
    user_id: UUID

    def sdk(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=self.base_url, api_key=self.credential, max_retries=0, timeout=60)
