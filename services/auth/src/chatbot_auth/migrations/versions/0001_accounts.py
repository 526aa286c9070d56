"""Accounts, sessions, refresh tokens and sign-in links."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "users",
        *_key(),
        sa.Column("email", sa.String(255), nullable=False),
        sa.Column("username", sa.String(100)),
        sa.Column("name", sa.String(200)),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False, server_default="user"),
        sa.Column("status", sa.String(16), nullable=False, server_default="active"),
        sa.Column("language", sa.String(35), nullable=False, server_default="en"),
        sa.Column("timezone", sa.String(64), nullable=False, server_default="UTC"),
        _time("updated_at", now=True),
        _time("last_login_at", nullable=True),
        sa.CheckConstraint("role IN ('user', 'admin')", name="users_role_check"),
        sa.CheckConstraint("status IN ('active', 'disabled')", name="users_status_check"),
    )
    op.create_index("users_email_key", "users", [sa.text("lower(email)")], unique=True)
    op.create_index("users_username_key", "users", [sa.text("lower(username)")], unique=True)
    op.create_table(
        "sessions",
        *_key(),
        _owner("user_id", "users"),
        _time("last_used_at", now=True),
        _time("expires_at"),
        _time("revoked_at", nullable=True),
    )
    _token_table("refresh_tokens", _owner("session_id", "sessions"))
    _token_table("sign_in_links", _owner("user_id", "users"))


def downgrade() -> None:
    for table in ("sign_in_links", "refresh_tokens", "sessions", "users"):
        op.drop_table(table)


def _token_table(name: str, owner: sa.Column[object]) -> None:
    op.create_table(
        name,
        *_key(),
        owner,
        sa.Column("token_hash", sa.LargeBinary, nullable=False, unique=True),
        _time("expires_at"),
        _time("used_at", nullable=True),
    )


def _key() -> tuple[sa.Column[object], sa.Column[object]]:
    return sa.Column("id", sa.Uuid, primary_key=True), _time("created_at", now=True)


def _owner(name: str, table: str) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid, sa.ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=False, index=True)


def _time(name: str, *, nullable: bool = False, now: bool = False) -> sa.Column[object]:
    default = sa.func.now() if now else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)
