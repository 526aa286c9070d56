"""What moderation found in a message, and what its reader thinks of it."""

from alembic import op

revision = "0005"
down_revision = "0004"

PARTITIONS = 16


def upgrade() -> None:
    # Not to hold up every turn behind one slow transaction: rather fail, and be tried again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE messages ADD COLUMN moderation jsonb")
    op.execute("""
        CREATE TABLE feedback (
            user_id uuid NOT NULL,
            message_id uuid NOT NULL,
            rating text NOT NULL CHECK (rating IN ('up', 'down')),
            comment text,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (user_id, message_id),
            FOREIGN KEY (user_id, message_id) REFERENCES messages (user_id, id) ON DELETE CASCADE
        ) PARTITION BY HASH (user_id)
    """)
    for number in range(PARTITIONS):
        op.execute(
            f"CREATE TABLE feedback_{number:02} PARTITION OF feedback "
            f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
        )
