"""What one process is made of, put together once in `main` and handed to every endpoint."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from chatbot_auth.api_keys.service import ApiKeys
from chatbot_auth.links.service import Links
from chatbot_auth.sessions.keys import SigningKeys
from chatbot_auth.sessions.service import Sessions
from chatbot_auth.settings import Settings
from chatbot_auth.users.service import Users


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings
    keys: SigningKeys
    users: Users
    sessions: Sessions
    links: Links
    api_keys: ApiKeys


async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


InContext = Annotated[Context, Depends(_context)]
