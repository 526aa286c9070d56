"""First schema: history partitioned by user, knowledge, and the job queue.

The queue's tables are spelled by the installed pgqueuer; a release of it that changes them needs a revision here.
"""

from alembic import op
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment

revision = "0001"
down_revision = None

PARTITIONS = 16

# Deferred foreign keys: a turn's message is inserted first, because its unique key decides who starts the turn.
HISTORY = """
CREATE TABLE conversations (
    user_id uuid NOT NULL,
    id uuid NOT NULL,
    title text NOT NULL,
    language text,
    archived boolean NOT NULL DEFAULT false,
    tags text[] NOT NULL DEFAULT '{}',
    summary text,
    message_count integer NOT NULL DEFAULT 0,
    token_count integer NOT NULL DEFAULT 0,
    last_message_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, id)
) PARTITION BY HASH (user_id);
CREATE INDEX conversations_newest ON conversations (user_id, updated_at DESC, id DESC);

CREATE TABLE messages (
    user_id uuid NOT NULL,
    id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    parent_id uuid,
    role text NOT NULL CHECK (role IN ('user', 'assistant')),
    text text NOT NULL,
    parts jsonb NOT NULL,
    citations jsonb NOT NULL DEFAULT '[]',
    status text NOT NULL CHECK (status IN ('completed', 'failed', 'cancelled', 'interrupted')),
    model text,
    usage jsonb,
    error text,
    client_message_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, id),
    UNIQUE (user_id, client_message_id),
    FOREIGN KEY (user_id, conversation_id) REFERENCES conversations (user_id, id)
        ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
) PARTITION BY HASH (user_id);
CREATE INDEX messages_of_conversation ON messages (user_id, conversation_id, id);

CREATE TABLE turns (
    user_id uuid NOT NULL,
    id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    user_message_id uuid NOT NULL,
    reply_message_id uuid NOT NULL,
    attempt integer NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'completed', 'failed', 'cancelled', 'interrupted')),
    deadline timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (user_id, id),
    UNIQUE (user_id, user_message_id),
    FOREIGN KEY (user_id, conversation_id) REFERENCES conversations (user_id, id)
        ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
) PARTITION BY HASH (user_id);
CREATE INDEX turns_by_id ON turns (id);
CREATE INDEX turns_of_conversation ON turns (user_id, conversation_id);
CREATE INDEX turns_overdue ON turns (deadline) WHERE state = 'running';
"""

KNOWLEDGE = """
CREATE TABLE faqs (
    id uuid PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    category text NOT NULL,
    question text NOT NULL,
    answer text NOT NULL,
    keywords text[] NOT NULL,
    status text NOT NULL CHECK (status IN ('draft', 'published')),
    priority integer NOT NULL,
    language text NOT NULL,
    view_count integer NOT NULL DEFAULT 0,
    helpful_count integer NOT NULL DEFAULT 0,
    source text NOT NULL CHECK (source IN ('seed', 'admin')),
    content_hash text NOT NULL,
    indexed_as text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX faqs_published ON faqs (priority DESC, id) WHERE status = 'published';

CREATE TABLE documents (
    id uuid PRIMARY KEY,
    path text NOT NULL UNIQUE,
    title text NOT NULL,
    text text NOT NULL,
    source text NOT NULL CHECK (source IN ('seed', 'admin')),
    content_hash text NOT NULL,
    indexed_as text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE passages (
    id uuid PRIMARY KEY,
    document_id uuid NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    position integer NOT NULL,
    text text NOT NULL
);
CREATE INDEX passages_of_document ON passages (document_id, position);
"""


def upgrade() -> None:
    _script(HISTORY)
    for table in ("conversations", "messages", "turns"):
        for number in range(PARTITIONS):
            op.execute(
                f"CREATE TABLE {table}_{number:02} PARTITION OF {table} "
                f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
            )
    _script(KNOWLEDGE)
    _script(QueryBuilderEnvironment().build_install_query())


def _script(statements: str) -> None:
    """Run several statements in the migration's transaction: asyncpg prepares what SQLAlchemy sends, one at a time."""
    adapted = op.get_bind().connection.dbapi_connection
    assert adapted is not None  # noqa: S101 - alembic has just used it
    adapted.run_async(lambda connection: connection.execute(statements))
