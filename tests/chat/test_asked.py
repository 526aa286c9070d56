"""How a client of `/v1` wants to be answered: the model is held to it, or the field is refused by name."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from chatbot_chat.providers.held import EFFORTS, HINTS, KNOBS, LOST, OTHERS, unheld
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from openai import AsyncOpenAI

from tests.chat.running import Chat, running
from tests.support.claude_server import ClaudeServer
from tests.support.identity import BOT, Keys
from tests.support.model_server import ALTERNATING, ModelServer

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]
ALL: dict[str, Any] = {
    "reasoning_effort": "high",
    "verbosity": "low",
    "seed": 7,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "logit_bias": {"50256": -100},
    "service_tier": "flex",
    "prompt_cache_key": "k",
    "temperature": 0.1,
    "top_p": 0.2,
}
RULES = {"input": "Off", "output": "Block", "provider": None}


def client_of(chat: Chat) -> AsyncOpenAI:
    token = chat.keys.access_token(uuid7())
    return AsyncOpenAI(base_url=f"{chat.client.base_url}/v1", api_key=token, max_retries=0, timeout=20)


@pytest.fixture
def more(told: dict[str, Any], running_claude: tuple[Any, str], tmp_path: Any) -> dict[str, Any]:
    """With models of Anthropic's, and moderation of answers, so that each of them is worded here."""
    [*_, some] = [item for item in told["providers"] if item["name"] == "scripted"]
    claude = some | {"name": "claude", "type": "Anthropic", "base_url": running_claude[1]}
    models = [
        told["models"][0] | {"name": name, "deployments": [{"provider": provider, "model": model, "weight": 1}]}
        for name, provider, model in (
            ("claude", "claude", "echo"),
            ("effortless", "claude", "effortless"),
            ("constraining claude", "claude", "constraining"),
            ("overgrown", "claude", "overgrown"),
            *((name, "scripted", name) for name in ("plain", "constraining", *ALTERNATING)),
        )
    ]
    rules = tmp_path / "rules.yaml"
    rules.write_text("words: [forbidden]\n")
    return told | {
        "providers": [*told["providers"], claude],
        "models": [*told["models"], *models],
        "moderation": RULES | {"rules_file": str(rules)},
    }


@pytest.fixture
async def sdk(keys: Keys, more: dict[str, Any]) -> AsyncIterator[AsyncOpenAI]:
    async with running(keys, Settings.model_validate(more)) as chat, client_of(chat) as client:
        yield client


@pytest.fixture
async def assistant(keys: Keys, more: dict[str, Any]) -> AsyncIterator[AsyncOpenAI]:
    """Whose model is a real one, with one of Anthropic's to fall back to."""
    told = more | {"default_model": "echo", "fallbacks": ["claude"]}
    async with running(keys, Settings.model_validate(told)) as chat, client_of(chat) as client:
        yield client


def asked_of(server: ModelServer | ClaudeServer) -> dict[str, Any]:
    return server.requests[-1][1]


class TestCompletions:
    async def test_that_are_worded_here_hold_what_they_are_asked_for(
        self, sdk: AsyncOpenAI, model_server: ModelServer
    ) -> None:
        own = {"top_k": 5, "chat_template_kwargs": {"enable_thinking": False}}
        await sdk.chat.completions.create(model="echo", messages=HELLO, **ALL, extra_body=own)
        assert asked_of(model_server).items() >= (ALL | own).items()

    async def test_that_are_worded_here_are_asked_for_nothing_else(
        self, sdk: AsyncOpenAI, model_server: ModelServer
    ) -> None:
        await sdk.chat.completions.create(model="echo", messages=HELLO)
        assert set(asked_of(model_server)) == {"model", "messages", "stream", "stream_options", "max_tokens"}
        for store in (True, False):
            await sdk.responses.create(model="echo", input="Hello there", store=store)
            assert "temperature" not in asked_of(model_server)

    async def test_of_claude_hold_an_effort(self, sdk: AsyncOpenAI, claude_server: ClaudeServer) -> None:
        usual: dict[str, Any] = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "user": "ada", "n": 1}
        answer = await sdk.chat.completions.create(model="claude", messages=HELLO, reasoning_effort="low", **usual)
        assert answer.choices[0].message.content
        body = asked_of(claude_server)
        assert body["output_config"] == {"effort": "low"}
        assert not usual.keys() & body.keys()

    @pytest.mark.parametrize(
        "body",
        [
            *({name: value} for name, value in ALL.items() if name not in ("prompt_cache_key", "reasoning_effort")),
            *({"reasoning_effort": effort} for effort in ("none", "minimal")),
            {"top_k": 5},
            {"functions": [{"name": "add"}]},
            {"top_logprobs": 2},
        ],
    )
    async def test_of_claude_refuse_by_name_what_they_cannot_hold(
        self, sdk: AsyncOpenAI, claude_server: ClaudeServer, body: dict[str, Any]
    ) -> None:
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError, match=r"leave it out|send tools|have none") as caught:
                await sdk.chat.completions.create(model="claude", messages=HELLO, stream=stream, extra_body=body)
            assert caught.value.param == next(iter(body))
        assert not claude_server.requests

    async def test_of_who_quotes_draw_nothing(self, sdk: AsyncOpenAI) -> None:
        for model in ("retrieval", BOT):
            answer = await sdk.chat.completions.create(model=model, messages=HELLO, temperature=0.1, top_p=0.2, seed=7)
            assert answer.choices[0].message.content
            for name, value in {"reasoning_effort": "low", "stop": "x", "logit_bias": {"1": 1}}.items():
                with pytest.raises(openai.BadRequestError) as caught:
                    await sdk.chat.completions.create(model=model, messages=HELLO, extra_body={name: value})
                assert caught.value.param == name

    async def test_what_a_model_refuses_is_told_by_name(self, sdk: AsyncOpenAI, model_server: ModelServer) -> None:
        """And is not left out from then on, as what we add ourselves is."""
        for _ in range(2):
            for model, asked in (("picky", {"temperature": 0.1}), ("plain", {"reasoning_effort": "low"})):
                with pytest.raises(openai.BadRequestError) as caught:
                    await sdk.chat.completions.create(model=model, messages=HELLO, extra_body=asked)
                [name] = asked
                assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")
                assert asked_of(model_server).items() >= asked.items()
            assert (await sdk.chat.completions.create(model="picky", messages=HELLO)).choices[0].message.content
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.chat.completions.create(model="effortless", messages=HELLO, reasoning_effort="low")
        assert caught.value.param == "reasoning_effort"

    @pytest.mark.parametrize(("model", "times"), [("alternating", 1), ("expecting", 2)])
    async def test_what_is_said_of_something_else_teaches_nothing(
        self, sdk: AsyncOpenAI, model_server: ModelServer, model: str, times: int
    ) -> None:
        with pytest.raises(openai.InternalServerError, match="does not take the request"):
            await sdk.chat.completions.create(model=model, messages=HELLO * 2, user="ada")
        assert len(model_server.requests) == times
        await sdk.chat.completions.create(model=model, messages=HELLO, user="ada")
        assert asked_of(model_server)["user"] == "ada"


TOOL: Any = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}}
CALLING = '[[["add", {"a": 1}]]]'


class TestStrictTools:
    @pytest.mark.parametrize("model", ["constraining", "constraining claude", "overgrown"])
    async def test_that_a_model_refuses_are_told_by_name(self, sdk: AsyncOpenAI, model: str) -> None:
        """And no other client loses its own."""
        for store in (True, False):
            for strict in (True, False):
                tool = TOOL | {"type": "function", "strict": strict}
                asked = sdk.responses.create(model=model, input=CALLING, tools=[tool], store=store)
                if strict:
                    with pytest.raises(openai.BadRequestError, match="strict: false, or a simpler schema") as caught:
                        await asked
                    assert caught.value.param == "tools"
                else:
                    assert [item.type for item in (await asked).output] == ["function_call"]
        for strict in (True, False):
            completion = sdk.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": CALLING}],
                tools=[{"type": "function", "function": TOOL | {"strict": strict}}],
            )
            if strict:
                with pytest.raises(openai.BadRequestError) as caught:
                    await completion
                assert caught.value.param == "tools"
            else:
                assert (await completion).choices[0].message.tool_calls


class TestAssistant:
    async def test_passes_on_how_it_is_to_answer(self, assistant: AsyncOpenAI, model_server: ModelServer) -> None:
        wanted = {name: value for name, value in ALL.items() if name in KNOBS}
        await assistant.chat.completions.create(model=BOT, messages=HELLO, **wanted, extra_body={"user": "x", "x": 1})
        body = asked_of(model_server)
        assert body.items() >= wanted.items()
        assert not {"user", "x"} & body.keys()
        for store in (True, False):
            response = await assistant.responses.create(
                model=BOT, input="Hello there", reasoning={"effort": "high"}, temperature=0.1, store=store
            )
            assert asked_of(model_server).items() >= {"reasoning_effort": "high", "temperature": 0.1}.items()
            assert response.reasoning is not None
            assert (response.reasoning.effort, response.temperature) == ("high", None)

    @pytest.mark.parametrize("model", ["picky", "plain", "claude"])
    async def test_answers_without_a_temperature_where_its_model_takes_none(
        self, keys: Keys, more: dict[str, Any], model_server: ModelServer, claude_server: ClaudeServer, model: str
    ) -> None:
        """Clients send theirs with each request."""
        server = claude_server if model == "claude" else model_server
        told = more | {"default_model": model}
        async with running(keys, Settings.model_validate(told)) as chat, client_of(chat) as client:
            for store in (True, False):
                response = await client.responses.create(
                    model=BOT, input="Hello there", temperature=0.1, top_p=0.9, store=store
                )
                assert (response.status, response.temperature, response.top_p) == ("completed", None, None)
                assert "temperature" not in asked_of(server)
            count = len(server.requests)
            await client.chat.completions.create(model=BOT, messages=HELLO, temperature=0)
        assert len(server.requests) == count + 1
        assert "temperature" not in asked_of(server)
        assert model == "claude" or server.requests[0][1]["temperature"] == 0.1

    async def test_is_asked_at_a_temperature_of_its_own(
        self, assistant: AsyncOpenAI, model_server: ModelServer
    ) -> None:
        for asked, sent in ({}, 0.7), ({"temperature": 0}, 0):
            await assistant.chat.completions.create(model=BOT, messages=HELLO, **asked)
            assert asked_of(model_server)["temperature"] == sent

    @pytest.mark.parametrize("body", [{"service_tier": "priority"}, {"top_k": 5}, {"web_search_options": {}}])
    async def test_refuses_what_is_its_teams(self, assistant: AsyncOpenAI, body: dict[str, Any]) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            await assistant.chat.completions.create(model=BOT, messages=HELLO, extra_body=body)
        assert caught.value.param == next(iter(body))

    async def test_a_fallback_answers_only_if_it_can_be_held_to_it(
        self, keys: Keys, more: dict[str, Any], claude_server: ClaudeServer
    ) -> None:
        told = more | {"default_model": "dead", "fallbacks": ["claude"]}
        async with running(keys, Settings.model_validate(told)) as chat, client_of(chat) as client:
            await client.chat.completions.create(model=BOT, messages=HELLO, reasoning_effort="low")
            assert asked_of(claude_server)["output_config"] == {"effort": "low"}
            await client.chat.completions.create(model=BOT, messages=HELLO, temperature=0.1)
            claude_server.requests.clear()
            with pytest.raises(openai.InternalServerError, match="Provider dead"):
                await client.chat.completions.create(model=BOT, messages=HELLO, seed=7)
        assert not claude_server.requests


WAYS: list[dict[str, Any]] = [{}, {"background": True}, {"store": False}]
HOW = pytest.mark.parametrize("how", WAYS)


async def ended(sdk: AsyncOpenAI, response: Any) -> Any:
    """Of one in the background its end, by following its events."""
    if response.status != "in_progress":
        return response
    events = [event async for event in await sdk.responses.retrieve(response.id, stream=True)]
    return events[-1].response  # type: ignore[union-attr]


class TestResponses:
    @HOW
    async def test_effort_and_verbosity_reach_the_model(
        self, sdk: AsyncOpenAI, model_server: ModelServer, how: dict[str, Any]
    ) -> None:
        more: dict[str, Any] = {"reasoning": {"effort": "high", "summary": "auto"}, "text": {"verbosity": "low"}}
        more |= {"service_tier": "flex", "extra_body": {"seed": 7}, "include": ["reasoning.encrypted_content"]}
        response = await ended(sdk, await sdk.responses.create(model="echo", input="Hello there", **more, **how))
        assert response.status == "completed"
        wanted = {"reasoning_effort": "high", "verbosity": "low", "service_tier": "flex", "seed": 7}
        assert asked_of(model_server).items() >= wanted.items()
        assert (response.reasoning.effort, response.text.verbosity) == ("high", "low")
        if response.store:
            assert await sdk.responses.retrieve(response.id) == response

    @HOW
    async def test_of_claude(self, sdk: AsyncOpenAI, claude_server: ClaudeServer, how: dict[str, Any]) -> None:
        form: Any = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}}
        for more in ({}, {"text": form}):
            response = await sdk.responses.create(
                model="claude", input="Hello there", reasoning={"effort": "max"}, **more, **how
            )
            response = await ended(sdk, response)
            assert (response.status, response.temperature, response.top_p) == ("completed", None, None)
            config = asked_of(claude_server)["output_config"]
            assert (config["effort"], "format" in config) == ("max", bool(more))

    @pytest.mark.parametrize("store", [True, False])
    async def test_with_tools_of_the_client(self, sdk: AsyncOpenAI, model_server: ModelServer, store: bool) -> None:
        tool: Any = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": None}
        await sdk.responses.create(
            model="agent", input='[[["add", {}]]]', tools=[tool], reasoning={"effort": "low"}, top_p=0.5, store=store
        )
        assert asked_of(model_server).items() >= {"reasoning_effort": "low", "top_p": 0.5}.items()

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({"reasoning": {"effort": "minimal"}}, "reasoning.effort"),
            ({"text": {"verbosity": "high"}}, "text.verbosity"),
            ({"temperature": 0.1}, "temperature"),
            ({"top_p": 0.1}, "top_p"),
            ({"service_tier": "priority"}, "service_tier"),
            ({"top_k": 5}, "top_k"),
        ],
    )
    async def test_of_claude_refuse_by_name_what_they_cannot_hold(
        self, sdk: AsyncOpenAI, claude_server: ClaudeServer, body: dict[str, Any], param: str
    ) -> None:
        for how in WAYS:
            with pytest.raises(openai.BadRequestError) as caught:
                await sdk.responses.create(model="claude", input="Hello there", extra_body=body, **how)
            assert caught.value.param == param
        assert not claude_server.requests

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
            ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
            ({"include": ["message.output_text.logprobs"]}, "include"),
            ({"top_logprobs": 3}, "top_logprobs"),
            ({"context_management": [{"type": "compaction"}]}, "context_management"),
            ({"max_tokens": 5}, "max_tokens"),
            ({"stop": "x"}, "stop"),
        ],
    )
    async def test_of_any_model_refuse_what_is_not_there(
        self, sdk: AsyncOpenAI, body: dict[str, Any], param: str
    ) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.responses.create(model="echo", input="Hello there", extra_body=body)
        assert caught.value.param == param

    async def test_a_hint_that_is_refused_is_left_out(self, sdk: AsyncOpenAI, model_server: ModelServer) -> None:
        """It changes nothing that the client would see."""
        for model in ("echo", "plain", "plain"):
            response = await sdk.responses.create(model=model, input="Hello there", user="ada")
            assert response.status == "completed"
        assert [body.get("user") for _, body in model_server.requests] == ["ada", "ada", None, None]

    @HOW
    async def test_say_what_their_model_refused(self, sdk: AsyncOpenAI, how: dict[str, Any]) -> None:
        asked: dict[str, Any] = {"model": "plain", "input": "Hello there", "reasoning": {"effort": "low"}} | how
        if "background" not in how:
            with pytest.raises(openai.BadRequestError, match=r"reasoning\.effort") as caught:
                await sdk.responses.create(**asked)
            assert (caught.value.param, caught.value.code) == ("reasoning.effort", "unsupported_parameter")
        [*_, last] = [event async for event in await sdk.responses.create(**asked, stream=True)]
        assert "'reasoning.effort'" in last.response.error.message


class TestHeld:
    def test_what_is_known_is_one_thing(self) -> None:
        kinds = (HINTS, KNOBS, OTHERS, frozenset(LOST))
        assert len(frozenset().union(*kinds)) == sum(map(len, kinds))

    def test_by_each_deployment_of_a_model(self) -> None:
        assert unheld({"openai"}, {"seed": 1}) is None
        assert unheld({"openai", "anthropic"}, {"seed": 1}) == ("seed", "leave it out")
        assert all(unheld({"openai", "anthropic"}, {"reasoning_effort": effort}) is None for effort in EFFORTS)

    def test_what_nobody_knows_is_tolerated(self) -> None:
        assert unheld({"anthropic"}, {"x_trace": "1"}) is None
