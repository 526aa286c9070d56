"""Reading web pages, of the hosts that the resource allows and of no other.

What a model asks for may be what a hostile page told it to ask for, so nothing here trusts an address: a name is
resolved once, every address of it must be public, and the connection goes to exactly that address; each redirect begins
anew. The transport is used bare, without what a client adds: it keeps no cookies, follows nothing, reads no proxy from
the environment and keeps no connection, which another host behind the same address would be given without a look at its
certificate.
"""

import asyncio
import codecs
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx2

from chatbot_chat.tools import ToolError
from chatbot_chat.tools.addresses import Address, Resolve, allowed, is_public, resolve
from chatbot_chat.tools.pages import text_of

SECONDS = 10.0
"""For everything: names, redirects, and the body."""
CONNECT_SECONDS = 5.0
LARGEST = 512 * 1024
"""Bytes that are read of a page; the rest is left out."""
REDIRECTS = 4
LONGEST_URL = 2000
WEB_ENCODINGS = (
    *(
        "utf-8",
        "utf8",
        "utf-16",
        "ascii",
        "us-ascii",
        "iso-8859-",
        "iso8859-",
        "latin",
        "windows-",
        "cp125",
        "macintosh",
    ),
    *("koi8-", "gb", "big5", "euc-", "shift_jis", "shift-jis", "sjis", "iso-2022-jp", "tis-620"),
)
"""How the names of those begin that pages are written in, as the WHATWG lists them."""
READABLE = ("text/", "application/json", "application/xml", "application/xhtml+xml", "application/ld+json")


class HttpFetch:
    """`permitted`, `resolve`, `ports` and `verify` are for tests, whose servers are on loopback."""

    name = "http_fetch"

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        permitted: Callable[[Address], bool] = is_public,
        resolve: Resolve = resolve,
        ports: Sequence[int] = (443,),
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._hosts = tuple(host.lower().rstrip(".") for host in hosts)
        self._permitted = permitted
        self._resolve = resolve
        self._ports = ports
        alone = httpx2.Limits(max_keepalive_connections=0)
        self._transport = httpx2.AsyncHTTPTransport(verify=verify, trust_env=False, limits=alone)
        self.description = f"Reads a web page over https, as text. Only these hosts: {', '.join(self._hosts)}."
        self.parameters: Mapping[str, Any] = {
            "type": "object",
            "properties": {"url": {"type": "string", "maxLength": LONGEST_URL}},
            "required": ["url"],
            "additionalProperties": False,
        }

    async def run(self, arguments: Mapping[str, Any]) -> str:
        try:
            async with asyncio.timeout(SECONDS):
                return await self._read(_url(arguments["url"]))
        except TimeoutError:
            raise ToolError("The page did not come in time.") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError):
            raise ToolError("The page cannot be read: the connection failed, or was not secure.") from None

    async def _read(self, url: httpx2.URL) -> str:
        for _ in range(REDIRECTS + 1):
            host = self._checked(url)
            response = await self._ask(url, host, await self._address(host))
            try:
                if not response.has_redirect_location:
                    return await _text(response)
                url = url.join(_url(response.headers["Location"]))
            finally:
                await response.aclose()
        raise ToolError(f"The page was redirected more than {REDIRECTS} times.")

    def _checked(self, url: httpx2.URL) -> str:
        """The host of a URL that may be read."""
        host = url.raw_host.decode("ascii").lower().rstrip(".")
        if url.scheme != "https" or url.userinfo or (url.port or 443) not in self._ports:
            raise ToolError("Only https addresses are read, without a password, and on the usual port.")
        if not allowed(host, self._hosts):
            raise ToolError(f"The host {host} is not on the list of hosts that may be read: {', '.join(self._hosts)}.")
        return host

    async def _address(self, host: str) -> Address:
        """Where the connection goes. One address that is not public is enough to refuse a name: it may come next."""
        found = await self._resolve(host)
        if not found or not all(map(self._permitted, found)):
            raise ToolError(f"The host {host} is not on the public internet.")
        return found[0]

    async def _ask(self, url: httpx2.URL, host: str, address: Address) -> httpx2.Response:
        port = "" if url.port in (None, 443) else f":{url.port}"
        request = httpx2.Request(
            "GET",
            url.copy_with(host=str(address), fragment=None),
            headers={
                "Host": host + port,
                "Accept": "text/html, text/*, application/json;q=0.9",
                "Accept-Encoding": "identity",  # a small body must not become a large one
                "User-Agent": "chatbot-http-fetch",
                "Connection": "close",
            },
            extensions={"sni_hostname": host, "timeout": httpx2.Timeout(SECONDS, connect=CONNECT_SECONDS).as_dict()},
        )
        response = await self._transport.handle_async_request(request)
        response.request = request
        return response

    async def close(self) -> None:
        await self._transport.aclose()


def _url(text: str) -> httpx2.URL:
    try:
        return httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):
        raise ToolError("This is not an address.") from None


async def _text(response: httpx2.Response) -> str:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not response.is_success:
        raise ToolError(f"The page answered {response.status_code}.")
    if not kind.startswith(READABLE) or response.headers.get("Content-Encoding", "identity") != "identity":
        raise ToolError(f"The page is no text that can be read here, but {kind or 'of no kind that it names'}.")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) >= LARGEST:
            break
    return await asyncio.to_thread(_written, bytes(body[:LARGEST]), _encoding(response), "html" in kind)


def _written(body: bytes, encoding: str, html: bool) -> str:
    text = body.decode(encoding, "replace")
    return text_of(text) if html else text


def _encoding(response: httpx2.Response) -> str:
    """Of the encodings that the web has. Python knows others too, some of which take a second for each 200 kB."""
    name = (response.charset_encoding or "utf-8").lower()
    if not name.startswith(WEB_ENCODINGS):
        return "utf-8"
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "utf-8"
