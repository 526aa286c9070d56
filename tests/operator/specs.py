"""Specs for the tests of the pure part: a few by hand, and any number at random."""

from typing import Any

from hypothesis import strategies as st

KEYED = {"name": "openai", "type": "OpenAI", "apiKeySecretRef": {"name": "openai", "key": "api-key"}}
LLM = {
    "providers": [
        KEYED,
        {"name": "local", "type": "OpenAICompatible", "baseURL": "http://models/v1"},
    ],
    "models": [
        {"name": "main", "deployments": [{"provider": "openai", "model": "gpt"}]},
        {"name": "backup", "deployments": [{"provider": "local", "model": "small"}]},
    ],
    "default": "main",
    "fallbacks": ["backup"],
    "prompts": [{"language": "en", "ref": {"name": "prompts", "key": "en.txt"}}],
}
EMBEDDINGS = {
    "type": "OpenAICompatible",
    "baseURL": "http://models/v1",
    "model": "e",
    "dimensions": 16,
    "apiKeySecretRef": {"name": "embeddings", "key": "api-key"},
}
FAQS = {"faqRef": {"name": "faqs", "key": "faqs.yaml"}}
RULES = {"provider": "Rules", "rulesRef": {"name": "rules", "key": "rules.yaml"}}
EXTERNAL = {
    "postgres": {
        "mode": "External",
        "external": {"authSecretRef": {"name": "auth-db"}, "conversationSecretRef": {"name": "conversation-db"}},
    },
    "redis": {"mode": "External", "external": {"secretRef": {"name": "cache"}}},
}
DEFAULTS: dict[str, Any] = {
    "resources": {"requests": {"cpu": "200m"}},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "chat", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}]
            }
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 10,
                    "podAffinityTerm": {
                        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "chatbot"}},
                        "topologyKey": "kubernetes.io/hostname",
                    },
                }
            ]
        },
    },
    "topologySpread": [{"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "podLabels": {"team": "harbour"},
    "podAnnotations": {"example.com/owner": "the front desk"},
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "imagePullSecrets": [{"name": "registry"}],
}
DEV: dict[str, Any] = {"profile": "Dev", "knowledge": FAQS}
VARIANTS = [
    {"name": "plain"},
    {"name": "short", "model": "backup", "prompts": [{"language": "en", "ref": {"name": "prompts", "key": "short"}}]},
]
STANDARD: dict[str, Any] = {"llm": LLM | {"variants": VARIANTS}, "embeddings": EMBEDDINGS, "knowledge": FAQS}
PRODUCTION: dict[str, Any] = {
    "profile": "Production",
    "stores": EXTERNAL | {"vectors": {"type": "PGVector"}, "deletionPolicy": "Delete"},
    "components": {
        "gateway": {"scaling": {"mode": "Fixed", "replicas": 4}, "drainSeconds": 300},
        "chat": {"scaling": {"minReplicas": 2, "maxReplicas": 5}, "drainSeconds": 300},
    },
    "images": {"chat": "example.com/chat@sha256:" + "0" * 64},
    "telemetry": {"otlp": {"endpoint": "http://otel:4318"}},
    "defaults": DEFAULTS,
    "exposure": {
        "type": "Ingress",
        "className": "nginx",
        "hostnames": ["chat.example.com"],
        "tlsSecretRef": {"name": "chat-tls"},
    },
    "network": {
        "egress": [{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 443}]}],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
    },
}
BY_HAND = {"dev": DEV, "standard": STANDARD, "production": PRODUCTION, "empty": {}}

_scaling = st.one_of(
    st.builds(lambda count: {"mode": "Fixed", "replicas": count}, st.integers(1, 9)),
    st.sampled_from([{"mode": "External"}, {"mode": "KEDA"}]),
    st.builds(lambda low, more: {"minReplicas": low, "maxReplicas": low + more}, st.integers(1, 5), st.integers(0, 5)),
)
_component = st.fixed_dictionaries({}, optional={"scaling": _scaling, "drainSeconds": st.integers(1, 120)})
_stores = st.fixed_dictionaries(
    {},
    optional={
        "postgres": st.sampled_from([EXTERNAL["postgres"], {"mode": "CloudNativePG"}]),
        "redis": st.just(EXTERNAL["redis"]),
        "vectors": st.sampled_from([{"type": "PGVector"}, {"type": "Weaviate"}]),
        "deletionPolicy": st.sampled_from(["Retain", "Delete"]),
    },
)
SPECS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "profile": st.sampled_from(["Dev", "Standard"]),
        "defaults": st.just(DEFAULTS),
        "components": st.fixed_dictionaries(
            {}, optional={"auth": _component, "chat": _component, "conversation": _component}
        ),
        "llm": st.just(LLM),
        "embeddings": st.just(EMBEDDINGS),
        "knowledge": st.just(FAQS),
        "moderation": st.just(RULES),
        "stores": _stores,
        "auth": st.sampled_from([{"signup": "Open"}, {"signup": "Closed"}]),
        "limits": st.fixed_dictionaries({"perMinute": st.integers(1, 1000)}),
    },
)
