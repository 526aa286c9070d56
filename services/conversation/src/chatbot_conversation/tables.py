"""The tables of this service as SQLAlchemy sees them; `migrations/` creates them, a test compares the two.

Everything that belongs to a person is hash-partitioned by `user_id`, so every key starts with it and
every query names it.
"""

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    MetaData,
    Row,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

AnyRow = Row[*tuple[Any, ...]]
"""One result row, whose columns its query names."""

_json = JSONB(none_as_null=True)


def _time(name: str, *, nullable: bool = False) -> Column[object]:
    default = None if nullable else func.now()
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default)


conversations = Table(
    "conversations",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("title", Text, nullable=False),
    Column("language", Text),
    Column("archived", Boolean, nullable=False, server_default=text("false")),
    Column("tags", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("summary", Text),
    Column("message_count", Integer, nullable=False, server_default=text("0")),
    Column("token_count", Integer, nullable=False, server_default=text("0")),
    Column("last_message_id", Uuid),
    Column("model", Text),
    _time("created_at"),
    _time("updated_at"),
)

messages = Table(
    "messages",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("conversation_id", Uuid, nullable=False),
    Column("parent_id", Uuid),
    Column("role", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("parts", _json, nullable=False),
    Column("citations", _json, nullable=False, server_default=text("'[]'::jsonb")),
    Column("status", Text, nullable=False),
    Column("model", Text),
    Column("usage", _json),
    Column("error", Text),
    Column("client_message_id", Text),
    Column("moderation", _json),
    Column("variant", Text),
    Column("finish_reason", Text),
    _time("created_at"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    Column("message_id", Uuid, primary_key=True),
    Column("rating", Text, nullable=False),
    Column("comment", Text),
    _time("created_at"),
    _time("updated_at"),
)

turns = Table(
    "turns",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("conversation_id", Uuid, nullable=False),
    Column("user_message_id", Uuid, nullable=False),
    Column("reply_message_id", Uuid, nullable=False),
    Column("request_id", Text),
    Column("attempt", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("waiting", _json),
    Column("options", _json),
    _time("deadline"),
    _time("leased_until", nullable=True),
    _time("created_at"),
    _time("finished_at", nullable=True),
)

ledger = Table(
    "ledger",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    Column("run_id", Uuid, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("model", Text),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("variant", Text),
    Column("key_id", Uuid),
    _time("spent_at"),
    _time("entered_at"),
)

faqs = Table(
    "faqs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("slug", Text, nullable=False, unique=True),
    Column("category", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("keywords", ARRAY(Text), nullable=False),
    Column("status", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("language", Text, nullable=False),
    Column("view_count", Integer, nullable=False, server_default=text("0")),
    Column("helpful_count", Integer, nullable=False, server_default=text("0")),
    Column("source", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("indexed_as", Text),
    _time("created_at"),
    _time("updated_at"),
)

documents = Table(
    "documents",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("path", Text, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("indexed_as", Text),
    _time("created_at"),
    _time("updated_at"),
)

passages = Table(
    "passages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("document_id", Uuid, nullable=False),
    Column("position", Integer, nullable=False),
    Column("text", Text, nullable=False),
)
