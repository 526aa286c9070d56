"""The resource as typed, frozen models: what a user may write, and what unset fields become.

Field names and shapes are final: later versions only add. A field is here only when something reads it. Rules that
span fields are checked here for the command line and, generated from the same source, by the API server.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

GROUP = "chatbot-operator.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ChatbotDeployment"

ResourceName = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9._:/]*[A-Za-z0-9])?$", max_length=128)]
Key = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=2048)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]
Ratio = Annotated[str, StringConstraints(pattern=r"^(0(\.[0-9]+)?|1(\.0+)?)$", max_length=10)]
Duration = Annotated[str, StringConstraints(pattern=r"^([0-9]+(ms|s|m|h))+$", max_length=20)]

Profile = Literal["Dev", "Standard", "Production"]
ProviderType = Literal["OpenAI", "OpenAICompatible", "Anthropic", "Gemini", "Mistral", "Ollama", "Retrieval"]

KEYED_PROVIDERS: frozenset[ProviderType] = frozenset({"OpenAI", "Anthropic", "Gemini", "Mistral"})
ADDRESSED_PROVIDERS: frozenset[ProviderType] = frozenset({"OpenAICompatible", "Ollama"})
RETRIEVAL = "retrieval"


class Model(BaseModel):
    """camelCase in YAML, snake_case here; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel, validate_by_name=True)


StoreT = TypeVar("StoreT", bound=Model)


class KeyRef(Model):
    """One key of a ConfigMap or Secret in the resource's own namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    key: Key


class Timeouts(Model):
    """How long to wait for a provider, each counted from the last sign of life."""

    connect: Duration = "5s"
    first_token: Duration = "60s"  # noqa: S105 - a time
    idle: Duration = "30s"


class Provider(Model):
    """Where models run."""

    name: Name
    type: ProviderType
    base_url: Annotated[Url | None, Field(alias="baseURL")] = None
    api_key_secret_ref: KeyRef | None = None
    timeouts: Timeouts = Timeouts()
    max_concurrency: Annotated[int, Field(ge=1, le=10_000)] = 64

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.type in KEYED_PROVIDERS and self.api_key_secret_ref is None:
            raise ValueError(f"a provider of type {self.type} needs apiKeySecretRef")
        if self.type in ADDRESSED_PROVIDERS and self.base_url is None:
            raise ValueError(f"a provider of type {self.type} needs baseURL")
        return self


class ModelDeployment(Model):
    """A provider's own model that serves a public model name."""

    provider: Name
    model: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    weight: Annotated[int, Field(ge=1, le=1000)] = 1


class LanguageModel(Model):
    """A public model name. `contextWindow` and `maxOutputTokens` are tokens."""

    name: ModelName
    deployments: Annotated[list[ModelDeployment], Field(min_length=1, max_length=16)]
    context_window: Annotated[int, Field(ge=512, le=100_000_000)] = 128_000
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 1000


class Prompt(Model):
    """A system prompt for one language, kept in a ConfigMap."""

    language: Language
    ref: KeyRef


class Llm(Model):
    providers: Annotated[list[Provider], Field(max_length=16)] = []
    models: Annotated[list[LanguageModel], Field(max_length=32)] = []
    default: ModelName | None = None
    fallbacks: Annotated[list[ModelName], Field(max_length=8)] = []
    prompts: Annotated[list[Prompt], Field(max_length=64)] = []

    @model_validator(mode="after")
    def _linked(self) -> Self:
        providers = _unique("providers", (provider.name for provider in self.providers))
        models = _unique("models", (model.name for model in self.models))
        _unique("prompts", (prompt.language for prompt in self.prompts))
        for model in self.models:
            for deployment in model.deployments:
                if deployment.provider not in providers:
                    raise ValueError(
                        f"model {model.name!r} names provider {deployment.provider!r}, which is not in providers"
                    )
        for name in filter(None, [self.default, *self.fallbacks]):
            if name not in models:
                raise ValueError(f"{name!r} is not in models")
        if self.models and self.default is None:
            raise ValueError("default must name one of models")
        return self


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

    auth_secret_ref: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    conversation_secret_ref: Annotated[str, StringConstraints(min_length=1, max_length=253)]


class PostgresStore(Model):
    mode: Literal["Dev", "External"] = "Dev"
    external: ExternalPostgres | None = None

    @model_validator(mode="after")
    def _external(self) -> Self:
        return _external_iff(self, self.mode, self.external)


class ExternalRedis(Model):
    """A Secret with a connection string under the key `uri`."""

    topology: Literal["Single"] = "Single"
    secret_ref: Annotated[str, StringConstraints(min_length=1, max_length=253)]


class RedisStore(Model):
    mode: Literal["Dev", "External"] = "Dev"
    external: ExternalRedis | None = None

    @model_validator(mode="after")
    def _external(self) -> Self:
        return _external_iff(self, self.mode, self.external)


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
    allow_origins: Annotated[list[Url], Field(max_length=64)] = []

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


def resolve_llm(llm: Llm) -> Llm:
    """The models a bot really has: with none written, the one that quotes the knowledge base."""
    if llm.models:
        return llm
    return llm.model_copy(
        update={
            "providers": [*llm.providers, Provider(name=RETRIEVAL, type="Retrieval")],
            "models": [
                LanguageModel(name=RETRIEVAL, deployments=[ModelDeployment(provider=RETRIEVAL, model=RETRIEVAL)])
            ],
            "default": RETRIEVAL,
        }
    )


def sample_ratio(spec: Spec) -> float:
    """Share of traces kept: all of them in `Dev`, where one wants to see each; else one in ten."""
    if spec.telemetry.sample_ratio is not None:
        return float(spec.telemetry.sample_ratio)
    return 1.0 if spec.profile == "Dev" else 0.1


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(duration: str) -> float:
    """`1m30s` → 90.0."""
    return sum(float(count) * _UNITS[unit] for count, unit in re.findall(r"([0-9]+)(ms|s|m|h)", duration))


def _unique(what: str, names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} has {name!r} twice")
        seen.add(name)
    return seen


def _external_iff(store: StoreT, mode: str, external: Model | None) -> StoreT:
    if (mode == "External") != (external is not None):
        raise ValueError("external is for mode External, and External needs it")
    return store
