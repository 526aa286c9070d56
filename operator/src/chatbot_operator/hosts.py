"""Host names that another resource already has: two routes with one name are served as the controller pleases."""

from collections.abc import Iterable, Iterator

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.cluster import Cluster
from chatbot_operator.kinds import OURS
from chatbot_operator.world import Manifest

ROUTES = ("Ingress", "HTTPRoute")


async def taken_hosts(
    cluster: Cluster, bot: ChatbotDeployment, namespaces: Iterable[str], apis: frozenset[str]
) -> dict[str, str]:
    """Host name → namespace and name of the older resource that has it. Raises `ApiFault`.

    Args:
        namespaces: those that are watched; none means the whole cluster.
    """
    if not bot.spec.exposure.hostnames:
        return {}
    kinds = [kind for kind in ROUTES if kind == "Ingress" or kind in apis]
    spaces: list[str | None] = [*namespaces] or [None]
    found = [route for kind in kinds for space in spaces for route in await cluster.list(kind, space, OURS)]
    return older_hosts(found, (bot.metadata.namespace, bot.name))


def older_hosts(routes: Iterable[Manifest], mine: tuple[str, str]) -> dict[str, str]:
    """Of all routes, the host names in those that were there before mine. Pure."""
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
