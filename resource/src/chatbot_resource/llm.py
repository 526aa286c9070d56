"""Where models run and what they are called: the `llm` part of the resource."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from chatbot_resource.fields import Duration, KeyRef, Language, Model, ModelName, Name, Url, unique

ProviderType = Literal["OpenAI", "OpenAICompatible", "Anthropic", "Gemini", "Mistral", "Ollama", "Retrieval"]

KEYED_PROVIDERS: frozenset[ProviderType] = frozenset({"OpenAI", "Anthropic", "Gemini", "Mistral"})
ADDRESSED_PROVIDERS: frozenset[ProviderType] = frozenset({"OpenAICompatible", "Ollama"})
RETRIEVAL = "retrieval"


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
    providers: list[Provider] = Field(default_factory=list, max_length=16)
    models: list[LanguageModel] = Field(default_factory=list, max_length=32)
    default: ModelName | None = None
    fallbacks: list[ModelName] = Field(default_factory=list, max_length=8)
    prompts: list[Prompt] = Field(default_factory=list, max_length=64)

    @model_validator(mode="after")
    def _linked(self) -> Self:
        providers = unique("providers", (provider.name for provider in self.providers))
        models = unique("models", (model.name for model in self.models))
        unique("prompts", (prompt.language for prompt in self.prompts))
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
