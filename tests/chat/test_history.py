"""How much of a conversation a model is told: as much as its window has room for, and all that a client sends along."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from openai import AsyncOpenAI

from tests.chat.running import Chat, running
from tests.support.identity import Keys
from tests.support.model_server import ModelServer

SMALL = 1100
"""Tokens of a small window, with less room for a prompt than all of `LONG_AGO` takes."""
LONG_AGO = [
    {"role": role, "content": f"{role} says {number}"} for number in range(60) for role in ("user", "assistant")
]
LATELY = {"role": "user", "content": "And now?"}


@pytest.fixture
async def chat(keys: Keys, told: dict[str, Any]) -> AsyncIterator[Chat]:
    """With a model of a small window among its models."""
    like = next(model for model in told["models"] if model["name"] == "echo")
    small = like | {"name": "small", "context_window": SMALL, "max_output_tokens": 64}
    async with running(keys, Settings.model_validate(told | {"models": [*told["models"], small]})) as service:
        yield service


@pytest.fixture
async def sdk(chat: Chat) -> AsyncIterator[AsyncOpenAI]:
    async with sdk_of(chat) as client:
        yield client


def sdk_of(chat: Chat) -> AsyncOpenAI:
    base = f"{chat.client.base_url}/v1"
    return AsyncOpenAI(base_url=base, api_key=chat.keys.access_token(USER), max_retries=0, timeout=20)


USER = uuid7()


def heard(model_server: ModelServer) -> list[str]:
    """What the model was told last, without systems."""
    return [message["content"] for message in model_server.requests[-1][1]["messages"] if message["role"] != "system"]


async def asked_again(chat: Chat, sdk: AsyncOpenAI, model: str) -> str:
    """In the conversation that sixty exchanges have made. The answer before."""
    response = await sdk.responses.create(model="echo", input=[*LONG_AGO, LATELY])  # type: ignore[list-item]
    assert response.conversation is not None
    await chat.send(USER, "Again?", conversation_id=response.conversation.id, model=model)
    return response.output_text


class TestStored:
    async def test_the_first_question_of_sixty_is_told(
        self, chat: Chat, sdk: AsyncOpenAI, model_server: ModelServer
    ) -> None:
        answer = await asked_again(chat, sdk, "echo")
        assert heard(model_server) == [
            *(item["content"] for item in LONG_AGO),
            "And now?",
            answer,
            "Again?",
        ]

    async def test_a_small_window_gets_the_newest(
        self, chat: Chat, sdk: AsyncOpenAI, model_server: ModelServer
    ) -> None:
        answer = await asked_again(chat, sdk, "small")
        told = heard(model_server)
        assert 4 < len(told) < 120
        assert told[0].startswith("user says")
        assert told[-3:] == ["And now?", answer, "Again?"]


class TestSentAlong:
    @pytest.mark.parametrize("store", [True, False])
    async def test_all_of_it_reaches_the_model(self, sdk: AsyncOpenAI, model_server: ModelServer, store: bool) -> None:
        greeting = {"role": "assistant", "content": "How may I help?"}
        await sdk.responses.create(model="echo", input=[greeting, *LONG_AGO, LATELY], store=store)  # type: ignore[list-item]
        assert heard(model_server) == [item["content"] for item in (greeting, *LONG_AGO, LATELY)]

    async def test_where_a_smaller_answer_leaves_the_room(
        self, keys: Keys, told: dict[str, Any], model_server: ModelServer
    ) -> None:
        like = next(model for model in told["models"] if model["name"] == "echo")
        small = like | {"name": "small", "context_window": SMALL, "max_output_tokens": 800}
        only = told | {"models": [small], "default_model": "small"}
        async with running(keys, Settings.model_validate(only)) as chat, sdk_of(chat) as sdk:
            some = LONG_AGO[:50]
            await sdk.responses.create(model="small", input=[*some, LATELY], max_output_tokens=16)  # type: ignore[list-item]
        assert heard(model_server) == [item["content"] for item in (*some, LATELY)]

    @pytest.mark.parametrize("stream", [True, False])
    async def test_or_is_refused(self, sdk: AsyncOpenAI, model_server: ModelServer, stream: bool) -> None:
        asking = sdk.responses.create(model="small", input=[*LONG_AGO, LATELY], stream=stream)  # type: ignore[list-item]
        if stream:
            last = [event async for event in await asking][-1]  # type: ignore[union-attr]
            assert last.type == "response.failed"
            said = last.response.error.message
        else:
            with pytest.raises(openai.BadRequestError) as refused:
                await asking
            assert refused.value.code == "context_length_exceeded"
            said = str(refused.value)
        assert "120 messages sent along" in said
        assert not model_server.requests

    async def test_unless_the_oldest_may_be_left_out(self, sdk: AsyncOpenAI, model_server: ModelServer) -> None:
        await sdk.responses.create(model="small", input=[*LONG_AGO, LATELY], truncation="auto")  # type: ignore[list-item]
        assert 4 < len(heard(model_server)) < 120

    async def test_before_it_the_oldest_of_the_conversation_is_left_out(
        self, sdk: AsyncOpenAI, model_server: ModelServer
    ) -> None:
        first = await sdk.responses.create(model="echo", input=[*LONG_AGO, LATELY])  # type: ignore[list-item]
        some = LONG_AGO[:6]
        await sdk.responses.create(model="small", input=[*some, LATELY], previous_response_id=first.id)  # type: ignore[list-item]
        told = heard(model_server)
        assert told[-7:] == [item["content"] for item in (*some, LATELY)]
        assert 7 < len(told) < 120
