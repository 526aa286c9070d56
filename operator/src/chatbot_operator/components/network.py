"""Who may talk to whom: one NetworkPolicy per part, that lets through what the part needs and nothing else.

`CALLS` is the whole map of the platform's own traffic; both ends of each connection are made from it. Besides it a part
reaches DNS and the addresses that the resource names; how far the rest of the world is open, the resource says.
"""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from chatbot_resource.configuration import provider_url
from chatbot_resource.llm import resolve_llm
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.network import Egress
from chatbot_resource.tools import HTTP_FETCH, WEATHER
from pydantic import BaseModel

from chatbot_operator import names
from chatbot_operator.components import addresses, cloudnativepg, postgres, redis, revisions, weaviate
from chatbot_operator.components.addresses import tcp
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import component_of, manifest, selector
from chatbot_operator.managed import lost
from chatbot_operator.readiness import draining, replaced
from chatbot_operator.world import Manifest

CALLS: Mapping[str, tuple[str, ...]] = {
    "gateway": ("auth", "chat", "conversation", "redis"),
    "auth": ("postgres",),
    "auth-db": ("postgres",),
    "chat": ("auth", "conversation", "redis"),
    "conversation": ("auth", "postgres", "weaviate"),
    "conversation-worker": ("postgres", "weaviate"),
    "conversation-db": ("postgres",),
    "postgres": (),
    "redis": (),
    "weaviate": (),
}
"""Component label of each part's pods, and of those it calls."""

PORTS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("gateway", "auth", "chat", "conversation"), (names.HTTP_PORT,)),
    "postgres": (postgres.PORT,),
    "redis": (redis.PORT,),
    "weaviate": (weaviate.PORT, weaviate.GRPC_PORT),
}
"""Of pods, not of Services: that is where policies are judged."""

EXTERNAL_PORTS: Mapping[str, tuple[int, ...]] = {"postgres": (postgres.PORT,), "redis": (redis.PORT, 6380)}
"""The usual ones of stores that are a user's: their addresses are secrets. Others go into `network.egress`."""

SENTINEL_PORT = 26379

SCRAPED = ("gateway", "auth", "chat", "conversation", "conversation-worker")
"""Parts that serve metrics."""
OPERATOR = "chatbot-operator"
"""Label of the operator's own pods."""
PROMETHEUS: Manifest = {
    "namespaceSelector": {},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
}
CLOUD_NATIVE_PG: Manifest = {
    "namespaceSelector": {},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "cloudnative-pg"}},
}
CLUSTER_STATUS_PORT, CLUSTER_METRICS_PORT = 8000, 9187
"""Where CloudNativePG asks an instance how it is, and Prometheus what it counts."""


def build(context: Context, part: str, running: Manifest | None = None) -> list[Manifest]:
    """The part's NetworkPolicy; none where the resource wants none.

    Args:
        running: its Deployment as it is wanted, where it has one.
    """
    bot = context.bot
    if bot.spec.network.policy == "Off":
        return []
    body: Manifest = {
        "podSelector": {"matchLabels": selector(bot, part)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [*_ingress(context, part)],
        "egress": _unlike([*_egress(bot, part), *_still_called(context, part, running)]),
    }
    return [manifest(bot, part, "NetworkPolicy", f"{bot.name}-{part}", {"spec": body})]


def cluster(context: Context) -> list[Manifest]:
    """The policy of the pods that CloudNativePG makes.

    It says who reaches them. Whom they reach is left open: each asks the API server, which no selector names. It stays
    as long as the Cluster does.
    """
    bot, name = context.bot, f"{context.bot.name}-postgres-cluster"
    off = bot.spec.network.policy == "Off"
    if off and not _retained(context.observed.child("NetworkPolicy", name)):
        return []
    own = _pods(bot, "postgres")
    callers = [_pods(bot, caller) for caller in _callers(context, "postgres")]
    body: Manifest = {
        "podSelector": own["podSelector"],
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": callers, "ports": tcp(PORTS["postgres"])},
            {"from": [own], "ports": tcp((*PORTS["postgres"], CLUSTER_STATUS_PORT))},
            {"from": [CLOUD_NATIVE_PG], "ports": tcp((CLUSTER_STATUS_PORT,))},
            {"from": _scrapers(bot), "ports": tcp((CLUSTER_METRICS_PORT,))},
        ],
    }
    # Only what has an owner is ever taken away: one that was retained and is to go gets its owner back first.
    owned = off or bot.spec.stores.deletion_policy == "Delete"
    return [manifest(bot, "postgres", "NetworkPolicy", name, {"spec": body}, owned=owned)]


def _retained(live: Manifest | None) -> bool:
    return live is not None and not live["metadata"].get("ownerReferences")


def copying(context: Context, part: str, source: ChatbotDeployment) -> list[Manifest]:
    """The policy of a Job that copies a database: it reaches Postgres where it was, and where it is to be."""
    bot = context.bot
    if bot.spec.network.policy == "Off":
        return []
    ways = [_to_postgres(source), _to_postgres(bot), *map(_way, bot.spec.network.egress)]
    body: Manifest = {
        "podSelector": {"matchLabels": selector(bot, part)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [],
        "egress": [addresses.DNS, *ways],
    }
    return [manifest(bot, part, "NetworkPolicy", f"{bot.name}-{part}", {"spec": body})]


def _callers(context: Context, part: str) -> list[str]:
    found = [caller for caller, called in CALLS.items() if part in called]
    copying = part == "postgres" and (context.moving or context.awake)
    return found + ([f"{owner}-copy" for owner in names.OWNERS] if copying else [])


def _to_postgres(bot: ChatbotDeployment) -> Manifest:
    if bot.spec.stores.postgres.mode == "External":
        return addresses.anywhere(EXTERNAL_PORTS["postgres"])
    return _to(bot, "postgres")


def _ingress(context: Context, part: str) -> Iterator[Manifest]:
    bot = context.bot
    if part == "gateway":
        yield {"ports": tcp(PORTS[part])}
    elif callers := _callers(context, part):
        yield {"from": [_pods(bot, caller) for caller in callers], "ports": tcp(PORTS[part])}
    if part in SCRAPED:
        yield {"from": [*_scrapers(bot), _operator(context)], "ports": tcp((names.PRIVATE_PORT,))}


def _scrapers(bot: ChatbotDeployment) -> list[Manifest]:
    return [_plain(peer) for peer in bot.spec.network.metrics_from] or [PROMETHEUS]


def _operator(context: Context) -> Manifest:
    """It asks pods that are not ready why; labelled by its chart."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": context.settings.lease.namespace}},
        "podSelector": {"matchLabels": {names.NAME: OPERATOR}},
    }


def _egress(bot: ChatbotDeployment, part: str) -> Iterator[Manifest]:
    if not CALLS[part]:
        return
    yield addresses.DNS
    for called in CALLS[part]:
        if called in EXTERNAL_PORTS and getattr(bot.spec.stores, called).mode == "External":
            yield addresses.anywhere((*EXTERNAL_PORTS[called], *_sentinels(bot, called)))
        elif called == "weaviate" and not weaviate.managed(bot):
            yield from _external_weaviate(bot)
        else:
            yield _to(bot, called)
    for url in dict.fromkeys(_addresses(bot, part)):
        yield from addresses.of(url, bot.metadata.namespace)
    if part in SCRAPED:
        yield from map(_way, bot.spec.network.egress)
    # Models are in the world, unless the resource says what may be reached; http_fetch's hosts have unknown addresses.
    if part == "chat" and (HTTP_FETCH in bot.spec.tools.enabled or not bot.spec.network.egress):
        yield addresses.PUBLIC


def _still_called(context: Context, part: str, running: Manifest | None) -> Iterator[Manifest]:
    """What pods that wait to be replaced, or still drain, go on calling, whatever the resource names now: one policy is
    for old and new.

    That is what it lets through. Where somebody else has edited it: what had settled last, and kept stores.
    """
    live = context.observed.child("Deployment", running["metadata"]["name"]) if running else None
    if running is None or live is None:
        return
    drains = any(component_of(pod) == part for pod in draining(context.observed))
    if replaced(running, live) and not drains:
        return
    policy = context.observed.child("NetworkPolicy", running["metadata"]["name"])
    if policy and not lost(policy, ("spec", "egress")):
        yield from policy["spec"].get("egress") or ()
        return
    before = revisions.before(context)
    yield from _egress(before, part) if before else ()
    for store in ("redis", "weaviate"):
        if store in CALLS[part] and context.observed.child("StatefulSet", f"{context.bot.name}-{store}"):
            yield _to(context.bot, store)


def _sentinels(bot: ChatbotDeployment, store: str) -> tuple[int, ...]:
    external = bot.spec.stores.redis.external
    return (SENTINEL_PORT,) if store == "redis" and external and external.topology == "Sentinel" else ()


def _external_weaviate(bot: ChatbotDeployment) -> Iterator[Manifest]:
    if url := weaviate.url(bot):
        yield from addresses.of(url, bot.metadata.namespace)
        host = str(urlsplit(url).hostname)
        host = f"[{host}]" if ":" in host else host
        yield from addresses.of(f"http://{host}:{weaviate.grpc_port(bot)}", bot.metadata.namespace)


def _addresses(bot: ChatbotDeployment, part: str) -> Iterator[str]:
    """What the resource names and the part calls."""
    spec = bot.spec
    if part == "chat":
        for provider in resolve_llm(spec.llm).providers:
            if url := provider_url(provider):
                yield url
        yield from (server.url for server in spec.tools.mcp_servers)
        if WEATHER in spec.tools.enabled:
            yield from (spec.tools.weather.base_url, spec.tools.weather.geocoding_url)
    if part in ("conversation", "conversation-worker") and spec.embeddings.base_url:
        yield spec.embeddings.base_url
    if part in SCRAPED and spec.telemetry.otlp:
        yield spec.telemetry.otlp.endpoint


def _pods(bot: ChatbotDeployment, part: str) -> Manifest:
    if part == "postgres" and cloudnativepg.used(bot):
        return {"podSelector": {"matchLabels": {cloudnativepg.CLUSTER: names.child(bot.name, "postgres")}}}
    return {"podSelector": {"matchLabels": selector(bot, part)}}


def _to(bot: ChatbotDeployment, part: str) -> Manifest:
    return {"to": [_pods(bot, part)], "ports": tcp(PORTS[part])}


def _unlike(rules: list[Manifest]) -> list[Manifest]:
    """Each once."""
    return [rule for position, rule in enumerate(rules) if rule not in rules[:position]]


def _way(written: Egress) -> Manifest:
    """With protocols, as the API server has it: `_unlike` compares it with what a live policy lets through."""
    ports = [_plain(port) | {"protocol": port.protocol} for port in written.ports]
    return _plain(written) | ({"ports": ports} if ports else {})


def _plain(written: BaseModel) -> Manifest:
    return written.model_dump(by_alias=True, exclude_defaults=True)
