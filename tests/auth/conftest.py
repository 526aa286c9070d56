"""A running auth service that the tests share, each with accounts of its own; own databases for those that cannot."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from chatbot_auth.__main__ import MIGRATIONS
from chatbot_auth.main import create_app
from chatbot_common.database import migrate
from fastapi import FastAPI

from tests.auth.running import Auth, auth_settings, running
from tests.support.identity import Keys
from tests.support.serving import in_thread
from tests.support.stores import Postgres


@pytest.fixture(scope="session")
def empty_template(postgres: Postgres) -> str:
    """Name of a migrated, empty database."""
    name = postgres.create()
    asyncio.run(migrate(postgres.url(name), MIGRATIONS))
    return name


@pytest.fixture(scope="session")
def template(postgres: Postgres, empty_template: str, keys: Keys) -> str:
    """Name of a migrated database as auth's first start leaves it, with the administrator."""
    name = postgres.create(empty_template)
    asyncio.run(_start_once(keys, postgres.url(name)))
    return name


async def _start_once(keys: Keys, url: str) -> None:
    async with running(keys, url) as service:
        await service.link()


@pytest.fixture(scope="session")
def database(postgres: Postgres, template: str) -> str:
    """Name of the shared database, with the administrator."""
    return postgres.create(template)


@pytest.fixture
def own_database(postgres: Postgres, template: str) -> Iterator[str]:
    """Name of this test's own database, with the administrator."""
    name = postgres.create(template)
    yield name
    postgres.drop(name)


@pytest.fixture
def empty_database(postgres: Postgres, empty_template: str) -> Iterator[str]:
    """Name of this test's own migrated database, without any account."""
    name = postgres.create(empty_template)
    yield name
    postgres.drop(name)


@pytest.fixture(scope="session")
def shared(keys: Keys, postgres: Postgres, database: str) -> Iterator[tuple[FastAPI, str]]:
    app = create_app(auth_settings(keys, postgres.url(database)))
    with in_thread(app) as url:
        yield app, url


@pytest.fixture
async def auth(keys: Keys, shared: tuple[FastAPI, str]) -> AsyncIterator[Auth]:
    """The shared service, and a client without cookies."""
    app, url = shared
    async with httpx2.AsyncClient(base_url=url, timeout=20) as client:
        yield Auth(app, client, keys)
