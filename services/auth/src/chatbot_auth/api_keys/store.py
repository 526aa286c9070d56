"""Queries on API keys. Times are Postgres's own, so that replicas need not agree on one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chatbot_auth.tables import Account, ApiKey

KEPT = timedelta(days=90)
"""How long a revoked key stays to be looked up in the database."""
COARSE = timedelta(minutes=1)
"""How often the use of a key is noted, so that a busy one does not cost a write for each question."""


@dataclass(frozen=True, slots=True)
class Live:
    """A key that may be used, its active owner, and whether its last use was noted long enough ago."""

    key: ApiKey
    account: Account
    stale: bool


async def of_user(session: AsyncSession, user_id: UUID) -> Sequence[ApiKey]:
    """Those not revoked, newest first."""
    query = select(ApiKey).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None)).order_by(ApiKey.id.desc())
    return (await session.scalars(query)).all()


async def lock_owner(session: AsyncSession, user_id: UUID) -> Account | None:
    """The account, if it is active: whoever makes a key for it at the same moment waits until the transaction ends."""
    query = select(Account).where(Account.id == user_id, Account.status == "active")
    return await session.scalar(query.with_for_update())


async def add(session: AsyncSession, key: ApiKey) -> None:
    """A new key; what its owner revoked long ago goes."""
    session.add(key)
    await session.flush()
    old = ApiKey.revoked_at < func.now() - KEPT
    await session.execute(delete(ApiKey).where(ApiKey.user_id == key.user_id, old))


async def revoke(session: AsyncSession, user_id: UUID, key_id: UUID) -> bool:
    """Whether the user had such a key until now."""
    own = (ApiKey.id == key_id, ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
    statement = update(ApiKey).where(*own).values(revoked_at=func.now()).returning(ApiKey.id)
    return await session.scalar(statement) is not None


async def revoke_all(session: AsyncSession, user_id: UUID) -> None:
    own = (ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
    await session.execute(update(ApiKey).where(*own).values(revoked_at=func.now()))


async def revoke_expired(session: AsyncSession, user_id: UUID) -> None:
    own = (ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None), ApiKey.expires_at <= func.now())
    await session.execute(update(ApiKey).where(*own).values(revoked_at=ApiKey.expires_at))


async def live(session: AsyncSession, key_hash: bytes) -> Live | None:
    """The key with this digest, unless it was revoked, has expired, or its owner is disabled."""
    query = (
        select(ApiKey, Account, _stale())
        .join(Account, Account.id == ApiKey.user_id)
        .where(
            ApiKey.key_hash == key_hash,
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()),
            Account.status == "active",
        )
    )
    row = (await session.execute(query)).one_or_none()
    return Live(*row) if row else None


async def note_use(session: AsyncSession, key_id: UUID) -> None:
    await session.execute(update(ApiKey).where(ApiKey.id == key_id, _stale()).values(last_used_at=func.now()))


def _stale() -> ColumnElement[bool]:
    return or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - COARSE)
