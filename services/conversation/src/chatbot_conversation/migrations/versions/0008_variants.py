"""On which side of an A/B test an answer was given, and what that side has cost."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    # Not to hold up every turn behind one slow transaction: rather fail, and be tried again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in ("messages", "ledger"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN variant text")
