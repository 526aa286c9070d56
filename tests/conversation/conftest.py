"""A migrated database and a running conversation service for every test."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest
from chatbot_common.database import migrate
from chatbot_common.ids import uuid7
from chatbot_conversation.__main__ import MIGRATIONS
from chatbot_conversation.settings import Settings

from tests.conversation.running import Conversation, make_settings, running
from tests.support.identity import Keys
from tests.support.stores import Postgres

EMPTY = """
DELETE FROM conversations; DELETE FROM ledger; DELETE FROM faqs; DELETE FROM documents;
DELETE FROM pgqueuer; DELETE FROM pgqueuer_log; DELETE FROM pgqueuer_statistics;
DROP TABLE IF EXISTS vectors_knowledge_384, vectors_messages_384, vectors_knowledge_16, vectors_messages_16,
    vectors_knowledge_3072, vectors_messages_3072;
"""


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> str:
    """URL of a migrated database."""
    url = postgres.url(postgres.create())
    asyncio.run(migrate(url, MIGRATIONS))
    return url


@pytest.fixture
async def database_url(migrated: str) -> AsyncIterator[str]:
    """URL of a migrated, empty database. It is emptied, not cloned: a clone of 200 relations takes a second."""
    yield migrated
    connection = await asyncpg.connect(migrated.replace("+asyncpg", ""))
    await connection.execute(EMPTY)
    await connection.close()


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside the service's, to look and to age things."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


@pytest.fixture
def settings(keys: Keys, auth_url: str, database_url: str) -> Settings:
    return make_settings(keys, auth_url, database_url)


@pytest.fixture
async def service(keys: Keys, settings: Settings) -> AsyncIterator[Conversation]:
    async with running(keys, settings) as conversation:
        yield conversation


@pytest.fixture
def ada() -> UUID:
    return uuid7()


@pytest.fixture
def bob() -> UUID:
    return uuid7()
