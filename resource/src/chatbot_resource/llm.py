"""Where models run and what they are called: the `llm` part of the resource."""

from collections.abc import Collection, Iterator
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from chatbot_resource.cel import MapList, Rule, rules
from chatbot_resource.fields import (
    Duration,
    KeyRef,
    Language,
    Model,
    ModelName,
    Name,
    Price,
    Ratio,
    Url,
    refuse,
    seconds,
    unique,
)

ProviderType = Literal["OpenAI", "OpenAICompatible", "Anthropic", "Gemini", "Mistral", "Ollama", "Retrieval", "Fake"]

KEYED_PROVIDERS: frozenset[ProviderType] = frozenset({"OpenAI", "Anthropic", "Gemini", "Mistral"})
ADDRESSED_PROVIDERS: frozenset[ProviderType] = frozenset({"OpenAICompatible", "Ollama"})
RETRIEVAL = "retrieval"


class Timeouts(Model):
    """How long to wait for a provider, each counted from the last sign of life."""

    connect: Duration = "5s"
    first_token: Duration = "60s"  # noqa: S105 - a time
    idle: Duration = "30s"


def _one_of(types: frozenset[ProviderType]) -> str:
    return f"self.type in {sorted(types)}"


class Provider(Model):
    """Where models run. `Retrieval` quotes the knowledge base, `Fake` repeats the question: neither needs a network."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                f"!({_one_of(KEYED_PROVIDERS)}) || has(self.apiKeySecretRef)",
                f"a provider of type {', '.join(sorted(KEYED_PROVIDERS))} needs apiKeySecretRef: name the Secret"
                " and key with its API key",
            ),
            Rule(
                f"!({_one_of(ADDRESSED_PROVIDERS)}) || has(self.baseURL)",
                f"a provider of type {', '.join(sorted(ADDRESSED_PROVIDERS))} needs baseURL: set it to where its"
                " API answers",
            ),
        )
    )

    name: Name
    type: ProviderType
    base_url: Annotated[
        Url | None,
        Field(
            alias="baseURL",
            description="Address of the API with its version, such as http://vllm:8000/v1; unset: that of the type.",
        ),
    ] = None
    api_key_secret_ref: KeyRef | None = None
    timeouts: Timeouts = Timeouts()
    max_concurrency: Annotated[
        int, Field(ge=1, le=10_000, description="Requests under way at the same time, from each chat pod.")
    ] = 64

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.type in KEYED_PROVIDERS and self.api_key_secret_ref is None:
            raise ValueError(
                f"a provider of type {self.type} needs apiKeySecretRef: name the Secret and key with its API key"
            )
        if self.type in ADDRESSED_PROVIDERS and self.base_url is None:
            raise ValueError(f"a provider of type {self.type} needs baseURL: set it to where its API answers")
        return self


class ModelDeployment(Model):
    """A provider's own model that serves a public model name."""

    provider: Name
    model: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    weight: Annotated[int, Field(ge=1, le=1000, description="Share of requests, against the others' weights.")] = 1


class Prices(Model):
    """What a million tokens cost, in the currency that you count in."""

    input: Annotated[Price, Field(description="Of the prompt.")]
    output: Annotated[Price, Field(description="Of the answer.")]


class LanguageModel(Model):
    """A public model name, and what serves it."""

    name: ModelName
    deployments: Annotated[list[ModelDeployment], Field(min_length=1, max_length=16)]
    context_window: Annotated[int, Field(ge=512, le=100_000_000, description="In tokens.")] = 128_000
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000, description="Of one answer.")] = 1000
    prices: Prices | None = None


class Prompt(Model):
    """A system prompt for one language, kept in a ConfigMap."""

    language: Language
    ref: KeyRef


_TTL = "cache.ttl must be from 1s to 24h, such as 10m"
_SIMILARITY = "cache.similarity must be above 0, such as '0.95'"


class Cache(Model):
    """Answers given again: to the same user only, and only where model, prompt, passages and history are the same."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("duration(self.ttl) >= duration('1s') && duration(self.ttl) <= duration('24h')", _TTL),
            Rule("double(self.similarity) > 0.0", _SIMILARITY),
        )
    )

    mode: Annotated[
        Literal["Off", "Exact", "Semantic"],
        Field(description="Exact: to the same words. Semantic: also to a last question in other words, by embeddings."),
    ] = "Off"
    ttl: Annotated[Duration, Field(description="How long an answer is kept.")] = "1h"
    similarity: Annotated[
        Ratio, Field(description="Cosine from which on two questions count as one, with mode Semantic.")
    ] = "0.95"

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not 1 <= seconds(self.ttl) <= 86_400:
            raise ValueError(_TTL)
        if not float(self.similarity):
            raise ValueError(_SIMILARITY)
        return self


class Variant(Model):
    """One side of an A/B test: the model and the prompts of its users. What is unset is as without a test."""

    name: Annotated[Name, Field(description="Decides with the user's id who has it: another test, other names.")]
    weight: Annotated[int, Field(ge=1, le=1000, description="Share of users, against the others' weights.")] = 1
    model: Annotated[ModelName | None, Field(description="In the place of default.")] = None
    prompts: Annotated[
        list[Prompt],
        MapList("language"),
        Field(description="Each in the place of the prompt of its language."),
    ] = Field(default_factory=list, max_length=64)


def _names_model(name: str) -> str:
    return f"has(self.models) && self.models.exists(model, model.name == {name})"


class Llm(Model):
    """Models and where they run. With no model, answers quote the knowledge base."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.models) || self.models.all(model, model.deployments.all(item,"
                " has(self.providers) && self.providers.exists(provider, provider.name == item.provider)))",
                "each deployment of a model must name one of providers: add that provider, or mend the name",
            ),
            Rule(
                f"!has(self.default) || ({_names_model('self.default')})",
                "default must name one of models: set it to the name of one",
            ),
            Rule(
                f"!has(self.fallbacks) || self.fallbacks.all(name, {_names_model('name')})",
                "each of fallbacks must name one of models: add that model, or mend the name",
            ),
            Rule(
                "!has(self.models) || size(self.models) == 0 || has(self.default)",
                "default must name one of models: set it to the name of one",
            ),
            Rule(
                "!has(self.variants) || self.variants.all(variant,"
                f" !has(variant.model) || ({_names_model('variant.model')}))",
                "model of each of variants must name one of models: add that model, or mend the name",
            ),
        )
    )

    providers: Annotated[list[Provider], MapList("name")] = Field(default_factory=list, max_length=16)
    models: Annotated[
        list[LanguageModel], MapList("name"), Field(description="The names that users and SDKs choose from.")
    ] = Field(default_factory=list, max_length=32)
    default: Annotated[ModelName | None, Field(description="The model that answers unless another is asked for.")] = (
        None
    )
    fallbacks: Annotated[list[ModelName], Field(description="Models asked in this order when one does not answer.")] = (
        Field(default_factory=list, max_length=8)
    )
    prompts: Annotated[list[Prompt], MapList("language")] = Field(default_factory=list, max_length=64)
    variants: Annotated[
        list[Variant],
        MapList("name"),
        Field(description="An A/B test: each user has one of them, unless they name a model themselves."),
    ] = Field(default_factory=list, max_length=16)

    cache: Cache = Cache()

    @model_validator(mode="after")
    def _linked(self) -> Self:
        providers = unique("providers", (provider.name for provider in self.providers))
        models = unique("models", (model.name for model in self.models))
        for prompts in (self.prompts, *(variant.prompts for variant in self.variants)):
            unique("prompts", (prompt.language for prompt in prompts))
        unique("variants", (variant.name for variant in self.variants))
        refuse(self._dangling(providers, models))
        return self

    def _dangling(self, providers: Collection[str], models: Collection[str]) -> Iterator[str]:
        for model in self.models:
            for deployment in model.deployments:
                if deployment.provider not in providers:
                    yield f"model {model.name!r} names provider {deployment.provider!r}, which is not in providers"
        for name in filter(None, [self.default, *self.fallbacks]):
            if name not in models:
                yield f"{name!r} is not in models"
        for variant in self.variants:
            if variant.model is not None and variant.model not in models:
                yield f"variant {variant.name!r} names model {variant.model!r}, which is not in models"
        if self.models and self.default is None:
            yield "default must name one of models: set it to the name of one"


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
