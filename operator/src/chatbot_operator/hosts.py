"""Host names that another resource already has: two routes with one name are served as the controller pleases."""

from collections.abc import Collection, Iterable, Iterator

import structlog
from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.cluster import Cluster
from chatbot_operator.components.exposure import PART
from chatbot_operator.faults import Refused
from chatbot_operator.kinds import OURS
from chatbot_operator.together import together
from chatbot_operator.world import Manifest

ROUTES = ("Ingress", "HTTPRoute")

log = structlog.get_logger("hosts")


async def taken_hosts(
    cluster: Cluster, bot: ChatbotDeployment, namespaces: Collection[str], apis: frozenset[str]
) -> dict[str, str]:
    """Host name → namespace and name of the older resource that has it. Raises `ApiFault`.

    Args:
        namespaces: those that are watched; none means the whole cluster.
    """
    wanted = bot.spec.exposure.hostnames
    if not wanted:
        return {}
    kinds = [kind for kind in ROUTES if kind == "Ingress" or kind in apis]
    spaces: list[str | None] = [*namespaces] or [None]
    # One host name at a time: all routes of the cluster would be a thousand for each of a thousand resources. Those of
    # some namespaces are few, and one request for each name in each namespace would be many.
    selectors = [f"{names.COMPONENT}={PART}"] if namespaces else map(names.host_label, wanted)
    asked = [(kind, space, f"{OURS},{one}") for one in selectors for kind in kinds for space in spaces]
    lists = await together(*(_routes(cluster, *one) for one in asked))
    found = older_hosts((route for routes in lists for route in routes), (bot.metadata.namespace, bot.name))
    return {host: whose for host, whose in found.items() if host in wanted}


async def _routes(cluster: Cluster, kind: str, namespace: str | None, selector: str) -> list[Manifest]:
    """None where they may not be read: a namespace that is gone has none, and takes our rights in it along."""
    try:
        return await cluster.list(kind, namespace, selector)
    except Refused as refused:
        log.warning("cannot look for host names", kind=kind, namespace=namespace, error=str(refused))
        return []


def older_hosts(routes: Iterable[Manifest], mine: tuple[str, str]) -> dict[str, str]:
    """Of routes, in which one may be there twice, the host names in those that were there before mine. Pure."""
    ordered = sorted(routes, key=_age)
    before: dict[str, str] = {}
    for route in ordered:
        owner = _owner(route)
        if owner == mine:
            break
        for host in _hosts(route):
            before.setdefault(host, "/".join(owner))
    return before


def _age(route: Manifest) -> tuple[str, tuple[str, str]]:
    """Times are in whole seconds; the name decides between two of the same."""
    return str(route["metadata"].get("creationTimestamp", "")), _owner(route)


def _owner(route: Manifest) -> tuple[str, str]:
    metadata = route["metadata"]
    return metadata["namespace"], str((metadata.get("labels") or {}).get(names.BOT, ""))


def _hosts(route: Manifest) -> Iterator[str]:
    yield from route["spec"].get("hostnames") or []
    for rule in (route["spec"].get("rules") or []) if route["kind"] == "Ingress" else []:
        if "host" in rule:
            yield rule["host"]
