"""How long a turn is taken for alive without a sign from the process that answers it."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # No index: the partial one of running turns finds the few there are, and renewing stays an update within the page.
    op.execute("ALTER TABLE turns ADD COLUMN leased_until timestamptz")
