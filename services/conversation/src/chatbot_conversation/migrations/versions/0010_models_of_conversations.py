"""Which model answers in a conversation, where its user has chosen one."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    # Not to hold up every turn behind one slow transaction: rather fail, and be tried again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE conversations ADD COLUMN model text")
