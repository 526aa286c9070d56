"""The vector store: one Weaviate with a disk, an API key, and nothing of its cluster traffic outside its own pod."""

from urllib.parse import urlsplit

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components import reads, sizes
from chatbot_operator.components.reads import Read
from chatbot_operator.components.stores import Store
from chatbot_operator.world import Manifest

PORT = 8080
GRPC_PORT = 50051
DATA = "/var/lib/weaviate"
API_KEY = "api-key"
USER = "chatbot"

ENVIRONMENT = {
    "PERSISTENCE_DATA_PATH": DATA,
    "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
    "AUTHENTICATION_APIKEY_ENABLED": "true",
    "AUTHENTICATION_APIKEY_USERS": USER,
    "AUTHORIZATION_ADMINLIST_ENABLED": "true",
    "AUTHORIZATION_ADMINLIST_USERS": USER,
    # Consensus and gossip know no API key: a single node keeps them on its own loopback.
    "CLUSTER_HOSTNAME": "weaviate-0",
    "CLUSTER_BIND_ADDR": "127.0.0.1",
    "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
    "CLUSTER_BASIC_AUTH_USERNAME": USER,
    "DEFAULT_VECTORIZER_MODULE": "none",
    "API_BASED_MODULES_DISABLED": "true",
    "DISABLE_TELEMETRY": "true",
    "GO_PROFILING_DISABLE": "true",
    "LOG_LEVEL": "info",
}


def used(bot: ChatbotDeployment) -> bool:
    return bot.spec.stores.vectors.type == "Weaviate"


def url(bot: ChatbotDeployment) -> str | None:
    if external := bot.spec.stores.vectors.external:
        return external.url
    return f"http://{names.child(bot.name, 'weaviate')}:{PORT}" if used(bot) else None


def host(bot: ChatbotDeployment) -> str:
    """Host and port of one that a user brings; no more of its address."""
    return urlsplit(str(url(bot))).netloc.rpartition("@")[2]


def grpc_port(bot: ChatbotDeployment) -> int:
    external = bot.spec.stores.vectors.external
    return external.grpc_port if external else GRPC_PORT


def managed(bot: ChatbotDeployment) -> bool:
    """Whether it is run by the operator."""
    return used(bot) and bot.spec.stores.vectors.mode == "Managed"


def key(bot: ChatbotDeployment) -> tuple[Read, ...]:
    """What its readers need to be let in."""
    if external := bot.spec.stores.vectors.external:
        ref = external.secret_ref
        return (reads.user_secret(ref, "weaviate_key", "spec.stores.vectors.external.secretRef"),) if ref else ()
    return (reads.generated(names.store(bot.name, "weaviate"), API_KEY, "weaviate_key"),) if used(bot) else ()


def store(bot: ChatbotDeployment) -> Store | None:
    """None where vectors are kept in Postgres, or the user brings one."""
    if not managed(bot):
        return None
    size = sizes.weaviate(bot.spec)
    return Store(
        name="weaviate",
        ports={"http": PORT, "grpc": GRPC_PORT},
        probe={"httpGet": {"path": "/v1/.well-known/ready", "port": "http", "scheme": "HTTP"}},
        size=size,
        args=("--host", "0.0.0.0", "--port", str(PORT), "--scheme", "http"),  # noqa: S104 - its own pod
        env=(*_environment(size.budget), *_keys(bot)),
        secret_keys=(API_KEY,),
        data=DATA,
    )


def _environment(memory: str) -> list[Manifest]:
    told = ENVIRONMENT | {"GOMEMLIMIT": memory}
    return [{"name": name, "value": value} for name, value in told.items()]


def _keys(bot: ChatbotDeployment) -> list[Manifest]:
    """Weaviate takes keys from its environment only."""
    source = {"secretKeyRef": {"name": names.store(bot.name, "weaviate"), "key": API_KEY}}
    return [
        {"name": name, "valueFrom": source}
        for name in ("AUTHENTICATION_APIKEY_ALLOWED_KEYS", "CLUSTER_BASIC_AUTH_PASSWORD")
    ]
