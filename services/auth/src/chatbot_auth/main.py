"""Puts the auth service together: settings in, app out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from chatbot_common.app import Probes, create_service
from chatbot_common.database import Database
from chatbot_common.identity import Identity, ServiceIdentity, UserVerifier
from fastapi import FastAPI

from chatbot_auth.api_keys import routes as api_keys
from chatbot_auth.api_keys.service import ApiKeys
from chatbot_auth.context import Context
from chatbot_auth.links import routes as links
from chatbot_auth.links.service import Links
from chatbot_auth.passwords import Passwords
from chatbot_auth.sessions import routes as sessions
from chatbot_auth.sessions.keys import SigningKeys
from chatbot_auth.sessions.service import Sessions
from chatbot_auth.settings import Settings
from chatbot_auth.users import routes as users
from chatbot_auth.users.service import Users

POOL_SIZE, POOL_OVERFLOW = 5, 15
"""Few: hashing, two at a time, is what bounds this service; each connection costs Postgres some 10 MB."""


def create_app(settings: Settings) -> FastAPI:
    """The app; nothing is connected before its lifespan starts."""
    database = Database(settings.database_url.get_secret_value(), pool_size=POOL_SIZE, max_overflow=POOL_OVERFLOW)
    context = _context(settings, database)
    app = create_service(
        "auth",
        identity=_identity(settings, context.keys),
        probes=Probes({"database": database.ping}),
        routers=[
            *(sessions.router, sessions.keys_router, users.router, users.admin_router),
            *(api_keys.router, api_keys.exchange_router, links.router),
        ],
        lifespan=lambda _: _lifespan(database, context),
    )
    app.state.context = context
    return app


def _context(settings: Settings, database: Database) -> Context:
    keys = SigningKeys(
        settings.signing_keys, settings.identity.issuer, settings.bot, seconds=settings.access_token_seconds
    )
    accounts = Users(settings, database, Passwords())
    return Context(
        settings=settings,
        keys=keys,
        users=accounts,
        sessions=Sessions(settings, database, keys, accounts),
        links=Links(settings, database, accounts),
        api_keys=ApiKeys(database, keys),
    )


def _identity(settings: Settings, keys: SigningKeys) -> Identity:
    """As in every service, except that the keys are our own and need no request."""

    async def own_keys() -> dict[str, Any]:
        return keys.public.model_dump()

    return Identity(
        UserVerifier(own_keys, settings.identity.issuer, settings.bot),
        ServiceIdentity("auth", settings.service_private_key.get_secret_value(), settings.identity.service_public_keys),
    )


@contextlib.asynccontextmanager
async def _lifespan(database: Database, context: Context) -> AsyncIterator[None]:
    seeding = asyncio.create_task(context.users.keep_trying_administrator())
    try:
        yield
    finally:
        seeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await seeding
        await database.close()
