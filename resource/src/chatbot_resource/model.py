"""The resource as typed, frozen models: what a user may write, and what unset fields become.

Field names and shapes are final: later versions only add. Some fields are read on a cluster only (scaling, external
stores, deletionPolicy); `chatbot up` says so of each that is written. Rules that span fields are checked here for the
command line and, generated from the same source, by the API server.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from chatbot_resource.fields import KeyRef, Model, Ratio, ResourceName, SecretRef, Url, external_iff
from chatbot_resource.llm import Llm

GROUP = "chatbot-operator.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ChatbotDeployment"

LOCAL_DIMENSIONS = 384
"""Of the bundled MiniLM."""

Profile = Literal["Dev", "Standard", "Production"]


class Embeddings(Model):
    """How text becomes vectors. `Local` is the bundled MiniLM: 384 dimensions, no network."""

    type: Literal["Local", "OpenAICompatible"] = "Local"
    base_url: Annotated[Url | None, Field(alias="baseURL")] = None
    model: Annotated[str, StringConstraints(max_length=256)] | None = None
    dimensions: Annotated[int, Field(ge=8, le=4096)] | None = None
    api_key_secret_ref: KeyRef | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.type == "OpenAICompatible" and not (self.base_url and self.model and self.dimensions):
            raise ValueError("embeddings of type OpenAICompatible need baseURL, model and dimensions")
        if self.type == "Local" and self.dimensions not in (None, LOCAL_DIMENSIONS):
            raise ValueError(f"embeddings of type Local have {LOCAL_DIMENSIONS} dimensions, not {self.dimensions}")
        return self


class Knowledge(Model):
    """Seed knowledge: a ConfigMap key that holds a YAML list of FAQs."""

    faq_ref: KeyRef | None = None


class Replicas(Model):
    """`HPA` scales between the two bounds on CPU; `Fixed` needs `replicas`."""

    mode: Literal["Fixed", "HPA"] = "HPA"
    replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    min_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.mode == "Fixed") != (self.replicas is not None):
            raise ValueError("replicas is for mode Fixed, and Fixed needs it")
        if self.min_replicas and self.max_replicas and self.min_replicas > self.max_replicas:
            raise ValueError("minReplicas must not exceed maxReplicas")
        return self


class Component(Model):
    scaling: Replicas = Replicas()
    drain_seconds: Annotated[int, Field(ge=1, le=3600)] = 120


class Components(Model):
    gateway: Component = Component()
    auth: Component = Component()
    chat: Component = Component()
    conversation: Component = Component()

    @model_validator(mode="after")
    def _gateway_outlives_chat(self) -> Self:
        if self.gateway.drain_seconds < self.chat.drain_seconds:
            raise ValueError("gateway.drainSeconds must be at least chat.drainSeconds: it relays chat's streams")
        return self


class ExternalPostgres(Model):
    """Secrets with a connection string under the key `uri`, one per database."""

    auth_secret_ref: SecretRef
    conversation_secret_ref: SecretRef


class PostgresStore(Model):
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
    mode: Literal["Dev", "External"] = "Dev"
    external: ExternalRedis | None = None

    @model_validator(mode="after")
    def _external(self) -> Self:
        return external_iff(self, self.mode, self.external)


class VectorStore(Model):
    type: Literal["Weaviate", "PGVector"] = "Weaviate"


class Stores(Model):
    postgres: PostgresStore = PostgresStore()
    redis: RedisStore = RedisStore()
    vectors: VectorStore = VectorStore()
    deletion_policy: Literal["Retain", "Delete"] = "Retain"


class Auth(Model):
    signup: Literal["Open", "Closed"] = "Open"


class Cors(Model):
    allow_origins: list[Url] = Field(default_factory=list, max_length=64)

    @model_validator(mode="after")
    def _origins(self) -> Self:
        for url in self.allow_origins:
            parts = urlsplit(url)
            if not parts.netloc or parts.path or parts.query or parts.fragment or "*" in url:
                raise ValueError(f"{url!r} is not an origin: write scheme://host[:port], no path and no wildcard")
        return self


class Exposure(Model):
    type: Literal["None"] = "None"
    cors: Cors = Cors()


class Limits(Model):
    """Requests a user or, before sign-in, an address may make. Held across all replicas."""

    per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 60
    per_hour: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    per_day: Annotated[int, Field(ge=1, le=100_000_000)] = 10_000


class Otlp(Model):
    endpoint: Url


class Telemetry(Model):
    otlp: Otlp | None = None
    sample_ratio: Ratio | None = None


class Spec(Model):
    """Everything is optional: `spec: {}` is a bot that answers from its knowledge."""

    profile: Profile = "Standard"
    components: Components = Components()
    llm: Llm = Llm()
    embeddings: Embeddings = Embeddings()
    knowledge: Knowledge = Knowledge()
    stores: Stores = Stores()
    auth: Auth = Auth()
    exposure: Exposure = Exposure()
    limits: Limits = Limits()
    telemetry: Telemetry = Telemetry()

    @model_validator(mode="after")
    def _safe_in_production(self) -> Self:
        if self.profile == "Production" and "Dev" in (self.stores.postgres.mode, self.stores.redis.mode):
            raise ValueError("profile Production needs external stores: mode Dev keeps one copy on one disk")
        return self


class Metadata(Model):
    """Kubernetes's own metadata; only what is read here, the rest passes."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: ResourceName
    namespace: str = "default"


class ChatbotDeployment(Model):
    """One team's chatbot. `status`, where a cluster has written one, is ignored."""

    api_version: Literal["chatbot-operator.io/v1alpha1"]
    kind: Literal["ChatbotDeployment"]
    metadata: Metadata
    spec: Spec = Spec()
    status: Mapping[str, Any] | None = Field(default=None, exclude=True)

    @property
    def name(self) -> str:
        return self.metadata.name


def sample_ratio(spec: Spec) -> float:
    """Share of traces kept: all of them in `Dev`, where one wants to see each; else one in ten."""
    if spec.telemetry.sample_ratio is not None:
        return float(spec.telemetry.sample_ratio)
    return 1.0 if spec.profile == "Dev" else 0.1
