"""What the operator reports of a resource. People read `phase`; programs read `conditions`."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, StringConstraints, model_serializer

from chatbot_resource.cel import MapList
from chatbot_resource.fields import Model
from chatbot_resource.stores import PostgresMode, RedisMode, VectorsMode, VectorsType

ConditionType = Literal[
    "Available",
    "Progressing",
    "Ready",
    "Degraded",
    "Paused",
    "SecretsReady",
    "PostgresReady",
    "CacheReady",
    "VectorStoreReady",
    "MigrationsComplete",
    "AutoscalingReady",
    "RouteReady",
    "DependenciesDetected",
]
Phase = Literal["Pending", "Progressing", "Ready", "Degraded", "Failed", "Paused", "Hibernated", "Idle", "Terminating"]

MAX_TEXT = 1024
MAX_RETRY = 64
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Address = Annotated[str, StringConstraints(max_length=2048)]


class Reported(Model):
    """A part of the status."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    """For `kubectl explain`. Not in every model: reading them costs the command line 50 ms at each start."""


class Condition(Reported):
    """Shaped as Kubernetes's own `metav1.Condition`; `lastTransitionTime` moves only when `status` flips."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]([A-Za-z0-9]*)$", max_length=128)]
    message: Text = ""
    last_transition_time: Annotated[str, StringConstraints(max_length=32)]
    observed_generation: Annotated[int, Field(ge=0)]


class ComponentStatus(Reported):
    """One Deployment as it was seen. `reason` is empty when all is well."""

    name: Annotated[str, StringConstraints(max_length=63)]
    image: Text
    desired: Annotated[int, Field(ge=0)]
    ready: Annotated[int, Field(ge=0)]
    updated: Annotated[int, Field(ge=0)]
    config_hash: Annotated[str, StringConstraints(max_length=64)] = ""
    reason: Text = ""


class MigrationStatus(Reported):
    """The last finished migration of one database owner."""

    owner: Literal["auth", "conversation"]
    job: Annotated[str, StringConstraints(max_length=63)]
    completed_at: Annotated[str, StringConstraints(max_length=32)]


class CopyStatus(Reported):
    """One database that was copied when `stores.postgres.mode` changed."""

    owner: Literal["auth", "conversation"]
    job: Annotated[str, StringConstraints(max_length=63)]
    completed_at: Annotated[str, StringConstraints(max_length=32)]


class Endpoints(Reported):
    """Addresses of the gateway. Whether the way in from outside is open, `RouteReady` says."""

    gateway: Address
    """Inside the cluster."""
    public: Annotated[list[Address], Field(max_length=16)] = Field(default_factory=list)
    """From outside: one for each of `exposure.hostnames` that is no wildcard."""
    openai: Address
    """Base URL for clients of OpenAI's API; the first from outside, if there is one."""


class StoreStatus(Reported):
    """A store as it was seen; nothing of it is secret."""

    address: Annotated[str, StringConstraints(max_length=512)] = ""
    """Host and port; empty where only a Secret of yours knows it."""
    image: Text = ""
    """What runs, of a store that the operator runs."""
    ready: bool = False
    """As its condition says."""

    @model_serializer(mode="wrap")
    def _said(self, made: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what there is nothing to say of."""
        return {name: value for name, value in made(self).items() if value or value is False}


class PostgresStatus(StoreStatus):
    """Where the accounts and conversations are. Another mode than the resource's: they are still to be copied."""

    mode: PostgresMode
    auth_secret: Annotated[str, StringConstraints(max_length=253)] = ""
    """With mode External: the Secret that leads to each database."""
    conversation_secret: Annotated[str, StringConstraints(max_length=253)] = ""
    moving_to: PostgresMode | None = None
    moving_since: Annotated[int, Field(ge=0)] = 0
    """Generation that first asked for it."""
    formerly: Annotated[list[PostgresMode], Field(max_length=3)] = Field(default_factory=list)
    """Stores of the operator's that the data, or a copy of it, was in before: they sleep, and stay as they were."""
    copies: Annotated[list[CopyStatus], MapList("owner"), Field(max_length=4)] = Field(default_factory=list)
    """Of the last move."""


class RedisStatus(StoreStatus):
    """Where answers in flight and counts of requests are."""

    mode: RedisMode
    secret: Annotated[str, StringConstraints(max_length=253)] = ""
    """With mode External: the Secret that leads to it."""


class VectorsStatus(StoreStatus):
    """Where vectors are searched; with type PGVector that is in Postgres."""

    type: VectorsType
    mode: VectorsMode | None = None
    secret: Annotated[str, StringConstraints(max_length=253)] = ""
    """With mode External: the Secret with its key."""


class StoresStatus(Reported):
    """What is to be known of stores beside their conditions."""

    postgres: PostgresStatus
    redis: RedisStatus | None = None
    vectors: VectorsStatus | None = None


class SecretStatus(Reported):
    """A credential that the bot has."""

    purpose: Annotated[str, StringConstraints(max_length=128)]
    """What the operator has made it for, such as `signing-keys`; or the field of `spec` that names it."""
    secret: Annotated[str, StringConstraints(max_length=253)] = ""
    rotated_at: Annotated[str, StringConstraints(max_length=32)]
    """When it was made or last changed."""
    rotates: Literal["Scheduled", "Manual", "ByOwner"] = "Scheduled"
    """Who changes it: the operator, somebody who deletes the Secret, or whose it is."""
    next_rotation: Annotated[str, StringConstraints(max_length=32)] = ""
    digest: Annotated[str, StringConstraints(max_length=64)] = ""
    """Of signing keys: which one signs; its public name, nothing of the secret itself."""
    rotation: Literal["", "Asked", "Publishing", "Overlapping"] = ""
    """What a rotation is at: asked for by annotation, the next key is published, or the one before is still valid."""


class RolledBack(Reported):
    """A change that was given up: what ran before runs again, until the resource or the version changes, or the
    annotation `chatbot-operator.io/retry` does."""

    generation: Annotated[int, Field(ge=0)]
    """Of the resource as it was given up."""
    version: Annotated[str, StringConstraints(max_length=128)]
    """The one that was given up."""
    revision: Annotated[str, StringConstraints(max_length=63)]
    """The ControllerRevision that runs instead."""
    message: Text
    """What made no progress."""
    retry: Annotated[str, StringConstraints(max_length=MAX_RETRY)] = ""
    """The annotation then: another text is another attempt."""


class Settled(Reported):
    """A version that ran in every pod, and since when."""

    version: Annotated[str, StringConstraints(max_length=128)]
    generation: Annotated[int, Field(ge=0)]
    at: Annotated[str, StringConstraints(max_length=32)]


class VersionStatus(Reported):
    """`current` serves; `target` is being rolled out, and equals it when settled."""

    current: Annotated[str, StringConstraints(max_length=128)] = ""
    target: Annotated[str, StringConstraints(max_length=128)] = ""
    rolled_back: RolledBack | None = None
    history: Annotated[list[Settled], Field(max_length=5)] = Field(default_factory=list)
    """The newest first."""


# A field that comes later has a default: an operator reads what another version wrote, also after a downgrade.
class Status(Reported):
    """What was last seen of the bot, by the operator."""

    observed_generation: Annotated[int, Field(ge=0)]
    phase: Phase
    conditions: Annotated[list[Condition], MapList("type"), Field(max_length=16)]
    components: Annotated[list[ComponentStatus], MapList("name"), Field(max_length=16)]
    components_ready: Annotated[str, StringConstraints(max_length=16)]
    """Of the four components, how many have settled, as `4/4`. Conversation's worker is a part of conversation."""
    url: Address
    """Where the gateway answers."""
    endpoints: Endpoints | None = None
    model: Annotated[str, StringConstraints(max_length=128)]
    """The default model's public name."""
    version: VersionStatus
    migrations: Annotated[list[MigrationStatus], MapList("owner"), Field(max_length=4)] = Field(default_factory=list)
    stores: StoresStatus | None = None
    secrets: Annotated[list[SecretStatus], MapList("purpose"), Field(max_length=64)] = Field(default_factory=list)
    operator_version: Annotated[str, StringConstraints(max_length=64)]
