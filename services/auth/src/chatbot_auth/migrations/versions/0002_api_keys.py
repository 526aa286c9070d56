"""API keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0002"
down_revision = "0001"

BUDGET = ("tokens_per_day", "tokens_per_month", "cost_per_day", "cost_per_month")


def upgrade() -> None:
    owner = sa.ForeignKey("users.id", ondelete="CASCADE")
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid, primary_key=True),
        _time("created_at", now=True),
        sa.Column("user_id", sa.Uuid, owner, nullable=False, index=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("key_hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("scopes", ARRAY(sa.String(32)), nullable=False),
        _time("expires_at"),
        *(sa.Column(name, sa.BigInteger) for name in BUDGET),
        _time("last_used_at"),
        _time("revoked_at"),
    )


def downgrade() -> None:
    op.drop_table("api_keys")


def _time(name: str, *, now: bool = False) -> sa.Column[object]:
    default = sa.func.now() if now else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=not now, server_default=default)
