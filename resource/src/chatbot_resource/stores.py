"""The `stores` part of the resource: where data is kept, how much room it has, and whether it outlives the resource."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from chatbot_resource.amounts import Resources
from chatbot_resource.cel import Rule, rules
from chatbot_resource.fields import EXTERNAL_IFF, KeyRef, Model, ObjectName, SecretRef, Size, Url, external_iff

DISK_DEV, DISK = "1Gi", "10Gi"
"""Size of a disk that is not written, with profile Dev and with any other."""


class Storage(Model):
    """The disk of a store that the operator runs. It can grow where its StorageClass allows that, and never shrinks."""

    # The rules that compare it with what it was are on the spec, see disks.py.

    size: Annotated[Size | None, Field(description=f"Unset: {DISK_DEV} with profile Dev, else {DISK}.")] = None
    class_name: Annotated[ObjectName | None, Field(description="StorageClass; unset: the cluster's default.")] = None


class ExternalPostgres(Model):
    """Secrets with a connection string under `uri`, one per database; `ca.crt` beside it checks the server."""

    auth_secret_ref: SecretRef
    conversation_secret_ref: SecretRef


PostgresMode = Literal["Dev", "CloudNativePG", "External"]


class PostgresStore(Model):
    """Accounts, conversations and knowledge.

    `Dev` keeps one copy on one disk. `CloudNativePG` has that operator run three copies, of which one takes over when
    another fails; one with profile Dev. `External` is yours. Change the mode while the bot hibernates: data is copied.
    """

    model_config = ConfigDict(json_schema_extra=rules(EXTERNAL_IFF))

    mode: PostgresMode = "Dev"
    storage: Storage = Storage()
    resources: Resources = Resources()
    external: ExternalPostgres | None = None

    @model_validator(mode="after")
    def _external(self) -> Self:
        return external_iff(self, self.mode, self.external)


class ExternalRedis(Model):
    """A Secret with a connection string under the key `uri`; with `Sentinel` it names the sentinels and the master."""

    topology: Literal["Single", "Sentinel"] = "Single"
    secret_ref: SecretRef


RedisMode = Literal["Dev", "External"]


class RedisStore(Model):
    """Answers in flight and counts of requests. `Dev` is one Valkey."""

    model_config = ConfigDict(json_schema_extra=rules(EXTERNAL_IFF))

    mode: RedisMode = "Dev"
    external: ExternalRedis | None = None

    @model_validator(mode="after")
    def _external(self) -> Self:
        return external_iff(self, self.mode, self.external)


class ExternalWeaviate(Model):
    """A Weaviate of yours; gRPC at the same host, with TLS when `url` has it."""

    url: Url
    grpc_port: Annotated[int, Field(ge=1, le=65535)] = 50051
    secret_ref: Annotated[KeyRef | None, Field(description="API key; unset where anonymous access is allowed.")] = None


_IN_POSTGRES = (
    "mode, storage, resources and external are for type Weaviate: remove them, as PGVector keeps vectors in Postgres"
)


VectorsType = Literal["Weaviate", "PGVector"]
VectorsMode = Literal["Managed", "External"]


class VectorStore(Model):
    """Where vectors are searched: `Weaviate`, or `PGVector` inside Postgres. They are made anew when this changes."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            EXTERNAL_IFF,
            Rule("!has(self.type) || self.type != 'PGVector' || !has(self.external)", _IN_POSTGRES),
        )
    )

    type: VectorsType = "Weaviate"
    mode: VectorsMode = "Managed"
    storage: Storage = Storage()
    resources: Resources = Resources()
    external: ExternalWeaviate | None = None

    @model_validator(mode="after")
    def _external(self) -> Self:
        if self.type == "PGVector" and self.external is not None:
            raise ValueError(_IN_POSTGRES)
        return external_iff(self, self.mode, self.external)


class Stores(Model):
    """Where data is kept. With `deletionPolicy: Retain` disks and their passwords outlive the resource."""

    postgres: PostgresStore = PostgresStore()
    redis: RedisStore = RedisStore()
    vectors: VectorStore = VectorStore()
    deletion_policy: Annotated[
        Literal["Retain", "Delete"], Field(description="What becomes of data when the resource is deleted.")
    ] = "Retain"
