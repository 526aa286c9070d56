"""Queries on sessions and their refresh tokens. Times are Postgres's own, so that replicas need not agree on one."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chatbot_auth.tables import Account, RefreshToken, Session


@dataclass(frozen=True, slots=True)
class Held:
    """A refresh token that exists, with everything it stands for. Its rows are locked until the transaction ends."""

    token: RefreshToken
    session: Session
    account: Account
    live: bool
    """Not expired, its session not revoked, its account active. Says nothing about having been used."""


async def open_session(session: AsyncSession, user_id: UUID, seconds: int) -> Session:
    """A new session; the user's expired ones go, with their tokens."""
    await session.execute(delete(Session).where(Session.user_id == user_id, Session.expires_at < func.now()))
    row = Session(user_id=user_id, expires_at=func.now() + timedelta(seconds=seconds))
    session.add(row)
    await session.flush()
    return row


async def add_token(session: AsyncSession, session_id: UUID, token_hash: bytes, seconds: int) -> None:
    """The session's newest refresh token; it prolongs the session."""
    expires_at = func.now() + timedelta(seconds=seconds)
    session.add(RefreshToken(session_id=session_id, token_hash=token_hash, expires_at=expires_at))
    await session.execute(
        update(Session).where(Session.id == session_id).values(expires_at=expires_at, last_used_at=func.now())
    )


async def lock_token(session: AsyncSession, token_hash: bytes) -> Held | None:
    """The token with this digest. Whoever presents it at the same moment waits here and then sees it used."""
    live = and_(RefreshToken.expires_at > func.now(), Session.revoked_at.is_(None), Account.status == "active")
    statement = (
        select(RefreshToken, Session, Account, live)
        .join(Session, Session.id == RefreshToken.session_id)
        .join(Account, Account.id == Session.user_id)
        .where(RefreshToken.token_hash == token_hash)
        .with_for_update(of=[RefreshToken, Session])
    )
    row = (await session.execute(statement)).one_or_none()
    return Held(*row) if row else None


async def use_token(session: AsyncSession, token: RefreshToken) -> None:
    """Mark a token used; the session's used tokens that have expired go."""
    await session.execute(update(RefreshToken).where(RefreshToken.id == token.id).values(used_at=func.now()))
    await session.execute(
        delete(RefreshToken).where(RefreshToken.session_id == token.session_id, RefreshToken.expires_at < func.now())
    )


async def is_live(session: AsyncSession, session_id: UUID | None) -> bool:
    """Whether it has neither been ended nor expired."""
    live = and_(Session.id == session_id, Session.revoked_at.is_(None), Session.expires_at > func.now())
    return await session.scalar(select(Session.id).where(live)) is not None


async def revoke(session: AsyncSession, session_id: UUID) -> None:
    await _revoke(session, Session.id == session_id)


async def revoke_all(session: AsyncSession, user_id: UUID) -> None:
    await _revoke(session, Session.user_id == user_id)


async def revoke_by_token(session: AsyncSession, token_hash: bytes) -> None:
    """End the session a refresh token, used or not, belongs to."""
    owner = select(RefreshToken.session_id).where(RefreshToken.token_hash == token_hash).scalar_subquery()
    await _revoke(session, Session.id == owner)


async def _revoke(session: AsyncSession, which: ColumnElement[bool]) -> None:
    await session.execute(update(Session).where(which, Session.revoked_at.is_(None)).values(revoked_at=func.now()))
