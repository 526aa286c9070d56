"""Queries on accounts."""

from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chatbot_auth.tables import Account
from chatbot_auth.users.schema import RegisterRequest


async def by_id(session: AsyncSession, user_id: UUID) -> Account | None:
    return await session.get(Account, user_id)


async def by_email(session: AsyncSession, email: str) -> Account | None:
    return await session.scalar(select(Account).where(func.lower(Account.email) == email))


async def insert_account(
    session: AsyncSession, request: RegisterRequest, password_hash: str, *, signing_in: bool
) -> Account | None:
    """The new account, None when its e-mail address or username is taken."""
    statement = (
        insert(Account)
        .values(
            email=request.email,
            username=request.username,
            name=request.name,
            password_hash=password_hash,
            last_login_at=func.now() if signing_in else None,
        )
        .on_conflict_do_nothing()
        .returning(Account)
    )
    return await session.scalar(statement)


async def put_administrator(session: AsyncSession, email: str, password_hash: str) -> Account | None:
    """Create the administrator or promote the account with this address; None when it is one already."""
    statement = insert(Account).values(email=email, password_hash=password_hash, role="admin", name="Administrator")
    change = statement.on_conflict_do_update(
        index_elements=[func.lower(Account.email)],
        set_={"role": "admin", "status": "active", "password_hash": password_hash, "updated_at": func.now()},
        where=Account.role != "admin",
    )
    return await session.scalar(change.returning(Account))


async def record_login(session: AsyncSession, user_id: UUID) -> Account | None:
    """The account with its login noted, None when it is gone or disabled."""
    statement = (
        update(Account)
        .where(Account.id == user_id, Account.status == "active")
        .values(last_login_at=func.now())
        .returning(Account)
    )
    return await session.scalar(statement)


async def replace_hash(session: AsyncSession, user_id: UUID, seen: str, password_hash: str) -> bool:
    """Whether the account still had the hash that was `seen` when the password was checked."""
    statement = (
        update(Account)
        .where(Account.id == user_id, Account.password_hash == seen)
        .values(password_hash=password_hash)
        .returning(Account.id)
    )
    return await session.scalar(statement) is not None
