"""Which addresses count as the internet's, and which hosts a list allows."""

from ipaddress import ip_address

import pytest
from chatbot_chat.tools.addresses import allowed, is_public, resolve


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450::1"])
def test_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fc00::1", "fec0::1"),
        *("127.0.0.1", "0.0.0.0", "::1", "::", "::127.0.0.1"),  # noqa: S104 - not bound to
        *("169.254.169.254", "fe80::1"),
        *("192.0.2.1", "198.18.0.1", "240.0.0.1", "255.255.255.255", "224.0.1.1", "ff02::1"),
        # Of another address's making, whatever that is.
        *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::"),
    ],
)
def test_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    ("host", "right"),
    [
        ("example.com", True),
        ("www.example.com", False),
        ("a.example.org", True),
        ("a.b.example.org", True),
        ("example.org", False),
        ("badexample.org", False),
        ("example.com.evil.net", False),
    ],
)
def test_list_of_hosts(host: str, right: bool) -> None:
    assert allowed(host, ("example.com", "*.example.org")) is right


async def test_a_name_becomes_all_its_addresses() -> None:
    assert ip_address("127.0.0.1") in await resolve("localhost")
