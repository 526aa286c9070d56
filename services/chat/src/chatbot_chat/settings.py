"""What the chat service is told."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from chatbot_common.redis_url import RedisUrl
from chatbot_common.settings import ClosedModel, ServiceSettings
from pydantic import Field, SecretStr, field_validator, model_validator

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Micros = Annotated[int, Field(ge=0)]
Price = Annotated[Decimal, Field(ge=0)]


class Timeouts(ClosedModel):
    """Seconds: to connect, until the first token, between tokens."""

    connect: Seconds
    first_token: Seconds
    idle: Seconds


class ProviderSettings(ClosedModel):
    """Where models run. Those with a network need `base_url`, which ends in the API's version path."""

    name: str
    type: Literal["Retrieval", "Fake", "OpenAICompatible", "Anthropic"]
    base_url: str | None
    timeouts: Timeouts
    max_concurrency: Count


class DeploymentSettings(ClosedModel):
    provider: str
    model: str
    weight: Count


class Prices(ClosedModel):
    """Of a million tokens, in the currency that the team counts in."""

    input: Price
    output: Price
    cached_input: Price | None = None

    def of(self, asked: int, said: int, cached: int) -> Decimal:
        """Of so many tokens, in millionths; `cached` are those of `asked` that the provider had in its cache."""
        again = self.input if self.cached_input is None else self.cached_input
        cached = min(cached, asked)
        return self.input * (asked - cached) + again * cached + self.output * said


class ModelSettings(ClosedModel):
    """A public model name; window and output are tokens."""

    name: str
    deployments: Annotated[list[DeploymentSettings], Field(min_length=1)]
    context_window: Count
    max_output_tokens: Count
    prices: Prices | None = None


class VariantSettings(ClosedModel):
    """One side of an A/B test; what it has no model or prompt for is as without a test."""

    name: str
    weight: Count
    model: str | None
    prompt_files: dict[str, str]


class CacheSettings(ClosedModel):
    """Seconds that an answer is kept, and from which cosine on questions count as one; None is never."""

    seconds: Count
    similarity: Annotated[float, Field(gt=0, le=1)] | None


class WeatherSettings(ClosedModel):
    """Addresses of an API that speaks like Open-Meteo; both end in its version path."""

    base_url: str
    geocoding_url: str


class McpServerSettings(ClosedModel):
    """A server of tools; its token is in `mcp_tokens`, if it has one."""

    name: str
    url: str


class ToolSettings(ClosedModel):
    """`enabled` names tools, built in or plug-ins; `http_allow_list` the hosts that `http_fetch` may read."""

    enabled: list[str]
    mcp_servers: list[McpServerSettings]
    http_allow_list: list[str]
    weather: WeatherSettings


class BudgetSettings(ClosedModel):
    """What may be spent; cost is in millionths of the currency. None is no bound."""

    tokens_per_day: Count | None
    tokens_per_month: Count | None
    cost_per_day: Micros | None
    cost_per_month: Micros | None


class BudgetsSettings(ClosedModel):
    """Of each user, of each API key (None is no bound), and of all together."""

    per_user: BudgetSettings
    per_key: BudgetSettings | None = None
    total: BudgetSettings
    currency: str


class ModerationSettings(ClosedModel):
    """`provider` names the provider whose moderation judges; None are the rules."""

    input: Literal["Block", "Flag", "Off"]
    output: Literal["Block", "Flag", "Off"]
    provider: str | None
    rules_file: str | None


class Settings(ServiceSettings):
    conversation_url: str
    providers: list[ProviderSettings]
    models: Annotated[list[ModelSettings], Field(min_length=1)]
    default_model: str
    fallbacks: list[str]
    prompt_files: dict[str, str]
    """Language → path of its system prompt."""
    variants: list[VariantSettings] = Field(default_factory=list)
    cache: CacheSettings | None = None
    tools: ToolSettings
    budgets: BudgetsSettings | None = None
    moderation: ModerationSettings | None = None
    embeddings_price: Price = Decimal(0)
    """Of a million tokens."""
    redis_url: RedisUrl
    provider_keys: dict[str, SecretStr] = Field(default_factory=dict)
    """Provider name → API key."""
    mcp_tokens: dict[str, SecretStr] = Field(default_factory=dict)
    """MCP server name → token."""

    @field_validator("provider_keys")
    @classmethod
    def _sendable(cls, keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
        """It goes into a header: what cannot be sent would look like a provider that fails."""
        for name, key in keys.items():
            said = key.get_secret_value()
            if not (said.isascii() and said.isprintable()):
                raise ValueError(
                    f"the API key of provider {name} has a line break in it, or another character that no header takes;"
                    " put the key alone in its Secret, as the provider shows it"
                )
        return keys

    @model_validator(mode="after")
    def _linked(self) -> Self:
        models = {model.name for model in self.models}
        providers = {provider.name for provider in self.providers}
        used = {item.provider for model in self.models for item in model.deployments}
        if self.moderation and self.moderation.provider:
            used.add(self.moderation.provider)
        named = {self.default_model, *self.fallbacks, *(item.model for item in self.variants if item.model)}
        if unknown := (named - models) | (used - providers):
            raise ValueError(f"not defined: {', '.join(sorted(unknown))}")
        return self
