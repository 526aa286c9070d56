"""Puts the conversation service together: settings in, app out."""

import contextlib
from collections.abc import AsyncIterator

from chatbot_common.app import Probes, create_service, make_identity
from chatbot_common.telemetry import Unsampled
from fastapi import FastAPI
from starlette.middleware import Middleware

from chatbot_conversation.context import Context, make_context
from chatbot_conversation.conversations import routes as conversations
from chatbot_conversation.conversations.service import ConversationService
from chatbot_conversation.embeddings import routes as embeddings
from chatbot_conversation.knowledge import routes as knowledge
from chatbot_conversation.settings import Settings
from chatbot_conversation.turns import routes as turns
from chatbot_conversation.usage import routes as usage
from chatbot_conversation.usage.service import UsageService

POOL_SIZE, POOL_OVERFLOW = 20, 10
SIGNS = 1
"""Of these connections for signs of life."""


def create_app(settings: Settings) -> FastAPI:
    """The app; nothing is connected before the first request."""
    context = make_context(settings, pool_size=POOL_SIZE, max_overflow=POOL_OVERFLOW - SIGNS)
    app = create_service(
        "conversation",
        identity=make_identity("conversation", settings),
        # Without the vector store turns go on, only without passages: that must not take us out of service.
        probes=Probes({"database": context.database.ping}, {"vectors": context.vectors.ping}),
        routers=[
            *(turns.router, conversations.router, knowledge.router, embeddings.router),
            *(usage.router, usage.admin_router),
        ],
        lifespan=lambda _: _lifespan(context),
        middleware=[Middleware(Unsampled)],
        direct=turns.DIRECT,
    )
    app.state.turns = context.turns
    app.state.knowledge = context.knowledge
    app.state.embedder = context.embedder
    app.state.usage = UsageService(context.database)
    app.state.conversations = ConversationService(context.database)
    return app


@contextlib.asynccontextmanager
async def _lifespan(context: Context) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await context.close()
