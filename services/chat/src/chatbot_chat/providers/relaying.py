"""A provider's answer passed on as bytes, by aiohttp: the SDK's client takes three times the CPU for it."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
)

from chatbot_chat.providers.errors import ProviderError, unanswered, unconnected, unreachable
from chatbot_chat.settings import Timeouts


@dataclass(frozen=True)
class Relayed:
    """An open response. Its bytes can be read once, as they come or whole; both raise `ProviderError`."""

    provider: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    _response: ClientResponse = field(repr=False)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "application/json")

    @property
    def content_length(self) -> str | None:
        return self.headers.get("content-length")

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except (ClientError, TimeoutError, OSError) as error:
            raise failure(self.provider, error) from error

    async def whole(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    def close(self) -> None:
        """The connection is used again when the answer was read to its end."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class Relay:
    """Connections to one provider. How many there are at once is its guard's to say."""

    def __init__(self, name: str, url: str, headers: Mapping[str, str], timeouts: Timeouts) -> None:
        self._name = name
        self._url = url
        self._headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"} | dict(headers)
        longest = max(timeouts.first_token, timeouts.idle)
        self._timeout = ClientTimeout(total=None, sock_connect=timeouts.connect, sock_read=longest)
        self._session: ClientSession | None = None

    async def post(self, body: Mapping[str, Any]) -> Relayed:
        """Raises `ProviderError`; what the status says is for the caller."""
        try:
            response = await self._open().post(
                self._url, data=json.dumps(body).encode(), headers=self._headers, allow_redirects=False
            )
        except (ClientError, TimeoutError, OSError) as error:
            raise failure(self._name, error) from error
        return Relayed(self._name, response.status, response.headers, response)

    def _open(self) -> ClientSession:
        """Made with the first request: it belongs to the loop that is running then. It trusts whom the SDK trusts."""
        if self._session is None:
            trusted: ssl.SSLContext = httpx2.create_ssl_context()
            self._session = ClientSession(
                connector=TCPConnector(limit=0, ssl=trusted),
                timeout=self._timeout,
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
                # `trust_env` would read files in a thread, twice for each request.
                proxy=proxy_of(self._url),
            )
        return self._session

    async def close(self) -> None:
        if self._session:
            await self._session.close()


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for this address."""
    parts = urlsplit(url)
    proxies = getproxies()
    return None if proxy_bypass(parts.hostname or "") else proxies.get(parts.scheme) or proxies.get("all")


def failure(name: str, error: Exception) -> ProviderError:
    """What aiohttp's error means."""
    if isinstance(error, ConnectionTimeoutError):
        return unconnected(name)
    return unanswered(name) if isinstance(error, TimeoutError) else unreachable(name)
