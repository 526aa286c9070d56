"""How a turn was asked for: the chat service's own words, which it wants back with the turn."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    # Not to hold up every turn behind one slow transaction: rather fail, and be tried again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE turns ADD COLUMN options jsonb")
