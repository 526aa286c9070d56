"""Turns that wait for the user to agree to calls of tools, and what their next attempt goes on with."""

from alembic import op

revision = "0006"
down_revision = "0005"

ENDS = "'completed', 'failed', 'cancelled', 'interrupted', 'requires_action'"


def upgrade() -> None:
    # Not to hold up every turn behind one slow transaction: rather fail, and be tried again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE turns ADD COLUMN waiting jsonb")
    for table, column, values in (("turns", "state", f"'running', {ENDS}"), ("messages", "status", ENDS)):
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_{column}_check")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {table}_{column}_check CHECK ({column} IN ({values}))")
