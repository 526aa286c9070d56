"""`/auth` and the key set: each route gets tokens from the service and hands them over as fits the client."""

from typing import Annotated

from chatbot_common.errors import Unauthenticated
from fastapi import APIRouter, Depends, Request, Response

from chatbot_auth.context import Context, InContext
from chatbot_auth.links.schema import LinkRequest
from chatbot_auth.sessions import cookie
from chatbot_auth.sessions.schema import KeySet, LoginRequest, LogoutRequest, RefreshRequest, TokenPair
from chatbot_auth.sessions.service import Tokens
from chatbot_auth.users.schema import RegisterRequest


def _never_cached(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


router = APIRouter(prefix="/api/v1/auth", tags=["auth"], dependencies=[Depends(_never_cached)])
keys_router = APIRouter(prefix="/api/v1/.well-known", tags=["auth"])


class _Handover:
    """Gives tokens to the client of this request: browsers get the refresh token as a cookie."""

    def __init__(self, request: Request, response: Response, context: InContext) -> None:
        self._request = request
        self._response = response
        self._context: Context = context

    def __call__(self, tokens: Tokens, *, browser: bool | None = None) -> TokenPair:
        pair = TokenPair(access_token=tokens.access, expires_in=tokens.expires_in)
        if cookie.is_browser(self._request) if browser is None else browser:
            told = self._context.settings
            cookie.put(self._request, self._response, told.bot, tokens.refresh, told.refresh_token_seconds)
            return pair
        return pair.model_copy(update={"refresh_token": tokens.refresh})


Handover = Annotated[_Handover, Depends()]


@router.post("/register", status_code=201, response_model_exclude_none=True)
async def register(body: RegisterRequest, context: InContext, hand_over: Handover) -> TokenPair:
    """Create an account and sign it in."""
    return hand_over(await context.sessions.register(body))


@router.post("/login", response_model_exclude_none=True)
async def login(body: LoginRequest, context: InContext, hand_over: Handover) -> TokenPair:
    """Sign in with a password."""
    return hand_over(await context.sessions.login(body.email, body.password))


@router.post("/link", response_model_exclude_none=True)
async def link(body: LinkRequest, context: InContext, hand_over: Handover) -> TokenPair:
    """Sign in with the token of a one-time link."""
    return hand_over(await context.sessions.follow_link(body.token))


@router.post("/refresh", response_model_exclude_none=True)
async def refresh(
    request: Request, context: InContext, hand_over: Handover, body: RefreshRequest | None = None
) -> TokenPair:
    """Exchange a refresh token, from the body or else the cookie, for a new pair. Each can be exchanged once."""
    sent = body.refresh_token if body else None
    token = sent or cookie.read(request, context.settings.bot)
    if token is None:
        raise Unauthenticated("There is no refresh token; sign in.")
    # What came hidden from scripts must not go back where they could read it.
    browser = cookie.is_browser(request) or sent is None
    return hand_over(await context.sessions.refresh(token), browser=browser)


@router.post("/logout", status_code=204)
async def logout(request: Request, response: Response, context: InContext, body: LogoutRequest | None = None) -> None:
    """End the session of a refresh token, from the body or else the cookie."""
    token = (body.refresh_token if body else None) or cookie.read(request, context.settings.bot)
    if token is not None:
        await context.sessions.logout(token)
    cookie.remove(request, response, context.settings.bot)


@keys_router.get("/jwks.json")
async def jwks(context: InContext) -> KeySet:
    """The public keys access tokens can be verified with (RFC 7517)."""
    return context.keys.public
