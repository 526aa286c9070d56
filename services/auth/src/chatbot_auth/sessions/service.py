"""Signing in by each of the ways there are, staying signed in, and signing out."""

from dataclasses import dataclass

import structlog
from chatbot_common.database import Database
from chatbot_common.errors import Unauthenticated
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from chatbot_auth.errors import AccountDisabled
from chatbot_auth.links import store as links
from chatbot_auth.opaque import digest, new_token
from chatbot_auth.sessions import store
from chatbot_auth.sessions.keys import SigningKeys
from chatbot_auth.settings import Settings
from chatbot_auth.tables import Account, Session
from chatbot_auth.users import store as accounts
from chatbot_auth.users.schema import RegisterRequest
from chatbot_auth.users.service import Users

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """What a client gets for signing in."""

    access: str
    refresh: str
    expires_in: int


class Sessions:
    """Opens, prolongs and ends sessions."""

    def __init__(self, settings: Settings, database: Database, keys: SigningKeys, users: Users) -> None:
        self._seconds = settings.refresh_token_seconds
        self._database = database
        self._keys = keys
        self._users = users

    async def register(self, request: RegisterRequest) -> Tokens:
        """Create an account and sign it in. Raises `SignUpClosed`, `EmailTaken`, `UsernameTaken`."""
        password_hash = await self._users.hash_for(request)
        async with self._database.objects() as session:
            account = await self._users.create(session, request, password_hash)
            return await self._open(session, account)

    async def login(self, email: str, password: SecretStr) -> Tokens:
        """Raises `Unauthenticated`, `AccountDisabled`."""
        account, kept_hash = await self._users.recognise(email, password)
        async with self._database.objects() as session:
            if not await accounts.replace_hash(session, account.id, account.password_hash, kept_hash):
                raise Unauthenticated("The password was changed a moment ago; use the new one.")
            return await self._open(session, await _signing_in(session, account))

    async def follow_link(self, token: str) -> Tokens:
        """Use up a sign-in link. Raises `Unauthenticated`, `AccountDisabled`."""
        async with self._database.objects() as session:
            account = await links.use(session, digest(token))
            if account is None:
                raise Unauthenticated("This sign-in link was used already or has expired; ask for a new one.")
            return await self._open(session, await _signing_in(session, account))

    async def refresh(self, token: str) -> Tokens:
        """Exchange a refresh token for a new pair; each token can be exchanged once.

        A second use means that two parties hold the token and one of them stole it, so the whole session ends
        (RFC 9700, 4.14.2).

        Raises:
            Unauthenticated: unknown, expired, used before, or its session has ended.
        """
        async with self._database.objects() as session:
            held = await store.lock_token(session, digest(token))
            if held is not None and held.live and held.token.used_at is None:
                await store.use_token(session, held.token)
                return await self._pair(session, held.account, held.session)
            if held is not None and held.live:
                # Only leaving the block without an error commits this; so the refusal comes after it.
                await store.revoke(session, held.session.id)
                log.warning("refresh token used twice, session ended", session_id=str(held.session.id))
        raise Unauthenticated("You are signed out; sign in again.")

    async def logout(self, token: str) -> None:
        """End the session of a refresh token; one that means nothing any more is no error."""
        async with self._database.objects() as session:
            await store.revoke_by_token(session, digest(token))

    async def _open(self, session: AsyncSession, account: Account) -> Tokens:
        return await self._pair(session, account, await store.open_session(session, account.id, self._seconds))

    async def _pair(self, session: AsyncSession, account: Account, opened: Session) -> Tokens:
        refresh = new_token()
        await store.add_token(session, opened.id, digest(refresh), self._seconds)
        return Tokens(self._keys.access_token(account, opened.id), refresh, self._keys.seconds)


async def _signing_in(session: AsyncSession, account: Account) -> Account:
    current = await accounts.record_login(session, account.id)
    if current is None:
        raise AccountDisabled
    return current
