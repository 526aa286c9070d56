"""Accounts: creating them, recognising their owners, and the administrator every bot starts with."""

import asyncio

import structlog
from chatbot_common.database import Database
from chatbot_common.errors import Problem, Unauthenticated, Unavailable
from chatbot_common.identity import User
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from chatbot_auth.api_keys import store as api_keys
from chatbot_auth.errors import AccountDisabled, EmailTaken, SignUpClosed, UsernameTaken
from chatbot_auth.passwords import Passwords
from chatbot_auth.sessions import store as sessions
from chatbot_auth.settings import Settings
from chatbot_auth.tables import Account
from chatbot_auth.users import store
from chatbot_auth.users.schema import RegisterRequest

log = structlog.get_logger(__name__)

RETRY_SECONDS = (0.25, 2.0)
"""First and longest pause between attempts to create the administrator."""


class Users:
    """What can be done with accounts."""

    def __init__(self, settings: Settings, database: Database, passwords: Passwords) -> None:
        self._settings = settings
        self._database = database
        self._passwords = passwords

    async def me(self, user: User) -> Account:
        """The account behind a token. Raises `Unauthenticated` when it is gone, `AccountDisabled`."""
        async with self._database.objects(readonly=True) as session:
            account = await store.by_id(session, user.id)
        if account is None:
            raise Unauthenticated("This account does not exist any more.")
        if account.status == "disabled":
            raise AccountDisabled
        return account

    async def hash_for(self, request: RegisterRequest) -> str:
        """Hash of the password of someone who wants to register. Raises `SignUpClosed`."""
        if self._settings.signup == "Closed":
            raise SignUpClosed
        return await self._passwords.hash(request.password)

    async def create(
        self, session: AsyncSession, request: RegisterRequest, password_hash: str, *, signing_in: bool = True
    ) -> Account:
        """Raises `EmailTaken` or `UsernameTaken`."""
        # Reserved even before the administrator exists: whoever came first would be handed the administrator's links.
        if request.email == self._settings.admin_email:
            raise EmailTaken
        account = await store.insert_account(session, request, password_hash, signing_in=signing_in)
        if account is None:
            raise await self._taken(session, request)
        return account

    async def create_for(self, admin: User, request: RegisterRequest) -> Account:
        """An account that an administrator makes for somebody. Raises `EmailTaken`, `UsernameTaken`."""
        await self.me(admin)
        password_hash = await self._passwords.hash(request.password)
        async with self._database.objects() as session:
            account = await self.create(session, request, password_hash, signing_in=False)
        log.info("account created by an administrator", user_id=str(account.id), admin_id=str(admin.id))
        return account

    async def _taken(self, session: AsyncSession, request: RegisterRequest) -> Problem:
        return EmailTaken() if await store.by_email(session, request.email) else UsernameTaken()

    async def recognise(self, email: str, password: SecretStr) -> tuple[Account, str]:
        """The account of someone who knows its password, and the hash to keep.

        No session is held meanwhile: checking takes as long as a hundred queries.

        Raises:
            Unauthenticated: wrong password or no such account; the two cannot be told apart.
            AccountDisabled: the password was right.
        """
        async with self._database.objects(readonly=True) as session:
            account = await store.by_email(session, email)
        kept = await self._passwords.check(password, account.password_hash if account else None)
        if account is None or kept is None:
            raise Unauthenticated("The e-mail address or the password is wrong.")
        if account.status == "disabled":
            raise AccountDisabled
        return account, kept

    async def administrator(self, session: AsyncSession) -> Account:
        """Raises `Unavailable` while the administrator was not created yet."""
        account = await store.by_email(session, self._settings.admin_email)
        if account is None or account.role != "admin":
            raise Unavailable("The administrator account is not there yet.")
        return account

    async def ensure_administrator(self) -> None:
        """Create the administrator once; any number of replicas may do this at the same time.

        An ordinary account that holds the address is promoted, and then whoever opened it loses it: the password
        becomes the configured one, its sessions end and its API keys are revoked.
        """
        async with self._database.objects(readonly=True) as session:
            account = await store.by_email(session, self._settings.admin_email)
        if account is not None and account.role == "admin":
            return
        password_hash = await self._passwords.hash(self._settings.admin_password)
        async with self._database.objects() as session:
            created = await store.put_administrator(session, self._settings.admin_email, password_hash)
            if created is not None:
                await sessions.revoke_all(session, created.id)
                await api_keys.revoke_all(session, created.id)
                log.info("administrator created", user_id=str(created.id))

    async def keep_trying_administrator(self) -> None:
        """`ensure_administrator` as soon as there is a database to do it in."""
        pause, longest = RETRY_SECONDS
        while True:
            try:
                return await self.ensure_administrator()
            except Unavailable:
                pass
            except Exception:
                log.exception("administrator not created, trying again")
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
