"""Reading pages from a server on a real socket with TLS: what is let through, and all that is not."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from chatbot_chat.tools import ToolError
from chatbot_chat.tools.addresses import Address
from chatbot_chat.tools.fetch import LARGEST, HttpFetch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.support.doors import certified
from tests.support.serving import in_thread

LOOPBACK = ip_address("127.0.0.1")
HOST = "pages.example"


async def _page(request: Request) -> Response:
    page = f"<title>A &amp; B</title><script>no</script><p>Host: <b>{request.headers['host']}</b>"
    return Response(page, media_type="text/html", headers={"Set-Cookie": "seen=1"})


ROUTES: dict[str, Callable[[Request], Any]] = {
    "/page": _page,
    "/cookie": lambda request: PlainTextResponse(request.headers.get("cookie", "none")),
    "/latin": lambda _: Response("caf\u00e9".encode("latin-1"), media_type="text/plain; charset=latin-1"),
    "/slow-to-read": lambda _: Response(b"-" + b"a" * LARGEST, media_type="text/plain; charset=punycode"),
    "/no-text": lambda _: Response(b"cafe", media_type="text/plain; charset=hex"),
    "/long": lambda _: PlainTextResponse("x" * (LARGEST + 1)),
    "/image": lambda _: Response(b"\x89PNG", media_type="image/png"),
    "/zipped": lambda _: Response(b"bomb", media_type="text/plain", headers={"Content-Encoding": "gzip"}),
    "/gone": lambda _: PlainTextResponse("gone", 410),
    "/moved": lambda _: RedirectResponse("/page"),
    "/inward": lambda _: RedirectResponse("https://inside.example/page"),
    "/outward": lambda _: RedirectResponse("https://elsewhere.test/page"),
    "/plain": lambda _: RedirectResponse("http://pages.example/page"),
    "/round": lambda _: RedirectResponse("/round"),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certified(tmp_path_factory.mktemp("tls"), HOST)[1]


@pytest.fixture(scope="module")
def port(authority: Path) -> Iterator[int]:
    app = Starlette(routes=[Route(path, endpoint) for path, endpoint in ROUTES.items()])
    with in_thread(app, tls=authority) as url:
        yield int(url.rpartition(":")[2])


@contextlib.asynccontextmanager
async def fetching(authority: Path, names: dict[str, str], *ports: int) -> AsyncIterator[HttpFetch]:
    """A tool for which names lead where `names` says, and loopback counts as public; nothing else is different."""

    async def resolve(host: str) -> list[Address]:
        return [ip_address(address) for address in names[host].split()]

    tool = HttpFetch(
        ["*.example"],
        permitted=lambda address: address == LOOPBACK,
        resolve=resolve,
        ports=ports,
        verify=ssl.create_default_context(cafile=authority),
    )
    try:
        yield tool
    finally:
        await tool.close()


@pytest.fixture
async def fetch(authority: Path, port: int) -> AsyncIterator[Callable[[str], Any]]:
    names = {HOST: "127.0.0.1", "other.example": "127.0.0.1"}
    names |= {"inside.example": "10.0.0.1", "half.example": "127.0.0.1 10.0.0.1"}
    async with fetching(authority, names, port) as tool:
        yield lambda address: tool.run({"url": address.replace("$", f":{port}")})


class TestPages:
    async def test_a_page_is_read_as_text(self, fetch: Callable[[str], Any], port: int) -> None:
        assert await fetch(f"https://{HOST}$/page") == f"A & B\nHost: {HOST}:{port}"

    async def test_its_encoding_is_honoured(self, fetch: Callable[[str], Any]) -> None:
        assert await fetch(f"https://{HOST}$/latin") == "caf\u00e9"

    @pytest.mark.parametrize(("page", "begins"), [("slow-to-read", "-aaaa"), ("no-text", "cafe")])
    async def test_an_encoding_that_the_web_does_not_have_is_not_used(
        self, fetch: Callable[[str], Any], page: str, begins: str
    ) -> None:
        assert (await fetch(f"https://{HOST}$/{page}")).startswith(begins)

    async def test_a_redirect_is_followed(self, fetch: Callable[[str], Any]) -> None:
        assert (await fetch(f"https://{HOST}$/moved")).startswith("A & B")

    async def test_no_more_than_so_much_is_read(self, fetch: Callable[[str], Any]) -> None:
        assert len(await fetch(f"https://{HOST}$/long")) == LARGEST

    async def test_nothing_is_remembered_between_pages(self, fetch: Callable[[str], Any]) -> None:
        await fetch(f"https://{HOST}$/page")
        assert await fetch(f"https://{HOST}$/cookie") == "none"


class TestRefusals:
    @pytest.mark.parametrize(
        ("address", "says"),
        [
            ("https://elsewhere.test$/page", "not on the list"),
            ("https://127.0.0.1$/page", "not on the list"),
            ("http://pages.example$/page", "Only https"),
            ("https://pages.example/page", "usual port"),
            ("https://user:password@pages.example$/page", "without a password"),
            ("https://inside.example$/page", "not on the public internet"),
            ("https://half.example$/page", "not on the public internet"),
            ("file:///etc/passwd", "Only https"),
            ("https://", "Only https|not on the list"),
            ("https://[::1", "not an address"),
            ("https://pages.example$/inward", "usual port"),
            ("https://pages.example$/plain", "Only https"),
            ("https://pages.example$/round", "redirected more than"),
            ("https://pages.example$/image", "image/png"),
            ("https://pages.example$/zipped", "no text"),
            ("https://pages.example$/gone", "answered 410"),
        ],
    )
    async def test_says_why(self, fetch: Callable[[str], Any], address: str, says: str) -> None:
        with pytest.raises(ToolError, match=says):
            await fetch(address)

    async def test_a_redirect_is_judged_as_the_first_address_was(self, authority: Path, port: int) -> None:
        """Also where it leads to a name that is allowed, and whose address is not."""
        async with fetching(authority, {HOST: "127.0.0.1", "inside.example": "10.0.0.1"}, port, 443) as tool:
            with pytest.raises(ToolError, match=r"inside\.example is not on the public internet"):
                await tool.run({"url": f"https://{HOST}:{port}/inward"})

    async def test_a_name_is_resolved_once_so_it_cannot_change(self, authority: Path, port: int) -> None:
        answers = iter(["127.0.0.1", "10.0.0.1"])
        asked: list[str] = []

        async def rebinding(host: str) -> list[Address]:
            asked.append(host)
            return [ip_address(next(answers))]

        verify = ssl.create_default_context(cafile=authority)
        tool = HttpFetch(
            [HOST], permitted=lambda address: address == LOOPBACK, resolve=rebinding, ports=(port,), verify=verify
        )
        assert (await tool.run({"url": f"https://{HOST}:{port}/page"})).startswith("A & B")
        assert asked == [HOST]
        await tool.close()

    async def test_the_certificate_must_be_the_hosts(self, fetch: Callable[[str], Any]) -> None:
        with pytest.raises(ToolError, match="not secure"):
            await fetch("https://other.example$/page")

    async def test_loopback_is_not_public_unless_a_test_says_so(self) -> None:
        tool = HttpFetch(["localhost.example"], resolve=_loopback)
        with pytest.raises(ToolError, match="not on the public internet"):
            await tool.run({"url": "https://localhost.example/"})
        await tool.close()


async def _loopback(_: str) -> list[Address]:
    return [LOOPBACK]
