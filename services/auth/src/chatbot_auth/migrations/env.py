"""Run by alembic inside the transaction that `chatbot_common.database.migrate` holds."""

from alembic import context
from chatbot_auth.tables import Row

context.configure(connection=context.config.attributes["connection"], target_metadata=Row.metadata)
with context.begin_transaction():
    context.run_migrations()
