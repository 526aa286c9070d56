"""A chat service on real stores, with the real conversation service behind it and a scripted model over a socket."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
from chatbot_auth.__main__ import MIGRATIONS as AUTH_MIGRATIONS
from chatbot_auth.main import create_app as create_auth
from chatbot_chat import invocation
from chatbot_chat.conversation_client import ConversationClient
from chatbot_chat.moderation import openai_moderations
from chatbot_chat.providers import metering
from chatbot_chat.runs.log import RunLog
from chatbot_chat.settings import Settings
from chatbot_chat.tools import toolbox
from chatbot_common.database import migrate
from chatbot_common.http import service_client
from chatbot_common.identity import ServiceIdentity
from chatbot_common.ids import uuid7
from chatbot_conversation.__main__ import MIGRATIONS
from chatbot_conversation.knowledge.service import ABOUT_SECONDS
from chatbot_conversation.main import create_app as create_conversation
from chatbot_conversation.settings import Settings as ConversationSettings
from openai import AsyncOpenAI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.asyncio import Redis

from tests.auth.running import PASSWORD, auth_settings, claims, new_email
from tests.chat.budgeting import Clock
from tests.chat.providing import Make, Servers, open_catalog
from tests.chat.running import Chat, Face, in_front, running, spec
from tests.conversation.running import eventually, working
from tests.support.claude_server import ClaudeServer
from tests.support.configuration import mapping
from tests.support.identity import Keys
from tests.support.model_server import ModelServer
from tests.support.serving import in_thread
from tests.support.stores import Postgres

MONTHS = itertools.count()
FAQS = """
- question: What are your opening hours?
  answer: We are open from 9 to 17 on weekdays.
  category: Visits
- question: How do I return a product?
  answer: Send it back within 30 days with the label in the box.
  category: Orders
"""


@pytest.fixture
def ada() -> UUID:
    return uuid7()


@pytest.fixture
def century() -> Clock:
    """A later month for each test: of it neither the ledger nor Redis has anything."""
    day = datetime(2100, 1, 1, 12, tzinfo=UTC) + timedelta(days=31 * next(MONTHS))
    return lambda: day


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def log(redis: Redis) -> RunLog:
    return RunLog(redis, redis)


@pytest.fixture(scope="session")
def conversation_database(postgres: Postgres) -> str:
    name = postgres.create()
    # What a commit promises must outlive a crash of the server: see test_surviving.py.
    postgres.server.psql(f"ALTER DATABASE {name} SET synchronous_commit = on;")
    url = postgres.url(name)
    asyncio.run(migrate(url, MIGRATIONS))
    return url


@pytest.fixture(scope="session")
def faq_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("knowledge") / "faqs.yaml"
    path.write_text(FAQS)
    return path


@pytest.fixture(scope="session")
def conversation_settings(
    keys: Keys, auth_url: str, conversation_database: str, faq_file: Path
) -> ConversationSettings:
    told = mapping("conversation", keys, urls={"auth": auth_url}, faq_file=str(faq_file))
    return ConversationSettings.model_validate(told | {"database_url": conversation_database})


@pytest.fixture(scope="session")
def conversation_url(conversation_settings: ConversationSettings) -> Iterator[str]:
    with in_thread(create_conversation(conversation_settings)) as url:
        yield url


@pytest.fixture
async def conversation(keys: Keys, conversation_url: str) -> AsyncIterator[ConversationClient]:
    identity = ServiceIdentity("chat", keys.services["chat"].private_text, keys.public)
    clients = (service_client(conversation_url, identity, "conversation") for _ in range(2))
    async with next(clients) as client, next(clients) as signs:
        yield ConversationClient(client, signs)


@pytest.fixture
async def sql(conversation_database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(conversation_database.replace("+asyncpg", ""))
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
def running_model() -> Iterator[tuple[ModelServer, str]]:
    server = ModelServer()
    with in_thread(server.app) as url:
        yield server, url + "/v1"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What the turn's own parts trace while the test runs."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for module in (metering, invocation, toolbox, openai_moderations):
        monkeypatch.setattr(module, "tracer", provider.get_tracer("test"))
    return exporter


@pytest.fixture
def model_server(running_model: tuple[ModelServer, str]) -> ModelServer:
    """The scripted model; its list of requests starts empty."""
    running_model[0].requests.clear()
    return running_model[0]


@pytest.fixture(scope="session")
def running_claude() -> Iterator[tuple[ClaudeServer, str]]:
    server = ClaudeServer()
    with in_thread(server.app) as url:
        yield server, url


@pytest.fixture
def claude_server(running_claude: tuple[ClaudeServer, str]) -> ClaudeServer:
    """The same in Anthropic's protocol."""
    running_claude[0].requests.clear()
    return running_claude[0]


@pytest.fixture
def servers(model_server: ModelServer, claude_server: ClaudeServer) -> Servers:
    return {"open": model_server, "claude": claude_server}


@pytest.fixture
def make(
    keys: Keys, servers: Servers, running_model: tuple[ModelServer, str], running_claude: tuple[ClaudeServer, str]
) -> Make:
    """Makes catalogs whose providers are these servers, see `open_catalog`."""
    assert all(not server.requests for server in servers.values())
    return partial(open_catalog, keys, {"open": running_model[1], "claude": running_claude[1]})


@pytest.fixture
def told(
    keys: Keys, auth_url: str, conversation_url: str, running_model: tuple[ModelServer, str], redis_url: str
) -> dict[str, Any]:
    """What the chat service is told."""
    urls = {"auth": auth_url, "conversation": conversation_url}
    return mapping("chat", keys, urls=urls, spec=spec(running_model[1])) | {
        "redis_url": redis_url,
        "provider_keys": {"scripted": "sk-test"},
    }


@pytest.fixture
async def chat(keys: Keys, told: dict[str, Any]) -> AsyncIterator[Chat]:
    async with running(keys, Settings.model_validate(told)) as service:
        yield service


@pytest.fixture(scope="session")
def real_auth(keys: Keys, postgres: Postgres) -> Iterator[str]:
    url = postgres.url(postgres.create())
    asyncio.run(migrate(url, AUTH_MIGRATIONS))
    with in_thread(create_auth(auth_settings(keys, url))) as base:
        yield base


@pytest.fixture(scope="session")
def api_key(real_auth: str) -> tuple[UUID, str]:
    """Somebody, and a key of theirs."""
    with httpx2.Client(base_url=f"{real_auth}/api/v1", timeout=30) as client:
        signed_up = client.post("/auth/register", json={"email": new_email(), "password": PASSWORD}).json()
        bearer = {"Authorization": f"Bearer {signed_up['access_token']}"}
        made = client.post("/users/me/api-keys", json={"name": "sdk"}, headers=bearer).json()
    return UUID(claims(signed_up["access_token"])["sub"]), made["key"]


@pytest.fixture(params=["chat", "gateway"])
async def face(
    request: pytest.FixtureRequest,
    chat: Chat,
    redis_url: str,
    real_auth: str,
    conversation_url: str,
    api_key: tuple[UUID, str],
) -> AsyncIterator[Face]:
    """`/v1` as a session's token opens it at chat itself, and as an API key does at the gateway."""
    if request.param == "chat":
        user_id = uuid7()
        yield Face(f"{chat.client.base_url}/v1", chat.keys.access_token(user_id), user_id)
        return
    user_id, key = api_key
    async with in_front(chat, redis_url, real_auth, conversation_url) as door:
        yield Face(f"{door.base_url}/v1", key, user_id)


@pytest.fixture
async def sdk(face: Face) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's own, unmodified, by each of both ways."""
    async with face.sdk() as client:
        yield client


@pytest.fixture(scope="session")
def knowledge(conversation_settings: ConversationSettings, conversation_url: str, keys: Keys) -> None:
    """The FAQs are indexed."""
    asyncio.run(_index(conversation_settings, conversation_url, keys))


async def _index(settings: ConversationSettings, url: str, keys: Keys) -> None:
    # Hundreds of messages of other tests would come first.
    sql = await asyncpg.connect(settings.database_url.get_secret_value().replace("+asyncpg", ""))
    await sql.execute("DELETE FROM pgqueuer WHERE entrypoint = 'index_message'")
    await sql.close()
    async with working(settings), httpx2.AsyncClient(base_url=url, headers=keys.bearer(), timeout=30) as client:

        async def both_found() -> bool:
            response = await client.post("/api/v1/knowledge/search", json={"query": "anything"})
            return len(response.json()["passages"]) == 2

        await eventually(both_found)
    await asyncio.sleep(ABOUT_SECONDS)  # turns may still be told that there is none
