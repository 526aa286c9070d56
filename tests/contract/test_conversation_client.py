"""Chat's small view of conversation against the real app, in process and on a real database."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import httpx2
import pytest
from chatbot_chat.budgets.prices import spent_of
from chatbot_chat.budgets.service import Budgets
from chatbot_chat.conversation_client import ConversationClient, Options
from chatbot_chat.providers import Usage
from chatbot_chat.settings import DeploymentSettings, ModelSettings
from chatbot_common.database import migrate
from chatbot_common.errors import Unavailable
from chatbot_common.http import UpstreamProblem, service_client
from chatbot_common.identity import ServiceIdentity, User
from chatbot_common.ids import uuid7
from chatbot_conversation.__main__ import MIGRATIONS
from chatbot_conversation.main import create_app
from chatbot_conversation.settings import Settings

from tests.support.configuration import mapping
from tests.support.identity import Keys
from tests.support.stores import Postgres

REPLY = {
    "attempt": 1,
    "status": "completed",
    "text": "Good day [1]",
    "parts": [{"type": "text", "text": "Good day [1]"}],
    "citations": [{"index": 1, "title": "t", "text": "x", "url": None, "source_id": str(uuid7()), "kind": "faq"}],
    "usage": {"input_tokens": 1, "output_tokens": 2},
    "model": "m",
    "error": None,
}
DEPLOYMENT = DeploymentSettings(provider="p", model="m", weight=1)


@pytest.fixture(scope="module")
def database_url(postgres: Postgres) -> str:
    url = postgres.url(postgres.create())
    asyncio.run(migrate(url, MIGRATIONS))
    return url


def identity(keys: Keys, name: str = "chat") -> ServiceIdentity:
    return ServiceIdentity(name, keys.services[name].private_text, keys.public)


@pytest.fixture
async def transport(keys: Keys, auth_url: str, database_url: str) -> AsyncIterator[httpx2.ASGITransport]:
    told = mapping("conversation", keys, urls={"auth": auth_url})
    app = create_app(Settings.model_validate(told | {"database_url": database_url}))
    async with app.router.lifespan_context(app):
        yield httpx2.ASGITransport(app=app)


@pytest.fixture
async def conversation(keys: Keys, transport: httpx2.ASGITransport) -> AsyncIterator[ConversationClient]:
    async with service_client("http://conversation", identity(keys), "conversation", transport) as client:
        yield ConversationClient(client)


@pytest.fixture
def ada(keys: Keys) -> User:
    user_id = uuid7()
    return User(user_id, "ada@example.com", "user", uuid7(), 0, keys.access_token(user_id))


def question(text: str = "Hello", client_id: str | None = None) -> dict[str, object]:
    return {"text": text, "client_message_id": client_id or str(uuid7())}


class TestTurns:
    async def test_start_end_and_look(self, conversation: ConversationClient, ada: User) -> None:
        turn = await conversation.start_turn(ada, question())
        assert (turn.state, turn.attempt, turn.text) == ("started", 1, "Hello")
        await conversation.store_reply(turn.turn_id, REPLY)
        ended = await conversation.get_turn(ada, turn.turn_id)
        assert ended.state == "completed"
        assert ended.reply is not None
        assert ended.reply.text == "Good day [1]"
        assert ended.reply.citations == REPLY["citations"]
        assert ended.reply.usage == REPLY["usage"]

    async def test_history_comes_with_the_next_turn(self, conversation: ConversationClient, ada: User) -> None:
        first = await conversation.start_turn(ada, question())
        await conversation.store_reply(first.turn_id, REPLY)
        second = await conversation.start_turn(
            ada, question("And now?") | {"conversation_id": str(first.conversation_id)}
        )
        assert [(item.role, item.text) for item in second.history] == [("user", "Hello"), ("assistant", "Good day [1]")]

    async def test_what_was_said_before_and_the_options_come_with_every_attempt(
        self, conversation: ConversationClient, ada: User
    ) -> None:
        earlier = [{"role": "user", "text": "One"}, {"role": "assistant", "text": "Eins"}]
        options = Options(model="m", raw=True, instructions="Be brief.", metadata={"a": "b"})
        asked = question("Two", "m") | {"earlier": earlier, "options": options.model_dump()}
        first = await conversation.start_turn(ada, asked)
        await conversation.store_reply(first.turn_id, REPLY | {"status": "failed", "error": "x", "text": ""})
        again = await conversation.start_turn(ada, question("Two", "m") | {"retry": True})
        for turn in (first, again):
            assert [item.text for item in turn.history] == ["One", "Eins"]
            assert turn.options == options
        spoken = await conversation.messages(ada, first.conversation_id)
        assert [item.text for item in spoken] == ["One", "Eins", "Two", ""]

    async def test_a_repeat_attaches(self, conversation: ConversationClient, ada: User) -> None:
        turn = await conversation.start_turn(ada, question(client_id="m"))
        again = await conversation.start_turn(ada, question(client_id="m"))
        assert (again.state, again.turn_id) == ("running", turn.turn_id)

    async def test_a_late_reply_is_a_409(self, conversation: ConversationClient, ada: User) -> None:
        turn = await conversation.start_turn(ada, question())
        await conversation.store_reply(turn.turn_id, REPLY)
        with pytest.raises(UpstreamProblem) as caught:
            await conversation.store_reply(turn.turn_id, REPLY | {"status": "failed", "error": "late"})
        assert caught.value.status == 409

    async def test_a_reply_sent_again_is_no_conflict(self, conversation: ConversationClient, ada: User) -> None:
        turn = await conversation.start_turn(ada, question())
        for _ in range(2):
            await conversation.store_reply(turn.turn_id, REPLY)

    async def test_a_turn_of_someone_else_is_a_404(
        self, conversation: ConversationClient, ada: User, keys: Keys
    ) -> None:
        turn = await conversation.start_turn(ada, question())
        bob = User(uuid7(), "bob@example.com", "user", uuid7(), 0, keys.access_token())
        with pytest.raises(UpstreamProblem) as caught:
            await conversation.get_turn(bob, turn.turn_id)
        assert caught.value.status == 404


class TestUsage:
    async def test_is_entered_with_replies_and_without(self, conversation: ConversationClient, ada: User) -> None:
        model = ModelSettings(name="m", deployments=[DEPLOYMENT], context_window=9, max_output_tokens=9)
        spent = spent_of(model, Usage(3, 4), estimated=False)
        turn = await conversation.start_turn(ada, question())
        stored = await conversation.store_reply(turn.turn_id, REPLY | {"spent": spent.as_json()})
        assert stored.user_id == ada.id
        budgets = Budgets(conversation)
        budgets.enter(ada.id, uuid7(), 1, spent)
        await budgets.close()
        [found] = await conversation.usage_sums([(ada.id, "2026-01-01T00:00:00Z")])
        assert (found.tokens, found.cost, len(found.recent)) == (14, 0, 2)


class TestKnowledge:
    async def test_search(self, conversation: ConversationClient, ada: User) -> None:
        knowledge = await conversation.search(ada, "anything")
        assert knowledge.passages == []


class TestIdentity:
    async def test_another_service_may_not(self, keys: Keys, transport: httpx2.ASGITransport, ada: User) -> None:
        async with service_client("http://c", identity(keys, "gateway"), "conversation", transport) as client:
            with pytest.raises(UpstreamProblem) as caught:
                await ConversationClient(client).start_turn(ada, question())
        assert caught.value.status == 403

    async def test_a_token_for_another_callee_does_not_count(
        self, keys: Keys, transport: httpx2.ASGITransport, ada: User
    ) -> None:
        async with service_client("http://c", identity(keys), "auth", transport) as client:
            with pytest.raises(UpstreamProblem) as caught:
                await ConversationClient(client).store_reply(UUID(int=1), REPLY)
        assert caught.value.status == 401


async def test_nobody_there(keys: Keys, ada: User) -> None:
    async with service_client("http://127.0.0.1:1", identity(keys), "conversation") as client:
        with pytest.raises(Unavailable):
            await ConversationClient(client).start_turn(ada, question())
