"""`/v1/responses` as the official SDK sees it, unmodified: stored ones are turns, the others leave nothing behind."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from chatbot_chat.openai_api.responses.wording import run_id_of
from chatbot_chat.runs.log import RunLog
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent
from redis.asyncio import Redis

from tests.chat.running import Chat, running
from tests.support.identity import BOT
from tests.support.model_server import ModelServer, hung_up
from tests.support.patience import within

HELLO = "Hello there"
SAID = "You said: Hello there"


def client_of(chat: Chat, user_id: Any) -> AsyncOpenAI:
    base = f"{chat.client.base_url}/v1"
    return AsyncOpenAI(base_url=base, api_key=chat.keys.access_token(user_id), max_retries=0, timeout=20)


def text_of(events: list[Any]) -> str:
    return "".join(event.delta for event in events if isinstance(event, ResponseTextDeltaEvent))


def numbers(events: list[Any]) -> list[int]:
    return [event.sequence_number for event in events]


class TestStored:
    @pytest.mark.usefixtures("knowledge")
    async def test_the_assistant_cites(self, sdk: AsyncOpenAI) -> None:
        response = await sdk.responses.create(model=BOT, input="When are you open?", metadata={"ticket": "7"})
        assert response.status == "completed"
        assert response.output_text.startswith("We are open from 9 to 17")
        message: Any = response.output[0]
        [annotation] = message.content[0].annotations
        assert annotation.type == "url_citation"
        assert response.output_text[annotation.start_index : annotation.end_index] == "[1]"
        assert response.usage is not None
        assert response.usage.total_tokens > 0
        assert await sdk.responses.retrieve(response.id) == response
        assert response.metadata == {"ticket": "7"}

    @pytest.mark.usefixtures("knowledge")
    async def test_streamed_as_typed_events(self, sdk: AsyncOpenAI) -> None:
        events = [event async for event in await sdk.responses.create(model=BOT, input="When open?", stream=True)]
        kinds = list(dict.fromkeys(event.type.removeprefix("response.") for event in events))
        assert kinds == [
            *("created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"),
            *("output_text.annotation.added", "output_text.done", "content_part.done", "output_item.done", "completed"),
        ]
        assert numbers(events) == list(range(len(events)))
        response = events[-1].response  # type: ignore[union-attr]
        assert response.output_text == text_of(events)
        assert await sdk.responses.retrieve(response.id) == response

    async def test_the_sdks_own_accumulator_takes_the_stream(self, sdk: AsyncOpenAI) -> None:
        async with sdk.responses.stream(model="echo", input=HELLO) as stream:
            assert (await stream.get_final_response()).output_text.strip() == SAID

    async def test_a_raw_model_is_asked_as_it_is(self, sdk: AsyncOpenAI, model_server: ModelServer) -> None:
        response = await sdk.responses.create(
            model="echo", input=HELLO, instructions="Be brief.", temperature=0.1, top_p=0.2, max_output_tokens=50
        )
        assert (response.model, response.output_text.strip()) == ("echo", SAID)
        assert (response.instructions, response.temperature, response.top_p) == ("Be brief.", 0.1, 0.2)
        assert (response.truncation, response.parallel_tool_calls, response.max_tool_calls) == ("auto", True, None)
        _, body = model_server.requests[-1]
        assert body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": HELLO},
        ]
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.1, 0.2, 50)
        assert "tools" not in body

    async def test_goes_on_after_the_previous_one(self, sdk: AsyncOpenAI, model_server: ModelServer) -> None:
        first = await sdk.responses.create(model="echo", input="One", instructions="Only for the first.")
        await sdk.responses.create(model="echo", input="Two", previous_response_id=first.id)
        again = await sdk.responses.create(model="echo", input="Also two", previous_response_id=first.id)
        _, body = model_server.requests[-1]
        assert [item["content"].strip() for item in body["messages"]] == ["One", "You said: One", "Also two"]
        assert again.previous_response_id == first.id
        assert again.conversation == first.conversation

    async def test_what_was_said_before_is_stored_with_it(self, sdk: AsyncOpenAI, model_server: ModelServer) -> None:
        said: list[Any] = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "I am Ada."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello Ada."}]},
            {"role": "user", "content": "Who am I?"},
        ]
        first = await sdk.responses.create(model="echo", input=said)
        await sdk.responses.create(model="echo", input="And now?", previous_response_id=first.id)
        _, body = model_server.requests[-1]
        told = [item["content"].strip() for item in body["messages"]]
        assert told[:3] == ["I am Ada.", "Hello Ada.", "Who am I?"]
        assert told[-1] == "And now?"
        listed = sdk.responses.input_items.list
        spoken = [(item.role, item.content[0].text) async for item in listed(first.id, order="asc", limit=2)]  # type: ignore[union-attr]
        assert spoken == [("user", "I am Ada."), ("assistant", "Hello Ada."), ("user", "Who am I?")]
        page = await listed(first.id, limit=2)
        assert ([item.content[0].text for item in page.data], page.has_more) == (["Who am I?", "Hello Ada."], True)  # type: ignore[union-attr]
        [last] = (await listed(first.id, after=page.data[-1].id or "")).data
        assert last.id == (await listed(first.id, order="asc", limit=1)).data[0].id
        with pytest.raises(openai.BadRequestError, match="no input item") as caught:
            await listed(first.id, after="msg_1")
        assert caught.value.param == "after"

    async def test_is_a_turn_of_the_native_face(self, chat: Chat, conversation_url: str) -> None:
        user = uuid7()
        async with client_of(chat, user) as sdk:
            response = await sdk.responses.create(model=BOT, input=HELLO)
            assert response.conversation is not None
        async with httpx2.AsyncClient(base_url=conversation_url, headers=chat.keys.bearer(user)) as client:
            found = await client.get(f"/api/v1/conversations/{response.conversation.id}/messages")
        assert [message["text"] for message in found.json()["data"]] == [HELLO, response.output_text]
        sent = (await chat.send(user, "And?", conversation_id=response.conversation.id)).json()
        async with client_of(chat, user) as sdk:
            read = await sdk.responses.retrieve(f"resp_{sent['run_id'].replace('-', '')}")
        assert read.output_text == sent["content"]

    async def test_the_same_key_attaches(self, sdk: AsyncOpenAI) -> None:
        headers = {"Idempotency-Key": str(uuid7())}
        one, other = [await sdk.responses.create(model="echo", input=HELLO, extra_headers=headers) for _ in range(2)]
        assert one.id == other.id

    async def test_as_many_tokens_as_it_may_have_are_not_too_few(self, sdk: AsyncOpenAI) -> None:
        response = await sdk.responses.create(model="echo", input=HELLO, max_output_tokens=7)  # it always counts 7
        assert response.status == "completed"


class TestReplicas:
    @pytest.fixture
    async def sdk(self, chat: Chat) -> AsyncIterator[AsyncOpenAI]:
        """At chat itself: each replica is asked for."""
        async with client_of(chat, uuid7()) as client:
            yield client

    async def test_polled_and_cancelled_from_another(self, chat: Chat, told: dict[str, Any], sdk: AsyncOpenAI) -> None:
        response = await sdk.responses.create(model="endless", input=HELLO, background=True)
        assert response.status == "in_progress"
        async with running(chat.keys, Settings.model_validate(told)) as elsewhere:
            away = sdk.with_options(base_url=f"{elsewhere.client.base_url}/v1")
            assert (await away.responses.retrieve(response.id)).status == "in_progress"
            stream = await away.responses.retrieve(response.id, stream=True)
            async for event in stream:
                if event.type == "response.output_text.delta":
                    break
            cancelled = await away.responses.cancel(response.id)
            assert [event async for event in stream][-1].type == "response.incomplete"
        assert cancelled.status == "cancelled"
        assert cancelled.output_text.startswith("0 ")
        assert await sdk.responses.retrieve(response.id) == cancelled
        assert await sdk.responses.cancel(response.id) == cancelled

    async def test_resumed_by_number_from_another(self, chat: Chat, told: dict[str, Any], sdk: AsyncOpenAI) -> None:
        seen = []
        async for event in await sdk.responses.create(model="endless", input=HELLO, background=True, stream=True):
            seen.append(event)
            if len(seen) == 12:
                break
        response_id = seen[0].response.id  # type: ignore[union-attr]
        async with running(chat.keys, Settings.model_validate(told)) as elsewhere:
            away = sdk.with_options(base_url=f"{elsewhere.client.base_url}/v1")
            stream = await away.responses.retrieve(response_id, stream=True, starting_after=seen[-1].sequence_number)
            seen.append(await anext(aiter(stream)))
            await sdk.responses.cancel(response_id)
            seen += [event async for event in stream]
        assert numbers(seen) == list(range(len(seen)))
        assert text_of(seen) == seen[-1].response.output_text  # type: ignore[union-attr]


class TestBackground:
    async def test_resumed_when_the_log_is_gone(self, sdk: AsyncOpenAI, log: RunLog, redis: Redis) -> None:
        events = [event async for event in await sdk.responses.create(model="echo", input=HELLO, stream=True)]
        response = events[-1].response  # type: ignore[union-attr]
        async with within(20):
            while not any(event.terminal for event in await log.said(run_id_of(response.id), 1)):
                await asyncio.sleep(0.02)  # until then its writer would restore it
        await redis.flushall()
        again = [event async for event in await sdk.responses.retrieve(response.id, stream=True)]
        assert text_of(again) == response.output_text
        assert again[-1].response == response  # type: ignore[union-attr]
        rest = [e async for e in await sdk.responses.retrieve(response.id, stream=True, starting_after=5)]
        assert numbers(rest) == list(range(6, 6 + len(rest)))
        assert text_of(rest) == ""
        assert rest[-1].response == response  # type: ignore[union-attr]


class TestDeleted:
    async def test_is_gone_with_its_conversation(self, chat: Chat, sdk: AsyncOpenAI) -> None:
        first = await sdk.responses.create(model="echo", input=HELLO)
        second = await sdk.responses.create(model="echo", input="And?", previous_response_id=first.id)
        assert first.conversation is not None
        async with client_of(chat, uuid7()) as other:
            with pytest.raises(openai.NotFoundError):
                await other.responses.delete(first.id)
        await sdk.responses.delete(first.id)
        for asked in (sdk.responses.retrieve(first.id), sdk.responses.delete(first.id)):
            with pytest.raises(openai.NotFoundError) as caught:
                await asked
            assert caught.value.code == "response_not_found"
        assert (await sdk.responses.retrieve(second.id)).output_text == second.output_text
        await sdk.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.create(model="echo", input=HELLO, conversation=first.conversation.id)

    async def test_is_not_answered_any_longer(self, sdk: AsyncOpenAI) -> None:
        response = await sdk.responses.create(model="endless", input="Do not go on", background=True)
        async for event in await sdk.responses.retrieve(response.id, stream=True):
            if event.type == "response.output_text.delta":
                break
        await sdk.responses.delete(response.id)
        async with within(20):
            while "Do not go on" not in hung_up:
                await asyncio.sleep(0.02)


class TestNotStored:
    async def test_whole(self, chat: Chat, conversation_url: str) -> None:
        user = uuid7()
        async with client_of(chat, user) as sdk:
            response = await sdk.responses.create(
                model="echo", input=HELLO, store=False, truncation="disabled", max_tool_calls=3
            )
            assert (response.truncation, response.max_tool_calls, response.top_p) == ("disabled", 3, None)
            assert response.output_text.strip() == SAID
            with pytest.raises(openai.NotFoundError):
                await sdk.responses.retrieve(response.id)
        async with httpx2.AsyncClient(base_url=conversation_url, headers=chat.keys.bearer(user)) as client:
            assert (await client.get("/api/v1/conversations")).json()["data"] == []

    @pytest.mark.usefixtures("knowledge")
    async def test_streamed(self, sdk: AsyncOpenAI) -> None:
        stream = await sdk.responses.create(model=BOT, input="When are you open?", store=False, stream=True)
        events = [event async for event in stream]
        assert numbers(events) == list(range(len(events)))
        assert "response.output_text.annotation.added" in [event.type for event in events]
        assert text_of(events) == events[-1].response.output_text  # type: ignore[union-attr]

    async def test_breaks_off(self, sdk: AsyncOpenAI) -> None:
        stream = await sdk.responses.create(model="cut", input=HELLO, store=False, stream=True)
        last = [event async for event in stream][-1]
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert last.response.output_text.strip() == SAID


class TestRefusals:
    @pytest.mark.parametrize("store", [True, False])
    async def test_the_provider_fails(self, sdk: AsyncOpenAI, store: bool, model_server: ModelServer) -> None:
        """A question that is stored is not asked again by the SDK itself, which by default tries three times."""
        asking = sdk.with_options(max_retries=2 if store else 0)
        with pytest.raises(openai.InternalServerError) as caught:
            await asking.responses.create(model="refuse", input=HELLO, store=store)
        assert len(model_server.requests) == 1
        assert caught.value.status_code == 502
        assert "sk-upstream-secret" not in str(caught.value)

    async def test_a_failed_one_can_be_read(self, sdk: AsyncOpenAI) -> None:
        created = await sdk.responses.create(model="refuse", input=HELLO, background=True)
        async with within(20):
            while (response := await sdk.responses.retrieve(created.id)).status == "in_progress":
                await asyncio.sleep(0.05)
        assert response.status == "failed"
        assert response.error is not None
        assert "provider-refused" in response.error.message

    async def test_somebody_elses(self, chat: Chat, sdk: AsyncOpenAI) -> None:
        theirs = await sdk.responses.create(model="echo", input=HELLO)
        async with client_of(chat, uuid7()) as other:
            for asked in (
                other.responses.retrieve(theirs.id),
                other.responses.cancel(theirs.id),
                other.responses.input_items.list(theirs.id),
                other.responses.create(model="echo", input=HELLO, previous_response_id=theirs.id),
            ):
                with pytest.raises(openai.NotFoundError) as caught:
                    await asked
                assert caught.value.code == "response_not_found"

    @pytest.mark.parametrize("response_id", ["resp_nonsense", "resp_"])
    async def test_no_id_of_ours(self, sdk: AsyncOpenAI, response_id: str) -> None:
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(response_id)

    async def test_the_previous_one_is_not_finished(self, sdk: AsyncOpenAI) -> None:
        first = await sdk.responses.create(model="endless", input=HELLO, background=True)
        with pytest.raises(openai.ConflictError, match="not finished"):
            await sdk.responses.create(model="echo", input="And?", previous_response_id=first.id)
        await sdk.responses.cancel(first.id)

    async def test_unknown_model(self, sdk: AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk.responses.create(model="gpt-99", input=HELLO)
        assert caught.value.code == "model_not_found"

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"input": []}, "a user's text"),
            ({"input": [{"role": "user", "content": "x"}] * 2001}, "2000 items"),
            ({"input": "  "}, "a user's text"),
            ({"input": [{"role": "assistant", "content": "Hm"}]}, "a user's text"),
            ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "Only text"),
            ({"input": [{"type": "function_call_output", "call_id": "1", "output": "x"}]}, "belong to no call"),
            ({"input": [{"type": "computer_call"}]}, "computer_call"),
            ({"background": True, "store": False}, "background needs store"),
            ({"previous_response_id": "resp_1", "store": False}, "previous_response_id needs store"),
            ({"previous_response_id": "resp_1", "conversation": str(uuid7())}, "exclude each other"),
            ({"tools": [{"type": "web_search"}]}, "type function"),
            ({"model": BOT, "tools": [{"type": "function", "name": "add"}]}, "its own tools"),
            ({"model": BOT, "text": {"format": {"type": "json_object"}}}, "plain text"),
            ({"metadata": {"x": "y" * 513}}, "512|too long"),
            ({"top_p": 1.1}, "top_p"),
            ({"prompt": {"id": "pmpt_1"}}, "instructions"),
            ({"truncation": "disabled"}, "oldest exchange"),
            ({"model": BOT, "truncation": "disabled", "store": False}, "oldest exchange"),
            ({"truncation": "auto", "store": False}, "gets all of it"),
            ({"model": BOT, "max_tool_calls": 1}, "bounds of their own"),
        ],
    )
    async def test_what_cannot_be_done(self, sdk: AsyncOpenAI, body: dict[str, Any], words: str) -> None:
        with pytest.raises(openai.BadRequestError, match=words):
            await sdk.responses.create(**({"model": "echo", "input": HELLO} | body))
