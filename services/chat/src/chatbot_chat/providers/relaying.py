"""How a provider that speaks OpenAI's protocol is asked: one request, and its answer as bytes.

By our own client (chatbot_common.upstream): the SDK took a quarter of what chat does for a turn, see
docs/decisions/0024. Behind a proxy that the environment names httpx2 asks, which knows the ways through one.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
from chatbot_common.answers import BrokenOff
from chatbot_common.by_httpx import proxied
from chatbot_common.upstream import Answer, Patience, Server, Unconnected, Unreachable, Upstream
from opentelemetry import propagate, trace

from chatbot_chat.providers.errors import ProviderError, unanswered, unconnected, unreachable
from chatbot_chat.providers.patience import WHOLE_SECONDS
from chatbot_chat.settings import Timeouts

DRAIN_SECONDS = 0.1
"""For what follows the last words of a stream, so that its connection can be used again."""
REFUSAL_BYTES = 2**20
_FAILURES = (BrokenOff, Unreachable, TimeoutError, OSError)


@dataclass(frozen=True)
class Relayed:
    """An open response, which somebody must close. What reads it raises `ProviderError`."""

    provider: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    _server: Server = field(repr=False)
    _answer: Answer = field(repr=False)
    _pieces: AsyncGenerator[bytes, None] = field(repr=False)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "application/json")

    @property
    def encoding(self) -> str | None:
        """How it is compressed, although nobody asked for that: then nobody here can read it."""
        encoding = self.headers.get("content-encoding", "identity")
        return None if encoding == "identity" else encoding

    @property
    def content_length(self) -> str | None:
        return self.headers.get("content-length")

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Its bytes as they come, once."""
        try:
            async for piece in self._pieces:
                yield piece
        except _FAILURES as error:
            raise failure(self.provider, error) from error

    def allow(self, silence: float) -> None:
        """How many seconds the next piece may take."""
        self._answer.silence = silence

    async def refusal(self) -> bytes:
        """All of it, as far as anybody has something to say of an error; nothing where it cannot be read."""
        said = bytearray()
        if self.encoding:
            return b""
        async with contextlib.aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                said += piece
                if len(said) >= REFUSAL_BYTES:
                    break
        return bytes(said)

    async def drain(self) -> None:
        """Wait a moment for the end of what has nothing more to say."""
        with contextlib.suppress(*_FAILURES):
            async with asyncio.timeout(DRAIN_SECONDS):
                async for _ in self._pieces:
                    pass

    async def aclose(self) -> None:
        """The connection is used again when the answer was read to its end."""
        try:
            await self._pieces.aclose()
        finally:
            await self._server.leave(self._answer)


class Relay:
    """Connections to one provider. How many there are at once is its guard's to say."""

    def __init__(self, name: str, url: str, headers: Mapping[str, str], timeouts: Timeouts) -> None:
        self._name = name
        told = {"accept": "application/json, text/event-stream", "accept-encoding": "identity"}
        told |= {"content-type": "application/json", "user-agent": "chatbot", **headers}
        self._headers = [(name.lower().encode(), value.encode()) for name, value in told.items()]
        parts = urlsplit(url)
        self._target = f"{parts.path}?{parts.query}".removesuffix("?").encode()
        self._server = _server(f"{parts.scheme}://{parts.netloc}", proxy_of(url), timeouts)

    async def post(self, body: Mapping[str, Any], taken: Callable[[], None] | None = None) -> Relayed:
        """Raises `ProviderError`; what the status says is for the caller. `taken` is told when the request goes out."""
        try:
            answer = await self._server.open("POST", self._target, self._told(), json.dumps(body).encode(), taken)
        except _FAILURES as error:
            raise failure(self._name, error) from error
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
        relayed = Relayed(self._name, answer.status, headers, self._server, answer, answer.pieces())
        if 200 <= answer.status < 300 and relayed.encoding:
            await relayed.aclose()
            raise ProviderError(f"Provider {self._name} compresses its answers ({relayed.encoding[:20]}), unasked.")
        return relayed

    def _told(self) -> list[tuple[bytes, bytes]]:
        """With the trace, where it is sampled."""
        if not trace.get_current_span().is_recording():
            return self._headers
        carried: dict[str, str] = {}
        propagate.inject(carried)
        return [*self._headers, *((name.encode(), value.encode()) for name, value in carried.items())]

    async def close(self) -> None:
        await self._server.aclose()


def _server(base_url: str, proxy: str | None, timeouts: Timeouts) -> Server:
    """It trusts whom the SDKs trust. How long an answer may take is for those who ask to say."""
    patience = Patience(timeouts.connect, max(timeouts.first_token, timeouts.idle, WHOLE_SECONDS))
    trusted: ssl.SSLContext | None = httpx2.create_ssl_context() if base_url.startswith("https:") else None
    return proxied(base_url, patience, proxy, trusted) if proxy else Upstream(base_url, patience, trusted)


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for this address."""
    parts = urlsplit(url)
    proxies = getproxies()
    host = parts.netloc.rpartition("@")[2]
    return (
        None
        if any(map(proxy_bypass, (parts.hostname or "", host)))
        else proxies.get(parts.scheme) or proxies.get("all")
    )


def failure(name: str, error: Exception) -> ProviderError:
    if isinstance(error, Unconnected):
        return unconnected(name)
    return unanswered(name) if isinstance(error, TimeoutError) else unreachable(name)
