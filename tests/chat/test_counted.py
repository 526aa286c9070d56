"""What clients are told of tokens: also of those that the provider had in its cache, or in which a model thought."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from openai import AsyncOpenAI

from tests.chat.running import Chat, running
from tests.support.identity import Keys

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]
MODELS = pytest.mark.parametrize(
    ("model", "asked", "cached", "said", "thought"), [("aside", 9, 6, 1000, 997), ("thinking", 11, 6, 7, 4)]
)


@pytest.fixture
async def chat(keys: Keys, told: dict[str, Any], running_claude: tuple[Any, str], tmp_path: Any) -> AsyncIterator[Chat]:
    """With `aside` of the model server and `thinking` of Anthropic's, both worded here: moderation blocks answers."""
    [*_, some] = [item for item in told["providers"] if item["name"] == "scripted"]
    claude = some | {"name": "claude", "type": "Anthropic", "base_url": running_claude[1]}
    models = [
        told["models"][0] | {"name": name, "deployments": [{"provider": provider, "model": name, "weight": 1}]}
        for name, provider in (("aside", "scripted"), ("thinking", "claude"))
    ]
    rules = tmp_path / "rules.yaml"
    rules.write_text("words: [forbidden]\n")
    more = {"providers": [*told["providers"], claude], "models": [*told["models"], *models]}
    more |= {"moderation": {"input": "Off", "output": "Block", "provider": None, "rules_file": str(rules)}}
    async with running(keys, Settings.model_validate(told | more)) as service:
        yield service


@pytest.fixture
async def sdk(chat: Chat) -> AsyncIterator[AsyncOpenAI]:
    base, token = f"{chat.client.base_url}/v1", chat.keys.access_token(uuid7())
    async with AsyncOpenAI(base_url=base, api_key=token, max_retries=0, timeout=20) as client:
        yield client


@MODELS
class TestUsage:
    async def test_of_completions(
        self, sdk: AsyncOpenAI, model: str, asked: int, cached: int, said: int, thought: int
    ) -> None:
        whole = (await sdk.chat.completions.create(model=model, messages=HELLO)).usage
        options: Any = {"stream": True, "stream_options": {"include_usage": True}}
        streamed = [chunk async for chunk in await sdk.chat.completions.create(model=model, messages=HELLO, **options)]
        for usage in (whole, streamed[-1].usage):
            assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (asked, said, asked + said)
            assert usage.prompt_tokens_details.cached_tokens == cached
            assert usage.completion_tokens_details.reasoning_tokens == thought

    async def test_of_responses(
        self, sdk: AsyncOpenAI, model: str, asked: int, cached: int, said: int, thought: int
    ) -> None:
        for store in (True, False):
            response = await sdk.responses.create(model=model, input="Hello there", store=store)
            usage = response.usage
            assert usage is not None
            assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (asked, said, asked + said)
            assert usage.input_tokens_details.cached_tokens == cached
            assert usage.output_tokens_details.reasoning_tokens == thought
            if store:
                assert (await sdk.responses.retrieve(response.id)).usage == usage

    async def test_of_runs(
        self, chat: Chat, conversation_url: str, model: str, asked: int, cached: int, said: int, thought: int
    ) -> None:
        user = uuid7()
        counted = {"input_tokens": asked, "output_tokens": said}
        counted |= {"cached_input_tokens": cached, "reasoning_tokens": thought}
        sent = (await chat.send(user, "Hello there", model=model)).json()
        events = await chat.events(user, sent["run_id"])
        [told] = [{name: event[name] for name in counted} for event in events if event["type"] == "usage"]
        async with httpx2.AsyncClient(base_url=conversation_url, headers=chat.keys.bearer(user)) as client:
            found = await client.get(f"/api/v1/conversations/{sent['conversation_id']}/messages")
        assert counted == sent["usage"] == told == found.json()["data"][-1]["usage"]
