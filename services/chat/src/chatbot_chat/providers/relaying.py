"""A provider's answer passed on as bytes, by aiohttp: the SDK's client takes three times the CPU for it."""

import json
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
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
from chatbot_chat.providers.openai_chunks import FirstWords, is_comment
from chatbot_chat.providers.patience import Patience, Watch
from chatbot_chat.settings import Timeouts


@dataclass(frozen=True)
class Relayed:
    """An open response. Its bytes can be read once, as they come or whole; both raise `ProviderError`."""

    provider: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    _response: ClientResponse = field(repr=False)
    _patience: Patience = field(repr=False)
    _spoke: Callable[[], None] = field(repr=False)
    """Is told once, when a stream has said something."""

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "application/json")

    @property
    def content_length(self) -> str | None:
        return self.headers.get("content-length")

    @property
    def streamed(self) -> bool:
        return "text/event-stream" in self.content_type

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        content = self._response.content
        beginning = FirstWords() if self.streamed else None
        try:
            with Watch(self._patience, self._late) as watch:
                watch.waits()
                while piece := await content.readany():
                    speaks = beginning is not None and beginning.heard(piece)
                    if speaks:
                        beginning = None
                        self._spoke()
                    watch.heard(words=not (self.streamed and is_comment(piece)), speaks=speaks or not self.streamed)
                    yield piece
                    watch.waits()
        except (ClientError, TimeoutError, OSError) as error:
            raise failure(self.provider, error) from error

    async def whole(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    def _late(self) -> None:
        """Whoever reads is told."""
        self._response.content.set_exception(TimeoutError())

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
        self._timeouts = timeouts
        self._session: ClientSession | None = None

    async def post(self, body: Mapping[str, Any], spoke: Callable[[], None]) -> Relayed:
        """Raises `ProviderError`; what the status says is for the caller.

        Args:
            spoke: is called when a stream has said something.
        """
        patience = Patience(self._timeouts, streamed=bool(body.get("stream")))
        try:
            async with patience.wait():
                response = await self._open().post(
                    self._url, data=json.dumps(body).encode(), headers=self._headers, allow_redirects=False
                )
        except (ClientError, TimeoutError, OSError) as error:
            raise failure(self._name, error) from error
        return Relayed(self._name, response.status, response.headers, response, patience, spoke)

    def _open(self) -> ClientSession:
        """Made with the first request: it belongs to the loop that is running then. It trusts whom the SDK trusts."""
        if self._session is None:
            trusted: ssl.SSLContext = httpx2.create_ssl_context()
            self._session = ClientSession(
                connector=TCPConnector(limit=0, ssl=trusted),
                # How long an answer may take is for `Patience` to say.
                timeout=ClientTimeout(total=None, sock_connect=self._timeouts.connect),
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
