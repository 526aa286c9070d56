"""`/v1` as the official SDK sees it, unmodified: only `base_url` and a token."""

import asyncio
import json
from typing import Any

import httpx2
import openai
import pytest
from chatbot_chat import sse
from chatbot_chat.providers.breaker import FAILURES
from chatbot_chat.providers.metering import AI_REQUESTS
from chatbot_common.ids import uuid7
from openai import AsyncOpenAI

from tests.chat.running import Chat
from tests.support import model_server as model_server_module
from tests.support.identity import BOT
from tests.support.model_server import ModelServer
from tests.support.patience import within

ADA = uuid7()
HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]
OPEN: list[Any] = [{"role": "user", "content": "When are you open?"}]


class TestModels:
    async def test_the_assistant_comes_first(self, sdk: AsyncOpenAI) -> None:
        names = [model.id async for model in sdk.models.list()]
        assert names[0] == BOT
        assert "echo" in names

    async def test_one(self, sdk: AsyncOpenAI) -> None:
        assert (await sdk.models.retrieve("echo")).owned_by == "provider"
        with pytest.raises(openai.NotFoundError):
            await sdk.models.retrieve("gpt-99")


class TestAssistant:
    @pytest.mark.usefixtures("knowledge")
    async def test_whole_with_citations_as_annotations(self, sdk: AsyncOpenAI) -> None:
        completion = await sdk.chat.completions.create(model=BOT, messages=OPEN)
        message = completion.choices[0].message
        assert message.content is not None
        assert message.content.startswith("We are open from 9 to 17")
        assert message.annotations is not None
        citation = message.annotations[0].url_citation
        assert citation.title == "What are your opening hours?"
        assert message.content[citation.start_index : citation.end_index] == "[1]"
        assert completion.usage is not None
        assert completion.usage.total_tokens > 0

    @pytest.mark.usefixtures("knowledge")
    async def test_streamed(self, sdk: AsyncOpenAI) -> None:
        stream = await sdk.chat.completions.create(
            model=BOT, messages=OPEN, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text.startswith("We are open from 9 to 17")
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
        assert chunks[-1].usage is not None
        assert len({chunk.id for chunk in chunks}) == 1

    async def test_stores_nothing(self, chat: Chat, conversation_url: str) -> None:
        bearer = chat.keys.bearer(uuid7())
        body = {"model": BOT, "messages": HELLO}
        assert (await chat.client.post("/v1/chat/completions", json=body, headers=bearer)).status_code == 200
        async with httpx2.AsyncClient(base_url=conversation_url, headers=bearer) as client:
            assert (await client.get("/api/v1/conversations")).json()["data"] == []

    async def test_the_last_message_must_be_a_question(self, sdk: AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="last message"):
            await sdk.chat.completions.create(model=BOT, messages=[{"role": "assistant", "content": "Hm"}])

    async def test_nulls_are_as_if_they_were_not_there(self, chat: Chat) -> None:
        body = {
            "model": BOT,
            "messages": HELLO,
            "stream": None,
            "stop": None,
            "stream_options": {"include_usage": None},
        }
        response = await chat.client.post("/v1/chat/completions", json=body, headers=chat.keys.bearer(uuid7()))
        assert response.status_code == 200


class TestRaw:
    async def test_whole_is_the_providers_own_answer(self, sdk: AsyncOpenAI, model_server: ModelServer) -> None:
        completion = await sdk.chat.completions.create(model="echo", messages=HELLO, seed=7, user="someone")
        assert completion.id == "chatcmpl-script"
        assert completion.choices[0].message.content == "You said: Hello there"
        authorization, body = model_server.requests[-1]
        assert authorization == "Bearer sk-test"
        assert body["seed"] == 7
        assert body["messages"] == HELLO

    async def test_streamed(self, sdk: AsyncOpenAI) -> None:
        stream = await sdk.chat.completions.create(model="echo", messages=HELLO, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert text.strip() == "You said: Hello there"

    async def test_retrieval(self, sdk: AsyncOpenAI) -> None:
        completion = await sdk.chat.completions.create(model="retrieval", messages=HELLO)
        assert completion.model == "retrieval"
        assert completion.choices[0].message.content

    async def test_leaving_stops_the_provider(self, sdk: AsyncOpenAI) -> None:
        asked: list[Any] = [{"role": "user", "content": "Who leaves?"}]
        stream = await sdk.chat.completions.create(model="endless", messages=asked, stream=True)
        assert (await anext(aiter(stream))).choices
        await stream.close()
        async with within(10):
            while "Who leaves?" not in model_server_module.hung_up:
                await asyncio.sleep(0.02)

    async def test_leaving_stops_it_also_before_its_first_word(self, chat: Chat) -> None:
        body = {"model": "hang", "messages": [{"role": "user", "content": "Who waits?"}]}
        with pytest.raises(httpx2.ReadTimeout):
            await chat.client.post("/v1/chat/completions", json=body, headers=chat.keys.bearer(ADA), timeout=0.5)
        async with asyncio.timeout(1):  # its own limit comes later
            while "Who waits?" not in model_server_module.hung_up:
                await asyncio.sleep(0.02)

    async def test_a_compressed_answer_arrives_readable(self, chat: Chat) -> None:
        body = {"model": "echo", "messages": HELLO}
        response = await chat.client.post("/v1/chat/completions", json=body, headers=chat.keys.bearer(ADA))
        assert response.json()["choices"][0]["message"]["content"] == "You said: Hello there"

    async def test_half_an_answer_does_not_look_whole(self, sdk: AsyncOpenAI) -> None:
        with pytest.raises(openai.APIConnectionError):
            await sdk.chat.completions.create(model="half", messages=HELLO)

    @pytest.mark.parametrize(
        ("model", "status"),
        [
            ("refuse", 502),
            ("busy", 503),
            ("broken", 502),
            ("hang", 504),
            ("dead", 502),
            ("unknown", 502),
        ],
    )
    async def test_provider_fails(self, sdk: AsyncOpenAI, model: str, status: int) -> None:
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model=model, messages=HELLO, stream=True)
        assert caught.value.status_code == status
        assert "sk-upstream-secret" not in str(caught.value)

    @pytest.mark.parametrize("model", ["hang-silent", "hang-midway"])
    async def test_provider_says_nothing_more(self, sdk: AsyncOpenAI, model: str) -> None:
        stream = await sdk.chat.completions.create(model=model, messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="did not answer in time") as caught:
            async for _ in stream:
                pass
        assert (caught.value.code, caught.value.type) == ("provider_timeout", "server_error")

    @pytest.mark.parametrize("counted", [False, True])
    async def test_a_silence_is_filled_between_chunks(
        self, chat: Chat, monkeypatch: pytest.MonkeyPatch, counted: bool
    ) -> None:
        monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.05)
        options = {"stream": True, "stream_options": {"include_usage": counted}}
        body = {"model": "halting", "messages": HELLO} | options
        response = await chat.client.post("/v1/chat/completions", json=body, headers=chat.keys.bearer(ADA))
        frames = response.text.split("\n\n")
        assert ": keep-alive" in frames
        told = [json.loads(frame.removeprefix("data: ")) for frame in frames if frame.startswith("data: {")]
        assert "".join(
            chunk["choices"][0]["delta"].get("content", "") for chunk in told if chunk["choices"]
        ).strip() == ("You said: Hello there")
        assert any(chunk.get("usage") for chunk in told) == counted

    @pytest.mark.parametrize("stream", [True, False])
    async def test_a_refusal_is_the_clients_and_no_outage(self, sdk: AsyncOpenAI, stream: bool) -> None:
        for _ in range(FAILURES + 1):
            with pytest.raises(openai.BadRequestError, match="scripted"):
                await sdk.chat.completions.create(model="filtering", messages=HELLO, stream=stream)
        assert await sdk.chat.completions.create(model="echo", messages=HELLO, stream=stream)

    @pytest.mark.parametrize("model", ["cut", "early"])
    async def test_provider_breaks_off(self, sdk: AsyncOpenAI, model: str) -> None:
        def failed() -> float:
            found = (sample for metric in AI_REQUESTS.collect() for sample in metric.samples)
            return sum(
                sample.value
                for sample in found
                if (sample.labels["model"], sample.labels["status"]) == (model, "failed")
            )

        before = failed()
        stream = await sdk.chat.completions.create(model=model, messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            async for _ in stream:
                pass
        async with within(20):
            while failed() == before:  # it is counted after the client was told
                await asyncio.sleep(0.01)


class TestRefusals:
    async def test_unknown_model(self, sdk: AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk.chat.completions.create(model="gpt-99", messages=HELLO)
        assert caught.value.code == "model_not_found"

    @pytest.mark.parametrize("credential", ["nonsense", "sk-nonsense"])
    async def test_no_token(self, sdk: AsyncOpenAI, credential: str) -> None:
        with pytest.raises(openai.AuthenticationError):
            await sdk.with_options(api_key=credential).models.list()

    async def test_no_messages(self, sdk: AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.chat.completions.create(model="echo", messages=[])
        assert caught.value.param == "messages"
