"""By which API key an answer was asked for; what a key has spent is summed by it."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    # Not to hold up every turn behind one slow transaction: rather fail, and be tried again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE ledger ADD COLUMN key_id uuid")
