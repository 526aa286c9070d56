"""What the resource tells each service is what the service's own model accepts, key by key."""

from typing import Any, cast

import pytest
from chatbot_auth.settings import Settings as Auth
from chatbot_chat.main import create_app as create_chat
from chatbot_chat.settings import Settings as Chat
from chatbot_common.settings import ServiceSettings
from chatbot_conversation.main import create_app as create_conversation
from chatbot_conversation.settings import Settings as Conversation
from chatbot_gateway.settings import Settings as Gateway
from chatbot_resource.configuration import SECRET_FILES, SERVICES, Service
from chatbot_resource.llm import KEYED_PROVIDERS
from pydantic import ValidationError

from tests.chat.running import spec
from tests.support.configuration import mapping
from tests.support.identity import Keys

MODELS: dict[Service, type[ServiceSettings]] = {
    "gateway": Gateway,
    "auth": Auth,
    "chat": Chat,
    "conversation": Conversation,
}
FULL: dict[str, Any] = spec("http://127.0.0.1:1/v1") | {
    "profile": "Standard",
    "components": {"gateway": {"drainSeconds": 200}, "chat": {"drainSeconds": 150}},
    "embeddings": {"type": "OpenAICompatible", "baseURL": "http://127.0.0.1:1/v1", "model": "e", "dimensions": 16},
    "tools": {
        "enabled": ["weather", "http_fetch", "conversation_report"],
        "httpAllowList": ["*.example.com"],
        "mcpServers": [{"name": "shop", "url": "http://shop:8000/mcp", "secretRef": {"name": "shop", "key": "token"}}],
        "weather": {"baseURL": "http://127.0.0.1:1/v1", "geocodingURL": "http://127.0.0.1:1/v1"},
    },
    "auth": {"signup": "Closed"},
    "exposure": {"cors": {"allowOrigins": ["https://example.com"]}},
    "limits": {"perMinute": 1, "perHour": 2, "perDay": 3},
    "telemetry": {"otlp": {"endpoint": "http://127.0.0.1:4318"}, "sampleRatio": "0.5"},
}
FULL["llm"] |= {
    "variants": [{"name": "plain"}, {"name": "short", "weight": 3, "model": "echo"}],
    "cache": {"mode": "Semantic", "ttl": "10m", "similarity": "0.9"},
}

STORES = {
    "redis_url": "redis://127.0.0.1:1",
    "database_url": "postgresql://nobody@127.0.0.1:1/none",
}


def secrets(service: Service) -> dict[str, str]:
    return {name: STORES.get(name, "a long value") for name in SECRET_FILES[service] if name != "service_private_key"}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("written", [{}, {"profile": "Dev"}, FULL], ids=["empty", "dev", "full"])
class TestSettings:
    def test_accepted(self, service: Service, written: dict[str, Any], keys: Keys) -> None:
        told = mapping(
            service, keys, spec=written, faq_file="faqs.yaml", documents_dir="docs", prompt_files={"en": "p"}
        )
        settings = MODELS[service].model_validate(told | secrets(service))
        assert settings.bot == "demo"
        assert settings.identity.service_public_keys == keys.public

    def test_each_key_is_read(self, service: Service, written: dict[str, Any], keys: Keys) -> None:
        told = mapping(service, keys, spec=written) | secrets(service)
        assert set(told) <= set(MODELS[service].model_fields)
        with pytest.raises(ValidationError, match="nonsense"):
            MODELS[service].model_validate(told | {"nonsense": 1})

    def test_each_named_secret_is_needed(self, service: Service, written: dict[str, Any], keys: Keys) -> None:
        told = mapping(service, keys, spec=written) | secrets(service)
        for name in SECRET_FILES[service]:
            with pytest.raises(ValidationError, match=name):
                MODELS[service].model_validate({key: value for key, value in told.items() if key != name})


TIMES = ("connect", "firstToken", "idle")


def provider(**fields: Any) -> dict[str, Any]:
    """A spec with one provider."""
    return {"llm": {"providers": [{"name": "p", "type": "OpenAICompatible", "baseURL": "http://p/v1"} | fields]}}


def models(**fields: Any) -> dict[str, Any]:
    """A spec with one model."""
    model = {"name": "m", "deployments": [{"provider": "p", "model": "x"}]} | fields
    return {"llm": provider()["llm"] | {"models": [model], "default": "m"}}


def embedding(**fields: Any) -> dict[str, Any]:
    return {
        "embeddings": {"type": "OpenAICompatible", "baseURL": "http://e/v1", "model": "m", "dimensions": 8} | fields
    }


# At the edge of what the resource takes: no service may refuse at its start what was accepted there.
ACCEPTED: list[dict[str, Any]] = [
    *(provider(timeouts={name: "1ms"}) for name in TIMES),
    *(provider(baseURL=url) for url in ("http://[::1]:1", "https://h:65535/v1", "http://xn--e1afmkfd.example")),
    provider(maxConcurrency=1),
    *(provider(type=kind, apiKeySecretRef={"name": "s", "key": "k"}) for kind in sorted(KEYED_PROVIDERS)),
    *(provider(type=kind, baseURL=None) for kind in ("Retrieval", "Fake")),
    models(prices={"input": "0.25", "output": "2"}),
    models(prices={"input": "0", "output": "1" + "0" * 19, "cachedInput": "0.000001"}),
    {"llm": models()["llm"] | {"variants": [{"name": "a", "model": "m", "weight": 1000}, {"name": "b"}]}},
    {"llm": {"variants": [{"name": "a"}]}},
    {"llm": {"cache": {"mode": "Exact", "ttl": "1s500ms"}}},
    {"llm": {"cache": {"mode": "Semantic", "ttl": "24h", "similarity": "0.000001"}}},
    {"tools": {"enabled": []}},
    {"tools": {"enabled": ["a_plug-in", "calculator", "calculator"]}},
    {"tools": {"enabled": ["http_fetch"], "httpAllowList": ["xn--e1afmkfd.example"]}},
    {"budgets": {"currency": "EUR"}},
    {"budgets": {"perUser": {"tokensPerDay": 1}, "total": {"tokensPerMonth": 10**12}}},
    {"budgets": {"perUser": {"costPerDay": "0", "costPerMonth": "999999999.999999"}}},
    {"moderation": {"provider": "Rules", "input": "Off", "output": "Flag"}},
    provider(type="OpenAI", apiKeySecretRef={"name": "s", "key": "k"}) | {"moderation": {"provider": "OpenAI"}},
    {"embeddings": {"dimensions": 384}},
    {"embeddings": {"type": "Local"}},
    embedding(dimensions=8),
    embedding(dimensions=4096),
    {"limits": {"perMinute": 1, "perHour": 1, "perDay": 1}},
    {"components": {name: {"drainSeconds": 1} for name in SERVICES}},
    {"telemetry": {"sampleRatio": "0"}},
    {"telemetry": {"sampleRatio": "1.0", "otlp": {"endpoint": "http://o"}}},
]
REFUSED: list[dict[str, Any]] = [
    *(provider(timeouts={name: time}) for name in TIMES for time in ("0s", "0ms", "0h0m")),
    *(provider(baseURL=f"http://{rest}") for rest in ("a:b", "a:99999", "a:0", "[", ":80", "/v1", "é..", "a\x7f")),
    provider(maxConcurrency=0),
    {"tools": {"enabled": [""]}},
    {"tools": {"enabled": ["http_fetch"]}},
    {"tools": {"weather": {"baseURL": "http://a:b"}}},
    {"embeddings": {"dimensions": 383}},
    embedding(dimensions=7),
    embedding(dimensions=4097),
    embedding(baseURL="http://a:b"),
    embedding(model=""),
    {"limits": {"perMinute": 0}},
    {"components": {"auth": {"drainSeconds": 0}}},
    {"telemetry": {"sampleRatio": "1.1"}},
    {"telemetry": {"otlp": {"endpoint": "http://o:p"}}},
]


class TestBoundaries:
    @pytest.mark.parametrize("written", ACCEPTED, ids=str)
    def test_accepted_by_every_service(self, written: dict[str, Any], keys: Keys) -> None:
        loaded = {
            name: MODELS[name].model_validate(mapping(name, keys, spec=written) | secrets(name)) for name in SERVICES
        }
        create_chat(cast(Chat, loaded["chat"]))
        create_conversation(cast(Conversation, loaded["conversation"]))

    @pytest.mark.parametrize("written", REFUSED, ids=str)
    def test_refused_by_the_resource(self, written: dict[str, Any], keys: Keys) -> None:
        with pytest.raises(ValidationError):
            mapping("gateway", keys, spec=written)


def test_values_arrive(keys: Keys) -> None:
    gateway = mapping("gateway", keys, spec=FULL)
    assert gateway["limits"] == {"per_minute": 1, "per_hour": 2, "per_day": 3}
    assert gateway["cors_allow_origins"] == ["https://example.com"]
    assert gateway["telemetry"] == {"otlp_endpoint": "http://127.0.0.1:4318", "sample_ratio": 0.5}
    chat = mapping("chat", keys, spec=FULL)
    assert chat["drain_seconds"] == 150
    assert chat["providers"][0]["timeouts"] == {"connect": 1.0, "first_token": 2.0, "idle": 1.0}
    assert mapping("conversation", keys, spec=FULL)["turn_seconds"] == 150
    assert mapping("auth", keys, spec=FULL)["signup"] == "Closed"


@pytest.mark.parametrize(
    ("kind", "written", "told"),
    [
        ("OpenAI", None, "https://api.openai.com/v1"),
        ("OpenAI", "http://proxy/openai/v1", "http://proxy/openai/v1"),
        ("Anthropic", None, "https://api.anthropic.com/v1"),
        ("Anthropic", "https://claude.example", "https://claude.example/v1"),
        ("Gemini", None, "https://generativelanguage.googleapis.com/v1beta/openai"),
        ("Mistral", None, "https://api.mistral.ai/v1"),
        ("Ollama", "http://ollama:11434", "http://ollama:11434/v1"),
        ("Ollama", "http://ollama:11434/", "http://ollama:11434/v1"),
        ("Ollama", "http://ollama:11434/v1", "http://ollama:11434/v1"),
        ("OpenAICompatible", "http://vllm:8000", "http://vllm:8000"),
        ("Retrieval", None, None),
        ("Fake", None, None),
    ],
)
def test_where_a_provider_is(kind: str, written: str | None, told: str | None, keys: Keys) -> None:
    spec = provider(type=kind, baseURL=written, apiKeySecretRef={"name": "s", "key": "k"})
    spec["llm"] |= models()["llm"] | {"providers": spec["llm"]["providers"]}
    assert mapping("chat", keys, spec=spec)["providers"][0]["base_url"] == told


@pytest.mark.parametrize("key", ["sk-test\n", "sk-\ntest", "sk-test\x00", "sk-\ttest", "sk-té"])
def test_a_key_that_cannot_be_sent_is_told_with_its_provider(key: str, keys: Keys) -> None:
    told = mapping("chat", keys) | {"redis_url": "redis://127.0.0.1:1", "provider_keys": {"openai": key}}
    with pytest.raises(ValueError, match="the API key of provider openai has a line break in it, or another"):
        Chat.model_validate(told)


def test_prices_are_told_where_there_are_any(keys: Keys) -> None:
    prices = {"input": "0.25", "output": "2"}
    assert mapping("chat", keys, spec=models(prices=prices))["models"][0]["prices"] == prices
    cached = mapping("chat", keys, spec=models(prices=prices | {"cachedInput": "0.025"}))["models"][0]["prices"]
    assert cached == prices | {"cached_input": "0.025"}
    assert "prices" not in mapping("chat", keys, spec=models())["models"][0]


def test_a_price_of_embeddings_is_told_to_who_counts_it(keys: Keys) -> None:
    spec = embedding(price="0.02")
    assert mapping("chat", keys, spec=spec)["embeddings_price"] == "0.02"
    assert "embeddings_price" not in mapping("chat", keys, spec=embedding())
    assert mapping("conversation", keys, spec=spec) == mapping("conversation", keys, spec=embedding())


def test_variants_are_told_where_there_are_any(keys: Keys) -> None:
    variants = [{"name": "a"}, {"name": "b", "weight": 3, "model": "m"}]
    spec = {"llm": models()["llm"] | {"variants": variants}}
    told = mapping("chat", keys, spec=spec, variant_prompt_files={"a": {"en": "p"}})["variants"]
    assert told == [
        {"name": "a", "weight": 1, "model": None, "prompt_files": {"en": "p"}},
        {"name": "b", "weight": 3, "model": "m", "prompt_files": {}},
    ]
    assert "variants" not in mapping("chat", keys)


def test_a_cache_is_told_where_there_is_one(keys: Keys) -> None:
    def told(**cache: str) -> Any:
        return mapping("chat", keys, spec={"llm": {"cache": cache}}).get("cache")

    assert told(mode="Exact", ttl="1m30s", similarity="0.5") == {"seconds": 90, "similarity": None}
    assert told(mode="Semantic") == {"seconds": 3600, "similarity": 0.95}
    assert told(ttl="1m") is None


def test_budgets_are_told_where_there_are_any(keys: Keys) -> None:
    told = mapping("chat", keys, spec={"budgets": {"total": {"tokensPerDay": 5, "costPerMonth": "2.5"}}})["budgets"]
    assert told["currency"] == "USD"
    assert told["per_user"] == dict.fromkeys(told["total"])
    assert (told["total"]["tokens_per_day"], told["total"]["cost_per_month"]) == (5, 2_500_000)
    assert "budgets" not in mapping("chat", keys)


def test_profiles_sample_differently(keys: Keys) -> None:
    ratios = {
        name: mapping("chat", keys, spec={"profile": name})["telemetry"]["sample_ratio"] for name in ("Dev", "Standard")
    }
    assert ratios == {"Dev": 1.0, "Standard": 0.1}
