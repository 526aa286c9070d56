"""A migrated database and a running auth service for every test."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from chatbot_auth.__main__ import MIGRATIONS
from chatbot_common.database import migrate

from tests.auth.running import Auth, running
from tests.support.identity import Keys
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


@pytest.fixture
def database(postgres: Postgres, template: str) -> Iterator[str]:
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


@pytest.fixture
async def auth(keys: Keys, postgres: Postgres, database: str) -> AsyncIterator[Auth]:
    async with running(keys, postgres.url(database)) as service:
        yield service
