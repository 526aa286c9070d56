"""The `stores` part of the resource: where data is kept, and whether it outlives the resource."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from chatbot_resource.cel import rules
from chatbot_resource.fields import EXTERNAL_IFF, Model, SecretRef, external_iff


class ExternalPostgres(Model):
    """Secrets with a connection string under the key `uri`, one per database."""

    auth_secret_ref: SecretRef
    conversation_secret_ref: SecretRef


class PostgresStore(Model):
    """Accounts, conversations and knowledge. `Dev` keeps one copy on one disk; the mode cannot change later."""

    model_config = ConfigDict(json_schema_extra=rules(EXTERNAL_IFF))

    mode: Literal["Dev", "External"] = "Dev"
    external: ExternalPostgres | None = None

    @model_validator(mode="after")
    def _external(self) -> Self:
        return external_iff(self, self.mode, self.external)


class ExternalRedis(Model):
    """A Secret with a connection string under the key `uri`."""

    topology: Literal["Single"] = "Single"
    secret_ref: SecretRef


class RedisStore(Model):
    """Answers in flight and counts of requests. `Dev` is one Valkey."""

    model_config = ConfigDict(json_schema_extra=rules(EXTERNAL_IFF))

    mode: Literal["Dev", "External"] = "Dev"
    external: ExternalRedis | None = None

    @model_validator(mode="after")
    def _external(self) -> Self:
        return external_iff(self, self.mode, self.external)


class VectorStore(Model):
    """Where vectors are searched: `Weaviate`, or `PGVector` inside Postgres."""

    type: Literal["Weaviate", "PGVector"] = "Weaviate"


class Stores(Model):
    """Where data is kept. With `deletionPolicy: Retain` disks and their passwords outlive the resource."""

    postgres: PostgresStore = PostgresStore()
    redis: RedisStore = RedisStore()
    vectors: VectorStore = VectorStore()
    deletion_policy: Annotated[
        Literal["Retain", "Delete"], Field(description="What becomes of data when the resource is deleted.")
    ] = "Retain"
