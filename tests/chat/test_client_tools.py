"""Tools of the client on raw models whose answers we word, as the official SDK sees them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from chatbot_chat.agent import CALLS
from chatbot_chat.providers.breaker import FAILURES
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.chat.running import Chat, running
from tests.support.claude_server import ClaudeServer
from tests.support.identity import BOT, Keys
from tests.support.model_server import SKIPPED, ModelServer

NUMBERS = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}
ADD: Any = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": NUMBERS}}
NOW: Any = {"type": "function", "function": {"name": "now"}}
ASKED: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": '[[["add", {"a": 1}]]]'}]


@pytest.fixture
async def sdk(keys: Keys, told: dict[str, Any], running_claude: tuple[Any, str]) -> AsyncIterator[AsyncOpenAI]:
    """Of a chat service that has models of Anthropic too: `claude-agent`, `claude-calling`."""
    [*_, some] = [item for item in told["providers"] if item["name"] == "scripted"]
    told["providers"].append(some | {"name": "claude", "type": "Anthropic", "base_url": running_claude[1]})
    for script in ("agent", "calling", "signing", "formal"):
        deployments = [{"provider": "claude", "model": script, "weight": 1}]
        told["models"].append(told["models"][0] | {"name": f"claude-{script}", "deployments": deployments})
    async with running(keys, Settings.model_validate(told)) as chat, client_of(chat) as client:
        yield client


def client_of(chat: Chat) -> AsyncOpenAI:
    token = chat.keys.access_token(uuid7())
    return AsyncOpenAI(base_url=f"{chat.client.base_url}/v1", api_key=token, max_retries=0, timeout=20)


class TestAnthropic:
    async def test_there_and_back(self, sdk: AsyncOpenAI, claude_server: ClaudeServer) -> None:
        first = await sdk.chat.completions.create(model="claude-agent", messages=ASKED, tools=[ADD], stop="END")
        [choice] = first.choices
        assert claude_server.requests[-1][1]["stop_sequences"] == ["END"]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        [call] = choice.message.tool_calls or []
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 1})

        result: Any = {"role": "tool", "tool_call_id": call.id, "content": "42"}
        back: list[Any] = [*ASKED, choice.message.model_dump(exclude_none=True), result]
        second = await sdk.chat.completions.create(model="claude-agent", messages=back, tools=[ADD])
        assert (second.choices[0].finish_reason, second.choices[0].message.content) == ("stop", "42")
        _, body = claude_server.requests[-1]
        assert body["system"] == "Be brief."
        assert body["tools"] == [{"name": "add", "description": "Adds.", "input_schema": NUMBERS}]
        assert body["messages"][1]["content"][0] | {"id": ""} == {
            "type": "tool_use",
            "id": "",
            "name": "add",
            "input": {"a": 1},
        }

    async def test_thoughts_come_back_with_the_call(self, sdk: AsyncOpenAI) -> None:
        """As the client got them: who leaves them out is refused by the model."""
        first = await sdk.chat.completions.create(model="claude-signing", messages=ASKED, tools=[ADD])
        message = first.choices[0].message.model_dump(exclude_none=True)
        result: Any = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "42"}
        back: list[Any] = [*ASKED, message, result]
        second = await sdk.chat.completions.create(model="claude-signing", messages=back, tools=[ADD])
        assert second.choices[0].message.content == "42"
        del message["tool_calls"][0]["extra_content"]
        with pytest.raises(openai.APIStatusError):
            await sdk.chat.completions.create(model="claude-signing", messages=back, tools=[ADD])

    async def test_streamed(self, sdk: AsyncOpenAI) -> None:
        async with sdk.chat.completions.stream(model="claude-calling", messages=ASKED, tools=[ADD, NOW]) as stream:
            completion = await stream.get_final_completion()
        [choice] = completion.choices
        assert choice.finish_reason == "tool_calls"
        found = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
        assert found == [("add", '{"a": 1, "b": 2}'), ("now", "{}")]

    @pytest.mark.parametrize(
        ("choice", "sent"),
        [
            ("auto", None),
            ("none", {"type": "none"}),
            ("required", {"type": "any"}),
            ({"type": "function", "function": {"name": "add"}}, {"type": "tool", "name": "add"}),
        ],
    )
    async def test_choice(self, sdk: AsyncOpenAI, claude_server: ClaudeServer, choice: Any, sent: Any) -> None:
        asked: dict[str, Any] = {"model": "claude-calling", "messages": ASKED, "tools": [ADD], "tool_choice": choice}
        await sdk.chat.completions.create(**asked)
        assert claude_server.requests[-1][1].get("tool_choice") == sent
        await sdk.chat.completions.create(**asked, parallel_tool_calls=False)
        one = {} if choice == "none" else {"disable_parallel_tool_use": True}
        assert claude_server.requests[-1][1]["tool_choice"] == (sent or {"type": "auto"}) | one

    @pytest.mark.parametrize(
        ("body", "param", "words"),
        [
            ({"tools": [{"type": "custom"}]}, "tools", "no tool of type function"),
            ({"tool_choice": "required"}, "tool_choice", "names one of the tools"),
            ({"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice", "names"),
            ({"response_format": {"type": "json_object"}}, "response_format", "json_object"),
            ({"messages": [*ASKED, {"role": "assistant", "content": "Hm"}]}, "messages", "last message"),
            (
                {"messages": [*ASKED, {"role": "assistant", "tool_calls": [{"id": "1", "function": {}}]}, ASKED[1]]},
                "messages",
                "name and arguments",
            ),
            (
                {
                    "messages": [
                        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "x", "arguments": ""}}]},
                        ASKED[1],
                    ]
                },
                "messages",
                "'1' is missing",
            ),
            ({"messages": [*ASKED, {"role": "tool", "content": "x"}]}, "messages", "tool_call_id"),
            ({"messages": [{"role": "user", "content": "x" * 2_000_000}]}, None, "tokens"),
        ],
    )
    async def test_what_cannot_be_done(
        self, sdk: AsyncOpenAI, body: dict[str, Any], param: str | None, words: str
    ) -> None:
        with pytest.raises(openai.APIStatusError, match=words) as caught:
            await sdk.chat.completions.create(**({"model": "claude-agent", "messages": ASKED} | body))
        assert caught.value.param == param
        assert caught.value.status_code == 400

    @pytest.mark.parametrize("thoughts", [5, "x", {"a": 1}, ["x"], [{"type": "text", "text": "x"}]])
    async def test_thoughts_that_are_none_are_refused(self, sdk: AsyncOpenAI, thoughts: Any) -> None:
        with pytest.raises(openai.BadRequestError, match=r"a list of blocks|a block of thoughts") as caught:
            await sdk.chat.completions.create(model="claude-agent", messages=back_with({"thinking": thoughts}))
        assert caught.value.param == "messages"

    @pytest.mark.parametrize(
        "call",
        [{"extra_content": {"thinking": 5}}, {"function": {"name": "add", "arguments": r'{"a": "\ud800"}'}}],
    )
    async def test_what_one_client_sends_is_nobody_elses_outage(self, sdk: AsyncOpenAI, call: Any) -> None:
        for _ in range(FAILURES):
            with pytest.raises(openai.BadRequestError):
                await sdk.chat.completions.create(model="claude-agent", messages=back_with({}, **call))
        answered = await sdk.chat.completions.create(model="claude-agent", messages=ASKED, tools=[ADD])
        assert answered.choices[0].message.tool_calls


def back_with(extra: dict[str, Any], **call: Any) -> list[Any]:
    """The result of a call that had this beside it."""
    made = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}, "extra_content": extra}
    called = {"role": "assistant", "content": "", "tool_calls": [made | call]}
    return [*ASKED, called, {"role": "tool", "tool_call_id": "1", "content": "42"}]


class TestOthers:
    @pytest.mark.parametrize("model", [BOT, "retrieval"])
    async def test_may_be_offered_tools_and_not_be_made_to_call(self, sdk: AsyncOpenAI, model: str) -> None:
        hello: list[Any] = [{"role": "user", "content": "Hello"}]
        answer = await sdk.chat.completions.create(model=model, messages=hello, tools=[ADD])
        assert answer.choices[0].message.content
        for tools in ([ADD], openai.omit):
            with pytest.raises(openai.BadRequestError, match="does not call tools"):
                await sdk.chat.completions.create(model=model, messages=hello, tools=tools, tool_choice="required")

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            (
                {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
                "messages",
            ),
            ({"logprobs": True}, "logprobs"),
        ],
    )
    async def test_what_is_worded_here_is_not_left_out_without_a_word(
        self, sdk: AsyncOpenAI, body: dict[str, Any], param: str
    ) -> None:
        hello: list[Any] = [{"role": "user", "content": "Hello"}]
        for model in (BOT, "claude-agent"):
            with pytest.raises(openai.BadRequestError) as caught:
                await sdk.chat.completions.create(**({"model": model, "messages": hello} | body))
            assert caught.value.param == param

    async def test_a_format_goes_to_who_can_hold_it(self, sdk: AsyncOpenAI, model_server: Any) -> None:
        form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
        hello: list[Any] = [{"role": "user", "content": "Hello"}]
        await sdk.chat.completions.create(model="echo", messages=hello, response_format=form, tools=[ADD])
        assert model_server.requests[-1][1]["response_format"] == form
        with pytest.raises(openai.BadRequestError, match="plain text"):
            await sdk.chat.completions.create(model=BOT, messages=hello, response_format=form)


QUESTION = '[[["add", {"a": 1}]], [["add", {"a": 2}]]]'
"""Makes the model call the client's tool twice, then repeat what came of it."""
FUNCTION: Any = {"type": "function", "name": "add", "description": "Adds.", "parameters": NUMBERS, "strict": None}


def output_of(response: Any, output: str) -> Any:
    """What came of the one call of a response."""
    [call] = response.output
    assert (call.type, call.name) == ("function_call", "add")
    return {"type": "function_call_output", "call_id": call.call_id, "output": output}


class Answer(BaseModel):
    answer: int


class TestFormats:
    """By the SDK's own helpers."""

    @pytest.mark.parametrize("store", [True, False])
    @pytest.mark.parametrize("model", ["formal", "claude-formal"])
    async def test_of_responses(self, sdk: AsyncOpenAI, model: str, store: bool) -> None:
        response = await sdk.responses.parse(model=model, input="What?", text_format=Answer, store=store)
        assert response.output_parsed == Answer(answer=42)
        form: Any = response.text and response.text.format
        assert (form.type, form.name, form.strict) == ("json_schema", "Answer", True)
        if store:
            assert (await sdk.responses.retrieve(response.id)).text == response.text
            calling = await sdk.responses.parse(
                model=model, input="What?", text_format=Answer, tools=[FUNCTION], previous_response_id=response.id
            )
            assert calling.output_parsed == Answer(answer=42)

    async def test_of_completions_that_are_worded_here(self, sdk: AsyncOpenAI) -> None:
        asked: list[Any] = [{"role": "user", "content": "What?"}]
        completion = await sdk.chat.completions.parse(model="claude-formal", messages=asked, response_format=Answer)
        assert completion.choices[0].message.parsed == Answer(answer=42)

    async def test_any_json_only_where_the_model_knows_it(self, sdk: AsyncOpenAI) -> None:
        form: Any = {"format": {"type": "json_object"}}
        assert json.loads((await sdk.responses.create(model="formal", input="What?", text=form)).output_text)
        for model in ("claude-formal", "retrieval", BOT):
            with pytest.raises(openai.BadRequestError, match="cannot be held to the format 'json_object'") as caught:
                await sdk.responses.create(model=model, input="What?", text=form)
            assert caught.value.param == "text"
        form["format"] = {"type": "json_schema", "name": "x"}
        with pytest.raises(openai.BadRequestError, match="has a name and a schema"):
            await sdk.responses.create(model="formal", input="What?", text=form)


class TestResponses:
    @pytest.mark.parametrize("model", ["agent", "claude-agent", "signing", "claude-signing"])
    async def test_go_on_from_the_response_that_called(
        self, sdk: AsyncOpenAI, model_server: ModelServer, model: str
    ) -> None:
        told: dict[str, Any] = {"model": model, "tools": [FUNCTION], "instructions": "Be brief."}
        told["reasoning"] = {"effort": "low"}
        first = await sdk.responses.create(**told, input=QUESTION)
        assert json.loads(first.output[0].arguments) == {"a": 1}  # type: ignore[union-attr]
        back = {"previous_response_id": first.id}
        second = await sdk.responses.create(**told, **back, input=[output_of(first, "41")])
        back = {"previous_response_id": second.id}
        third = await sdk.responses.create(**told, **back, input=[output_of(second, "42")])
        assert (third.status, third.output_text) == ("completed", "41 & 42")
        assert third.conversation == second.conversation == first.conversation
        for response in (first, second, third):
            assert await sdk.responses.retrieve(response.id) == response
        items: list[Any] = [item async for item in sdk.responses.input_items.list(second.id, order="asc")]
        assert items[0].content[0].text == QUESTION
        assert [(item.type, item.call_id) for item in items[1:]] == [
            ("function_call", items[1].call_id),
            ("function_call_output", items[1].call_id),
        ]
        assert (items[1].call_id, items[2].output) == (first.output[0].call_id, "41")  # type: ignore[union-attr]
        # What follows is told of question and answer, and not of the way there.
        await sdk.responses.create(model="echo", input="And?", previous_response_id=third.id)
        _, body = model_server.requests[-1]
        assert [item["content"] for item in body["messages"]] == [QUESTION, "41 & 42", "And?"]
        assert SKIPPED not in str(model_server.requests)

    async def test_streamed(self, sdk: AsyncOpenAI) -> None:
        async with sdk.responses.stream(model="agent", input=QUESTION, tools=[FUNCTION]) as stream:
            events = [event async for event in stream]
            response = await stream.get_final_response()
        kinds = [event.type.removeprefix("response.") for event in events]
        assert kinds == [
            *("created", "in_progress", "output_item.added", "function_call_arguments.delta"),
            *("function_call_arguments.done", "output_item.done", "completed"),
        ]
        assert output_of(response, "")["call_id"]
        rest = [e async for e in await sdk.responses.retrieve(response.id, stream=True, starting_after=3)]
        assert [(event.type, event.sequence_number) for event in rest] == [
            (event.type, event.sequence_number) for event in events[4:]
        ]

    @pytest.mark.parametrize("model", ["agent", "signing", "claude-signing"])
    @pytest.mark.parametrize("store", [True, False])
    async def test_with_all_that_was_said_sent_along(
        self, sdk: AsyncOpenAI, model_server: ModelServer, store: bool, model: str
    ) -> None:
        told: dict[str, Any] = {"model": model, "tools": [FUNCTION], "store": store}
        said: list[Any] = [{"role": "user", "content": QUESTION}]
        for output in ("41", "42"):
            response = await sdk.responses.create(**told, input=said)
            said += [*response.output, output_of(response, output)]
        assert (await sdk.responses.create(**told, input=said)).output_text == "41 & 42"
        assert SKIPPED not in str(model_server.requests)

    async def test_another_question_after_tools_is_refused_or_told_with_all_that_came_of_them(
        self, sdk: AsyncOpenAI, model_server: ModelServer
    ) -> None:
        said: list[Any] = [{"role": "user", "content": '[[["add", {"a": 1}]]]'}]
        called = await sdk.responses.create(model="agent", tools=[FUNCTION], input=said)
        said += [*called.output, output_of(called, "41"), {"role": "user", "content": "And?"}]
        with pytest.raises(openai.BadRequestError, match="store: false"):
            await sdk.responses.create(model="echo", input=said)
        await sdk.responses.create(model="echo", input=said, store=False)
        _, body = model_server.requests[-1]
        assert [item["role"] for item in body["messages"]] == ["user", "assistant", "tool", "user"]

    async def test_of_many_calls_all_are_the_clients(self, sdk: AsyncOpenAI) -> None:
        many = json.dumps([[["add", {"a": number}] for number in range(CALLS + 1)]])
        async with sdk.responses.stream(model="agent", input=many, tools=[FUNCTION]) as stream:
            response = await stream.get_final_response()
        stored = await sdk.responses.retrieve(response.id)
        assert [item.id for item in stored.output] == [item.id for item in response.output]
        assert len(stored.output) == CALLS + 1
        outputs: list[Any] = [
            {"type": "function_call_output", "call_id": call.call_id, "output": "1"}  # type: ignore[union-attr]
            for call in response.output
        ]
        back: Any = {"model": "agent", "tools": [FUNCTION], "previous_response_id": response.id}
        assert (await sdk.responses.create(**back, input=outputs)).output_text == " & ".join("1" * (CALLS + 1))

    async def test_streamed_and_not_stored(self, sdk: AsyncOpenAI) -> None:
        told: dict[str, Any] = {"model": "claude-agent", "tools": [FUNCTION], "store": False}
        async with sdk.responses.stream(**told, input=QUESTION) as stream:
            assert output_of(await stream.get_final_response(), "")

    async def test_a_choice_reaches_the_model(self, sdk: AsyncOpenAI, model_server: ModelServer) -> None:
        choice: Any = {"type": "function", "name": "add"}
        response = await sdk.responses.create(
            model="agent", input=QUESTION, tools=[FUNCTION], tool_choice=choice, parallel_tool_calls=False, top_p=0.5
        )
        assert response.tools[0].name == "add"  # type: ignore[union-attr]
        assert response.parallel_tool_calls is False
        _, body = model_server.requests[-1]
        assert body["tool_choice"] == {"type": "function", "function": {"name": "add"}}
        assert (body["parallel_tool_calls"], body["top_p"]) == (False, 0.5)

    @pytest.mark.parametrize("strict", [True, False])
    async def test_a_strict_one_is_told_to_be(
        self, sdk: AsyncOpenAI, model_server: ModelServer, claude_server: ClaudeServer, strict: bool
    ) -> None:
        tool: Any = FUNCTION | {"strict": strict}
        for store in (True, False):
            for model in ("agent", "claude-agent"):
                await sdk.responses.create(model=model, input=QUESTION, tools=[tool], store=store)
            [told] = model_server.requests[-1][1]["tools"]
            [asked] = claude_server.requests[-1][1]["tools"]
            assert told["function"].get("strict", False) == asked.get("strict", False) == strict

    async def test_go_on_in_the_conversation_that_was_named(self, sdk: AsyncOpenAI, model_server: ModelServer) -> None:
        """By its name alone: its newest response is the one that called."""
        called = await sdk.responses.create(model="agent", input=QUESTION, tools=[FUNCTION])
        assert called.conversation
        place: Any = {"conversation": called.conversation.id}
        call_id = called.output[0].call_id  # type: ignore[union-attr]
        words = f"No tool output found for function call {call_id}. Send it with conversation '{place['conversation']}'"
        for conversation in (called.conversation.id, {"id": called.conversation.id}):
            with pytest.raises(openai.BadRequestError, match=words):
                await sdk.responses.create(model="echo", input="And?", conversation=conversation)
        again = await sdk.responses.create(model="agent", tools=[FUNCTION], **place, input=[output_of(called, "41")])
        last = await sdk.responses.create(model="agent", tools=[FUNCTION], **place, input=[output_of(again, "42")])
        assert (last.output_text, last.conversation) == ("41 & 42", called.conversation)
        await sdk.responses.create(model="echo", input="And?", **place)
        _, body = model_server.requests[-1]
        assert [item["content"] for item in body["messages"]] == [QUESTION, "41 & 42", "And?"]
        with pytest.raises(openai.BadRequestError, match="belong to no call"):
            await sdk.responses.create(model="agent", tools=[FUNCTION], **place, input=[output_of(called, "41")])

    async def test_what_cannot_be_done(self, sdk: AsyncOpenAI) -> None:
        called = await sdk.responses.create(
            model="agent", input='[[["add", {"a": 1}], ["add", {"a": 2}]]]', tools=[FUNCTION]
        )
        call_id = called.output[0].call_id  # type: ignore[union-attr]
        one: Any = {"type": "function_call_output", "call_id": call_id, "output": "1"}
        plain = await sdk.responses.create(model="echo", input="Hello")
        for body, words in (
            ({"previous_response_id": called.id, "input": [one]}, "is missing"),
            ({"previous_response_id": called.id, "input": "And?"}, f"No tool output found for function call {call_id}"),
            ({"previous_response_id": plain.id, "input": [one]}, "belong to no call"),
            ({"previous_response_id": called.id, "input": [one, {"role": "user", "content": "And?"}]}, "store: false"),
            ({"input": QUESTION, "tool_choice": "required"}, "names one of the tools"),
            ({"model": "retrieval", "input": "x", "tools": [FUNCTION], "tool_choice": "required"}, "does not call"),
        ):
            with pytest.raises(openai.BadRequestError, match=words):
                await sdk.responses.create(**({"model": "agent"} | body))  # type: ignore[call-overload]
