"""Several answers to one question: a turn for each, and the name of the request that made a later one."""

from alembic import op

revision = "0003"
down_revision = "0002"

HARMLESS = {
    "turns no longer has the rule UNIQUE (user_id, user_message_id)": "nothing has been released with it: the first "
    "release has all revisions up to this one",
}


def upgrade() -> None:
    # Not to hold up every turn behind one slow transaction: rather fail, and be tried again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE turns ADD COLUMN request_id text")
    op.execute("ALTER TABLE turns ADD UNIQUE (user_id, request_id)")
    op.execute("ALTER TABLE turns DROP CONSTRAINT turns_user_id_user_message_id_key")
    op.execute("CREATE INDEX turns_of_message ON turns (user_id, user_message_id)")
