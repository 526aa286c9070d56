"""`/v1/embeddings` as the official SDK sees it, unmodified: by the model that searches the knowledge base."""

import asyncio
from math import ceil
from typing import Any

import asyncpg
import openai
import pytest
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from openai import AsyncOpenAI

from tests.chat.running import Face, running
from tests.support.identity import Keys
from tests.support.patience import within

MODEL = "all-MiniLM-L6-v2"


def cosine(one: list[float], two: list[float]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))


class TestEmbeddings:
    async def test_the_model_is_listed(self, sdk: AsyncOpenAI) -> None:
        assert [model.id async for model in sdk.models.list()][-1] == MODEL
        assert (await sdk.models.retrieve(MODEL)).owned_by == "embeddings"

    async def test_both_encodings_say_the_same(self, sdk: AsyncOpenAI) -> None:
        texts = ["The weather is lovely today.", "It's so sunny outside!"]
        packed = await sdk.embeddings.create(model=MODEL, input=texts, dimensions=384)  # the SDK asks for base64
        plain = await sdk.embeddings.create(model=MODEL, input=texts, encoding_format="float")
        for one, other in zip(packed.data, plain.data, strict=True):
            assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert [item.index for item in plain.data] == [0, 1]
        assert cosine(plain.data[0].embedding, plain.data[1].embedding) == pytest.approx(0.6660, abs=1e-4)
        assert plain.usage.total_tokens == plain.usage.prompt_tokens > 0

    async def test_many_keep_their_order(self, sdk: AsyncOpenAI) -> None:
        texts = [f"{number}" for number in range(40)]
        many = await sdk.embeddings.create(model=MODEL, input=texts)
        alone = await sdk.embeddings.create(model=MODEL, input=texts[37])
        assert [item.index for item in many.data] == list(range(40))
        assert many.data[37].embedding == pytest.approx(alone.data[0].embedding, abs=1e-5)

    async def test_is_entered_into_the_ledger(self, face: Face, sdk: AsyncOpenAI, sql: asyncpg.Connection) -> None:
        answer = await sdk.embeddings.create(model=MODEL, input="word " * 1234)
        query = "SELECT output_tokens FROM ledger WHERE user_id = $1 AND model = $2 AND input_tokens = $3"
        async with within(20):
            while await sql.fetchval(query, face.user_id, MODEL, answer.usage.prompt_tokens) != 0:
                await asyncio.sleep(0.05)

    async def test_cost_what_they_are_said_to(self, keys: Keys, told: dict[str, Any], sql: asyncpg.Connection) -> None:
        bob, limit = uuid7(), {"tokens_per_day": None, "tokens_per_month": None, "cost_per_month": None}
        budgets = {"per_user": limit | {"cost_per_day": 30}, "total": limit | {"cost_per_day": None}, "currency": "EUR"}
        settings = Settings.model_validate(told | {"embeddings_price": "0.02", "budgets": budgets})
        async with (
            running(keys, settings) as chat,
            AsyncOpenAI(base_url=f"{chat.client.base_url}/v1", api_key=keys.access_token(bob), max_retries=0) as sdk,
        ):
            tokens = (await sdk.embeddings.create(model=MODEL, input="word " * 1000)).usage.total_tokens
            with pytest.raises(openai.RateLimitError, match="budget"):
                await sdk.embeddings.create(model=MODEL, input="word " * 1000)
        assert 1000 <= tokens <= 1400
        async with within(20):
            while (cost := await sql.fetchval("SELECT cost FROM ledger WHERE user_id = $1", bob)) is None:
                await asyncio.sleep(0.05)
        assert cost == ceil(tokens * 0.02)

    async def test_another_model(self, sdk: AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match=MODEL) as caught:
            await sdk.embeddings.create(model="text-embedding-3-small", input="x")
        assert caught.value.code == "model_not_found"

    @pytest.mark.parametrize(
        ("body", "param", "words"),
        [
            ({"input": [1, 2, 3]}, "input", "tokens"),
            ({"input": [[1, 2], [3]]}, "input", "tokens"),
            ({"input": []}, "input", "a list of texts"),
            ({"input": ["x", " "]}, "input", "blank"),
            ({"input": ["x"] * 257}, "input", "256 texts"),
            ({"input": "x" * 200_001}, "input", "200000 characters"),
            ({"input": ["x" * 200_000] * 3}, "input", "together 500000"),
            ({"dimensions": 256}, "dimensions", "384 dimensions"),
            ({"encoding_format": "hex"}, "encoding_format", "base64"),
        ],
    )
    async def test_what_cannot_be_done(self, sdk: AsyncOpenAI, body: dict[str, Any], param: str, words: str) -> None:
        with pytest.raises(openai.BadRequestError, match=words) as caught:
            await sdk.embeddings.create(**({"model": MODEL, "input": "x"} | body))
        assert caught.value.param == param
