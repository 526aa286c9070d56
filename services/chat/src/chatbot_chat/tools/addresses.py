"""Which addresses on the internet a tool may reach, and how a name becomes one. The check is pure."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from chatbot_chat.tools import ToolError

Address = IPv4Address | IPv6Address
Resolve = Callable[[str], Awaitable[list[Address]]]

_TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
"""NAT64 (RFC 6052, 8215): such an address leads to the IPv4 address within it."""


def is_public(address: Address) -> bool:
    """Whether it belongs to the internet: nothing private, shared, local, reserved, or of another address's making."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    if isinstance(address, IPv4Address):
        return True
    embeds = address.ipv4_mapped or address.sixtofour or address.teredo
    return not embeds and not address.is_site_local and not any(address in network for network in _TRANSLATED)


async def resolve(host: str) -> list[Address]:
    """All addresses of a name, asked for once. Raises `ToolError`."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ToolError(f"The host {host} cannot be found.") from None
    # Of an address with a zone (`fe80::1%eth0`) the part before it.
    return list(dict.fromkeys(ip_address(str(item[4][0]).partition("%")[0]) for item in found))


def allowed(host: str, patterns: tuple[str, ...]) -> bool:
    """Whether a host is on the list: by its name, or below one that is written as `*.name`."""
    return any(host == item or (item.startswith("*.") and host.endswith(item[1:])) for item in patterns)
