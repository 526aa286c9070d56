"""Ways out of the chatbot, as rules of a NetworkPolicy: to an address, to where a name may lead, to the world. Pure."""

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from chatbot_resource.profiles import PRIVATE_NETWORKS

from chatbot_operator.world import Manifest

NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""What may be one: anything else in a label of a policy would make the whole of it invalid."""
LINK_LOCAL = ("169.254.0.0/16", "fe80::/10")
"""Where clouds tell a machine its credentials."""
AWS = "fd00:ec2::/32"
"""Where Amazon's does so by IPv6; private, and not link-local."""
DNS: Manifest = {"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}
PUBLIC: Manifest = {
    "to": [
        {
            "ipBlock": {
                "cidr": "0.0.0.0/0",
                "except": [*(net for net in PRIVATE_NETWORKS if ":" not in net), "127.0.0.0/8", LINK_LOCAL[0]],
            }
        },
        {"ipBlock": {"cidr": "::/0", "except": ["::1/128", "fc00::/7", LINK_LOCAL[1]]}},
    ],
    "ports": [{"protocol": "TCP", "port": 443}],
}
NAMED: list[Manifest] = [
    {"namespaceSelector": {}},  # some networks take no pod for an address
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": [LINK_LOCAL[0]]}},
    {"ipBlock": {"cidr": "::/0", "except": [LINK_LOCAL[1], AWS]}},
]
"""Where a name may lead: out, to a private network, and to a pod."""


def of(url: str, namespace: str) -> Iterator[Manifest]:
    """To a URL. A name inside the cluster leads to pods of its namespace, whose own ports nobody knows beforehand.

    Args:
        namespace: the resource's own, of a name that has none.
    """
    parts = urlsplit(url)
    host = str(parts.hostname).rstrip(".")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if _is_address(host):
        length = 128 if ":" in host else 32
        yield {"to": [{"ipBlock": {"cidr": f"{host}/{length}"}}], "ports": tcp((port,))}
        return
    labels = host.split(".")
    home = labels[1] if len(labels) > 1 else namespace
    inside = (len(labels) <= 2 or labels[2] == "svc") and NAMESPACE.fullmatch(home) is not None
    if inside:
        yield {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": home}}}]}
    # `name.namespace` may as well be a name of the world's.
    if not inside or len(labels) == 2:
        yield anywhere((port,))


def anywhere(ports: Iterable[int]) -> Manifest:
    """To what has a name that says nothing of where it is, or an address that only a Secret knows."""
    return {"to": NAMED, "ports": tcp(ports)}


def tcp(ports: Iterable[int]) -> list[Manifest]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
