"""What every attempt at an answer has used and cost."""

from alembic import op

revision = "0004"
down_revision = "0003"

PARTITIONS = 16


def upgrade() -> None:
    # No reference to turns: what was spent stays spent when a conversation is deleted. Cost is in millionths.
    op.execute("""
        CREATE TABLE ledger (
            user_id uuid NOT NULL,
            run_id uuid NOT NULL,
            attempt integer NOT NULL,
            model text,
            input_tokens bigint NOT NULL,
            output_tokens bigint NOT NULL,
            cost bigint NOT NULL,
            estimated boolean NOT NULL,
            spent_at timestamptz NOT NULL DEFAULT now(),
            entered_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (user_id, run_id, attempt)
        ) PARTITION BY HASH (user_id)
    """)
    for number in range(PARTITIONS):
        op.execute(
            f"CREATE TABLE ledger_{number:02} PARTITION OF ledger "
            f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
        )
    op.execute("CREATE INDEX ledger_of_user ON ledger (user_id, spent_at)")
    op.execute("CREATE INDEX ledger_by_time ON ledger (spent_at) INCLUDE (input_tokens, output_tokens, cost)")
