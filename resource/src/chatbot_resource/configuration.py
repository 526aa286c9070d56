"""What each service is told, on a cluster or on a laptop: one function, so that the two cannot differ.

The result is plain JSON. The operator puts it into an immutable ConfigMap, `chatbot up` into a file. It never holds a
secret: those travel as files beside it, under the names in `SECRET_FILES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from chatbot_resource.budgets import Budget, Budgets
from chatbot_resource.components import SERVICES as SERVICES
from chatbot_resource.components import Service as Service
from chatbot_resource.fields import seconds
from chatbot_resource.llm import LanguageModel, Llm, Provider, resolve_llm
from chatbot_resource.model import LOCAL_DIMENSIONS, ChatbotDeployment, Spec
from chatbot_resource.profiles import sample_ratio, trusted_proxies
from chatbot_resource.tools import Tools

OPERATOR = "operator"
"""Identity of whoever manages the services: the operator on a cluster, the command line on a laptop."""

SECRET_FILES: Mapping[Service, tuple[str, ...]] = {
    "gateway": ("service_private_key", "redis_url"),
    "auth": ("service_private_key", "database_url", "signing_keys", "admin_password"),
    "chat": ("service_private_key", "redis_url"),  # and provider_keys/NAME, mcp_tokens/NAME where there is one
    "conversation": ("service_private_key", "database_url"),  # and embeddings_key, weaviate_key
}

# A resource may override it. All but Anthropic are asked in OpenAI's protocol.
PROVIDER_URLS: Mapping[str, str] = {
    "OpenAI": "https://api.openai.com/v1",
    "Anthropic": "https://api.anthropic.com/v1",
    "Gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "Mistral": "https://api.mistral.ai/v1",
}
VERSIONED = ("OpenAI", "Anthropic", "Mistral", "Ollama")
"""Types whose API is below `/v1` on every server, so that a resource may leave it out."""


@dataclass(frozen=True)
class Listen:
    """Where one service listens."""

    host: str
    port: int
    private_port: int


@dataclass(frozen=True)
class Endpoints:
    """Where everything is. URLs have no trailing slash; stores with a password are secrets, not endpoints."""

    listen: Mapping[Service, Listen]
    urls: Mapping[Service, str]
    """Base URL of each service as the others reach it."""
    weaviate: str | None = None
    weaviate_grpc_port: int = 50051


@dataclass(frozen=True)
class Resolved:
    """References turned into what a process can open, and generated values that are no secret."""

    service_public_keys: Mapping[str, str]
    admin_email: str
    faq_file: str | None = None
    documents_dir: str | None = None
    """A folder of Markdown, from `chatbot up --knowledge`; a cluster has none."""
    prompt_files: Mapping[str, str] = field(default_factory=dict)
    variant_prompt_files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Variant → language → path."""
    rules_file: str | None = None


def service_settings(bot: ChatbotDeployment, endpoints: Endpoints, resolved: Resolved) -> dict[Service, dict[str, Any]]:
    """Settings of each service as JSON-ready mappings; each service's own model refuses a key it does not know."""
    own = {
        "gateway": _gateway(bot.spec, endpoints),
        "auth": _auth(bot.spec, resolved),
        "chat": _chat(bot.spec, endpoints, resolved),
        "conversation": _conversation(bot.spec, endpoints, resolved),
    }
    return {name: _shared(bot, name, endpoints, resolved) | own[name] for name in SERVICES}


def _shared(bot: ChatbotDeployment, name: Service, endpoints: Endpoints, resolved: Resolved) -> dict[str, Any]:
    listen = endpoints.listen[name]
    otlp = bot.spec.telemetry.otlp
    return {
        "bot": bot.name,
        "listen": {"host": listen.host, "port": listen.port, "private_port": listen.private_port},
        "identity": {
            "issuer": bot.name,
            "jwks_url": endpoints.urls["auth"] + "/api/v1/.well-known/jwks.json",
            "service_public_keys": dict(resolved.service_public_keys),
        },
        "telemetry": {
            "otlp_endpoint": otlp.endpoint if otlp else None,
            "sample_ratio": sample_ratio(bot.spec),
        },
        "drain_seconds": getattr(bot.spec.components, name).drain_seconds,
    }


def _gateway(spec: Spec, endpoints: Endpoints) -> dict[str, Any]:
    limits = spec.limits
    return {
        "upstreams": {name: endpoints.urls[name] for name in SERVICES if name != "gateway"},
        "limits": {
            "per_minute": limits.per_minute,
            "per_hour": limits.per_hour,
            "per_day": limits.per_day,
        },
        "cors_allow_origins": list(spec.exposure.cors.allow_origins),
        "trusted_proxies": trusted_proxies(spec),
    }


def _auth(spec: Spec, resolved: Resolved) -> dict[str, Any]:
    return {"signup": spec.auth.signup, "admin_email": resolved.admin_email}


def _chat(spec: Spec, endpoints: Endpoints, resolved: Resolved) -> dict[str, Any]:
    llm = resolve_llm(spec.llm)
    return {
        "conversation_url": endpoints.urls["conversation"],
        "providers": [_provider(provider) for provider in llm.providers],
        "models": _models(llm),
        "default_model": llm.default,
        "fallbacks": list(llm.fallbacks),
        "prompt_files": dict(resolved.prompt_files),
        "tools": _tools(spec.tools),
        **_variants(llm, resolved),
        **_cache(llm),
        **_budgets(spec.budgets),
        **_moderation(spec, resolved),
        **({"embeddings_price": price} if (price := spec.embeddings.price) else {}),  # as prices are
    }


def _variants(llm: Llm, resolved: Resolved) -> dict[str, Any]:
    """Told only where there are any, as budgets are."""
    told = [
        {
            "name": variant.name,
            "weight": variant.weight,
            "model": variant.model,
            "prompt_files": dict(resolved.variant_prompt_files.get(variant.name, {})),
        }
        for variant in llm.variants
    ]
    return {"variants": told} if told else {}


def _cache(llm: Llm) -> dict[str, Any]:
    """Told only where it is on, as budgets are."""
    cache = llm.cache
    if cache.mode == "Off":
        return {}
    similarity = float(cache.similarity) if cache.mode == "Semantic" else None
    return {"cache": {"seconds": int(seconds(cache.ttl)), "similarity": similarity}}


def _tools(tools: Tools) -> dict[str, Any]:
    return {
        "enabled": list(dict.fromkeys(tools.enabled)),
        "mcp_servers": [{"name": server.name, "url": server.url} for server in tools.mcp_servers],
        "http_allow_list": list(tools.http_allow_list),
        "weather": {"base_url": tools.weather.base_url, "geocoding_url": tools.weather.geocoding_url},
    }


def _moderation(spec: Spec, resolved: Resolved) -> dict[str, Any]:
    """Told only where there is any, as budgets are."""
    moderation = spec.moderation
    if moderation.provider == "None":
        return {}
    asked = next((provider.name for provider in spec.llm.providers if provider.type == "OpenAI"), None)
    told = {
        "input": moderation.input,
        "output": moderation.output,
        "provider": asked if moderation.provider == "OpenAI" else None,
        "rules_file": resolved.rules_file,
    }
    return {"moderation": told}


def _budgets(budgets: Budgets) -> dict[str, Any]:
    """Told only where there are any: images of the release before do not know them."""
    if budgets == Budgets():
        return {}
    told: dict[str, Any] = {"per_user": _budget(budgets.per_user), "total": _budget(budgets.total)}
    if budgets.per_key != Budget():
        told["per_key"] = _budget(budgets.per_key)
    return {"budgets": told | {"currency": budgets.currency}}


def _budget(budget: Budget) -> dict[str, int | None]:
    return {
        "tokens_per_day": budget.tokens_per_day,
        "tokens_per_month": budget.tokens_per_month,
        "cost_per_day": _micros(budget.cost_per_day),
        "cost_per_month": _micros(budget.cost_per_month),
    }


def _micros(cost: str | None) -> int | None:
    """Money is counted in millionths, which are whole numbers."""
    return int(Decimal(cost) * 1_000_000) if cost is not None else None


def provider_url(provider: Provider) -> str | None:
    """Where a provider's API is, its version included; None for those that need no network."""
    url = provider.base_url or PROVIDER_URLS.get(provider.type)
    if url and provider.type in VERSIONED and urlsplit(url).path in ("", "/"):
        return urlsplit(url)._replace(path="/v1").geturl()
    return url


def _provider(provider: Provider) -> dict[str, Any]:
    return {
        "name": provider.name,
        "type": provider.type if provider.type in ("Retrieval", "Fake", "Anthropic") else "OpenAICompatible",
        "base_url": provider_url(provider),
        "timeouts": {
            "connect": seconds(provider.timeouts.connect),
            "first_token": seconds(provider.timeouts.first_token),
            "idle": seconds(provider.timeouts.idle),
        },
        "max_concurrency": provider.max_concurrency,
    }


def _models(llm: Llm) -> list[dict[str, Any]]:
    return [
        {
            "name": model.name,
            "deployments": [
                {"provider": item.provider, "model": item.model, "weight": item.weight} for item in model.deployments
            ],
            "context_window": model.context_window,
            "max_output_tokens": model.max_output_tokens,
            **_prices(model),
        }
        for model in llm.models
    ]


def _prices(model: LanguageModel) -> dict[str, Any]:
    """Told only where they are written: images of the release before do not know them."""
    prices = model.prices
    return {"prices": prices.model_dump(exclude_none=True)} if prices else {}


def _conversation(spec: Spec, endpoints: Endpoints, resolved: Resolved) -> dict[str, Any]:
    embeddings = spec.embeddings
    weaviate = spec.stores.vectors.type == "Weaviate" and endpoints.weaviate is not None
    return {
        "embeddings": {
            "type": embeddings.type,
            "base_url": embeddings.base_url,
            "model": embeddings.model,
            "dimensions": embeddings.dimensions or LOCAL_DIMENSIONS,
        },
        "vectors": {
            "type": "Weaviate" if weaviate else "PGVector",
            "url": endpoints.weaviate if weaviate else None,
            "grpc_port": endpoints.weaviate_grpc_port,
        },
        "faq_file": resolved.faq_file,
        "documents_dir": resolved.documents_dir,
        "turn_seconds": spec.components.chat.drain_seconds,
    }
