"""Queries on sign-in links."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, update
from sqlalchemy.ext.asyncio import AsyncSession

from chatbot_auth.tables import Account, SignInLink


async def add(session: AsyncSession, user_id: UUID, token_hash: bytes, seconds: int) -> None:
    """A new link; expired ones go."""
    await session.execute(delete(SignInLink).where(SignInLink.expires_at < func.now()))
    expires_at = func.now() + timedelta(seconds=seconds)
    session.add(SignInLink(user_id=user_id, token_hash=token_hash, expires_at=expires_at))


async def use(session: AsyncSession, token_hash: bytes) -> Account | None:
    """The account a link signs in, None when it is unknown, used or expired. One statement: only one caller wins."""
    statement = (
        update(SignInLink)
        .where(SignInLink.token_hash == token_hash, SignInLink.used_at.is_(None), SignInLink.expires_at > func.now())
        .values(used_at=func.now())
        .returning(SignInLink.user_id)
    )
    user_id = await session.scalar(statement)
    return await session.get(Account, user_id) if user_id else None
