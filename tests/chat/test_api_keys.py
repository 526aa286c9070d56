"""API keys: OpenAI's own client through the gateway, what a key may do in each service, and what it may spend."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import openai
import pytest
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from openai import AsyncOpenAI
from redis.asyncio import Redis
from websockets.asyncio.client import connect

from tests.auth.running import PASSWORD, new_email
from tests.chat.running import Chat, in_front, running
from tests.chat.test_embeddings import MODEL as EMBEDDINGS
from tests.conversation.running import eventually
from tests.support.identity import Keys

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]
SOCKET = "/api/v1/chat/ws"
KEYS = "/api/v1/users/me/api-keys"


@pytest.fixture
async def door(redis_url: str, real_auth: str, chat: Chat, conversation_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """The gateway, with all services behind it."""
    async with in_front(chat, redis_url, real_auth, conversation_url) as client:
        yield client


@pytest.fixture
async def session(door: httpx2.AsyncClient) -> dict[str, str]:
    """Headers of somebody who is signed in."""
    body = {"email": new_email(), "password": PASSWORD}
    response = await door.post("/api/v1/auth/register", json=body)
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


async def make(door: httpx2.AsyncClient, session: dict[str, str], **fields: Any) -> dict[str, Any]:
    response = await door.post(KEYS, json={"name": "ci"} | fields, headers=session)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def sdk(door: httpx2.AsyncClient, key: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{door.base_url}/v1", api_key=key, max_retries=0)


class TestOpenAI:
    async def test_is_entered_under_its_key(
        self, door: httpx2.AsyncClient, session: dict[str, str], sql: asyncpg.Connection
    ) -> None:
        made = await make(door, session)
        async with sdk(door, made["key"]) as client:
            await client.chat.completions.create(model="echo", messages=HELLO)
            streamed = await client.chat.completions.create(model="echo", messages=HELLO, stream=True)
            assert [chunk async for chunk in streamed]
            await client.responses.create(model="echo", input="Hello there")
            await client.embeddings.create(model=EMBEDDINGS, input="Hello there")

        async def entered() -> bool:
            rows = await sql.fetch("SELECT model FROM ledger WHERE key_id = $1", UUID(made["id"]))
            return sorted(row["model"] for row in rows) == [EMBEDDINGS, "echo", "echo", "echo"]

        assert await eventually(entered)

    async def test_is_told_when_a_keys_budget_is_used_up_and_the_session_is_not(
        self, door: httpx2.AsyncClient, session: dict[str, str], redis: Redis
    ) -> None:
        made = await make(door, session, name="nightly", budget={"tokens_per_day": 150})
        other = await make(door, session, name="other", budget={"tokens_per_day": 150})
        async with sdk(door, made["key"]) as client:
            said = await client.chat.completions.create(model="echo", messages=HELLO, max_tokens=100)

            async def counted() -> bool:  # once the answer has left, and what was held for it is let go
                window = f"chat:budgets:key:{made['id']}:{datetime.now(UTC):%Y-%m-%d}"
                return int(await redis.hget(window, "tokens") or 0) == (said.usage and said.usage.total_tokens)

            await eventually(counted)
            with pytest.raises(openai.RateLimitError) as refused:
                await client.chat.completions.create(model="echo", messages=HELLO, max_tokens=130)
        assert (refused.value.code, refused.value.type) == ("insufficient_quota", "insufficient_quota")
        assert "of the API key 'nightly'" in refused.value.message
        for credential in (other["key"], session["Authorization"].removeprefix("Bearer ")):
            async with sdk(door, credential) as client:
                assert await client.chat.completions.create(model="echo", messages=HELLO, max_tokens=130)
        await redis.flushdb()
        async with sdk(door, made["key"]) as client:
            with pytest.raises(openai.RateLimitError, match="nightly"):
                await client.chat.completions.create(model="echo", messages=HELLO, max_tokens=130)


class TestTurns:
    async def test_by_a_key_are_entered_under_it(self, chat: Chat, sql: asyncpg.Connection) -> None:
        ada, key = uuid7(), uuid7()
        headers = {"Authorization": f"Bearer {chat.keys.key_token(ada, key)}"}
        body = {"content": "Hello there", "model": "echo"}
        assert (await chat.client.post("/api/v1/chat/send", json=body, headers=headers)).status_code == 200
        assert [row["key_id"] for row in await sql.fetch("SELECT key_id FROM ledger WHERE user_id = $1", ada)] == [key]

    async def test_are_bounded_by_what_every_key_may_spend(self, keys: Keys, told: dict[str, Any]) -> None:
        nothing = dict.fromkeys(("tokens_per_day", "tokens_per_month", "cost_per_day", "cost_per_month"))
        budgets = {"per_user": nothing, "per_key": nothing | {"tokens_per_month": 100}, "total": nothing}
        told = told | {"budgets": budgets | {"currency": "EUR"}}
        async with running(keys, Settings.model_validate(told)) as chat:
            ada = uuid7()
            headers = {"Authorization": f"Bearer {keys.key_token(ada)}"}
            body = {"content": "Hello there", "model": "echo"}
            refused = await chat.client.post("/api/v1/chat/send", json=body, headers=headers)
            assert (refused.status_code, refused.json()["budget"]) == (429, "perKey.tokensPerMonth")
            assert (await chat.send(ada, "Hello there", model="echo")).status_code == 200

    async def test_by_a_key_with_a_budget_of_cost_are_for_models_with_prices(
        self, keys: Keys, told: dict[str, Any]
    ) -> None:
        [echo] = [model for model in told["models"] if model["name"] == "echo"]
        models = [*told["models"], echo | {"name": "free", "prices": {"input": "0", "output": "0"}}]
        async with running(keys, Settings.model_validate(told | {"models": models})) as chat:

            async def ask(path: str, **budget: int) -> tuple[httpx2.Response, httpx2.Response]:
                headers = {"Authorization": f"Bearer {keys.key_token(uuid7(), **budget)}"}
                body = {"content": "Hello there"} if path.endswith("send") else {"messages": HELLO}
                without, with_prices = [
                    await chat.client.post(path, json=body | {"model": model}, headers=headers)
                    for model in ("echo", "free")
                ]
                return without, with_prices

            for path in ("/api/v1/chat/send", "/v1/chat/completions"):
                refused, answered = await ask(path, cost_per_month=10**6)
                assert (refused.status_code, answered.status_code) == (403, 200), refused.text + answered.text
                assert "Model echo has no prices" in refused.text
                assert [response.status_code for response in await ask(path, tokens_per_month=10**6)] == [200, 200]


ASKING = [("GET", "/v1/models"), ("GET", "/api/v1/chat/models"), ("GET", "/api/v1/chat/tools")]
KEEPING = [("DELETE", f"/api/v1/conversations/{uuid7()}")]
CONVERSATION = [("GET", "/api/v1/conversations"), ("GET", "/api/v1/history")]
BOTH = [("GET", "/api/v1/faqs"), ("GET", f"/api/v1/conversations/{uuid7()}/messages")]


class TestScopes:
    @pytest.mark.parametrize("scope", ["chat", "conversations"])
    async def test_open_what_they_are_for(self, chat: Chat, conversation_url: str, scope: str) -> None:
        headers = {"Authorization": f"Bearer {chat.keys.key_token(uuid7(), scope=scope)}"}

        async def refused(base: str, method: str, path: str) -> bool:
            response = await chat.client.request(method, base + path, headers=headers)
            assert response.status_code in (200, 403, 404), response.text
            if response.status_code == 403:
                assert "This API key may not do that" in response.text
            return response.status_code == 403

        own = str(chat.client.base_url).rstrip("/")
        assert {await refused(own, *route) for route in ASKING} == {scope != "chat"}
        assert {await refused(own, *route) for route in KEEPING} == {scope == "chat"}
        assert {await refused(conversation_url, *route) for route in CONVERSATION} == {scope == "chat"}
        assert {await refused(conversation_url, *route) for route in BOTH} == {False}

    async def test_none_opens_what_is_for_administrators(self, chat: Chat, conversation_url: str) -> None:
        token = chat.keys.access_token(uuid7(), "admin", type="key", key_id=str(uuid7()), key_name="x", scope="chat")
        headers = {"Authorization": f"Bearer {token}"}
        response = await chat.client.get(f"{conversation_url}/api/v1/admin/usage", headers=headers)
        assert response.status_code == 403

    async def test_no_key_opens_a_socket(self, chat: Chat) -> None:
        url = str(chat.client.base_url).replace("http:", "ws:").rstrip("/") + SOCKET
        headers = {"Authorization": f"Bearer {chat.keys.key_token(uuid7())}"}
        async with connect(url, additional_headers=headers, proxy=None) as socket:
            await socket.wait_closed()
        assert socket.close_code == 4403
