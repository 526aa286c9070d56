"""Rows of the auth database; `migrations/` creates them, the stores of each noun query them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from chatbot_common.identity import Role
from chatbot_common.ids import uuid7
from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, LargeBinary, String, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Status = Literal["active", "disabled"]

DIGEST_BYTES = 32
"""Length of a SHA-256 digest: no table holds a token itself."""


class Row(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy declares it an instance variable
        datetime: DateTime(timezone=True),
        UUID: Uuid(),
        bytes: LargeBinary(DIGEST_BYTES),
    }

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Account(Row):
    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('user', 'admin')", name="users_role_check"),
        CheckConstraint("status IN ('active', 'disabled')", name="users_status_check"),
        Index("users_email_key", text("lower(email)"), unique=True),
        Index("users_username_key", text("lower(username)"), unique=True),
    )

    email: Mapped[str] = mapped_column(String(255))
    username: Mapped[str | None] = mapped_column(String(100))
    name: Mapped[str | None] = mapped_column(String(200))
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[Role] = mapped_column(String(16), server_default="user")
    status: Mapped[Status] = mapped_column(String(16), server_default="active")
    language: Mapped[str] = mapped_column(String(35), server_default="en")
    timezone: Mapped[str] = mapped_column(String(64), server_default="UTC")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    last_login_at: Mapped[datetime | None]


class Session(Row):
    """One sign-in on one device. Lives as long as its newest refresh token."""

    __tablename__ = "sessions"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    last_used_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class RefreshToken(Row):
    """A used token stays until it expires: only so can its second use be told from a made-up one."""

    __tablename__ = "refresh_tokens"

    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class SignInLink(Row):
    __tablename__ = "sign_in_links"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ApiKey(Row):
    """What a program signs in with. A revoked one stays for a while, to be looked up by its id."""

    __tablename__ = "api_keys"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    prefix: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(32)))
    expires_at: Mapped[datetime | None]
    tokens_per_day: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_month: Mapped[int | None] = mapped_column(BigInteger)
    cost_per_day: Mapped[int | None] = mapped_column(BigInteger)
    """In millionths, as what is spent is counted."""
    cost_per_month: Mapped[int | None] = mapped_column(BigInteger)
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    @property
    def budget(self) -> dict[str, int]:
        """The bounds there are, by name."""
        names = ("tokens_per_day", "tokens_per_month", "cost_per_day", "cost_per_month")
        return {name: bound for name in names if (bound := getattr(self, name)) is not None}
