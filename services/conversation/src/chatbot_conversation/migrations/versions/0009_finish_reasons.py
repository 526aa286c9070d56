"""Why an answer that ended by itself is not whole."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    # Not to hold up every turn behind one slow transaction: rather fail, and be tried again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE messages ADD COLUMN finish_reason text")
