"""Several answers to one question: a turn for each, and the name of the request that made a later one."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("ALTER TABLE turns ADD COLUMN request_id text")
    op.execute("ALTER TABLE turns ADD UNIQUE (user_id, request_id)")
    op.execute("ALTER TABLE turns DROP CONSTRAINT turns_user_id_user_message_id_key")
    op.execute("CREATE INDEX turns_of_message ON turns (user_id, user_message_id)")
