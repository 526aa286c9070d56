"""A chat service on real stores, with the real conversation service behind it and a scripted model over a socket."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from chatbot_chat.settings import Settings
from chatbot_common.database import migrate
from chatbot_conversation.__main__ import MIGRATIONS
from chatbot_conversation.main import create_app as create_conversation
from chatbot_conversation.settings import Settings as ConversationSettings

from tests.chat.running import Chat, running, spec
from tests.conversation.running import eventually, working
from tests.support.configuration import mapping
from tests.support.identity import Keys
from tests.support.model_server import ModelServer
from tests.support.serving import serving
from tests.support.stores import Postgres

FAQS = """
- question: What are your opening hours?
  answer: We are open from 9 to 17 on weekdays.
  category: Visits
- question: How do I return a product?
  answer: Send it back within 30 days with the label in the box.
  category: Orders
"""


@pytest.fixture(scope="session")
def conversation_database(postgres: Postgres) -> str:
    url = postgres.url(postgres.create())
    asyncio.run(migrate(url, MIGRATIONS))
    return url


@pytest.fixture(scope="session")
def faq_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("knowledge") / "faqs.yaml"
    path.write_text(FAQS)
    return path


@pytest.fixture
def conversation_settings(
    keys: Keys, auth_url: str, conversation_database: str, redis_url: str, faq_file: Path
) -> ConversationSettings:
    told = mapping("conversation", keys, urls={"auth": auth_url}, faq_file=str(faq_file))
    return ConversationSettings.model_validate(told | {"database_url": conversation_database, "redis_url": redis_url})


@pytest.fixture
async def conversation_url(conversation_settings: ConversationSettings) -> AsyncIterator[str]:
    async with serving(create_conversation(conversation_settings)) as url:
        yield url


@pytest.fixture
async def model_server() -> ModelServer:
    return ModelServer()


@pytest.fixture
async def model_url(model_server: ModelServer) -> AsyncIterator[str]:
    async with serving(model_server.app) as url:
        yield url + "/v1"


@pytest.fixture
def told(keys: Keys, auth_url: str, conversation_url: str, model_url: str, redis_url: str) -> dict[str, Any]:
    """What the chat service is told."""
    urls = {"auth": auth_url, "conversation": conversation_url}
    return mapping("chat", keys, urls=urls, spec=spec(model_url)) | {
        "redis_url": redis_url,
        "provider_keys": {"scripted": "sk-test"},
    }


@pytest.fixture
async def chat(keys: Keys, told: dict[str, Any]) -> AsyncIterator[Chat]:
    async with running(keys, Settings.model_validate(told)) as service:
        yield service


@pytest.fixture
async def knowledge(conversation_settings: ConversationSettings, chat: Chat) -> None:
    """The FAQs are indexed."""
    async with working(conversation_settings):
        await eventually(lambda: chat.found("When are you open?"))
