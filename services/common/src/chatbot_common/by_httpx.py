"""A server that `Upstream` does not reach, asked in its way: one behind a proxy, or an app in the same process."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any

import httpx2

from chatbot_common.answers import BrokenOff, Data
from chatbot_common.upstream import Patience, RawHeaders, Unconnected, Unreachable


class HttpxAnswer:
    """An open response. Reading it raises `BrokenOff`, `TimeoutError`."""

    def __init__(self, response: httpx2.Response, silence: float) -> None:
        self.response = response
        self.status = response.status_code
        self.headers = response.headers.raw
        self.silence = silence

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        pieces = self.response.aiter_raw()
        with _told_as_upstream():
            while True:
                async with asyncio.timeout(self.silence):
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                yield piece


class ByHttpx:
    """One server, by its base URL, asked by a client of httpx2 that belongs to this. `silence`: see `Patience`."""

    def __init__(self, base_url: str, client: httpx2.AsyncClient, silence: float) -> None:
        self._base_url = base_url
        self._client = client
        self._silence = silence

    async def open(
        self, method: str, target: bytes, headers: RawHeaders, data: Data, sent: Callable[[], None] | None = None
    ) -> HttpxAnswer:
        """The answer, from its headers on; `leave` closes it. Raises `Unreachable`, `BrokenOff`, `TimeoutError`."""

        async def traced(step: str, told: Mapping[str, Any]) -> None:
            # A proxy is asked for a tunnel first, and that is not the request.
            if sent and step.endswith("send_request_body.started") and told["request"].method != b"CONNECT":
                sent()

        request = self._client.build_request(method, self._base_url + target.decode(), headers=headers, content=data)
        request.extensions["trace"] = traced
        with _told_as_upstream():
            return HttpxAnswer(await self._client.send(request, stream=True), self._silence)

    async def leave(self, connection: HttpxAnswer) -> None:
        await connection.response.aclose()

    async def aclose(self) -> None:
        await self._client.aclose()


def proxied(base_url: str, patience: Patience, proxy: str, trusted: ssl.SSLContext | None) -> ByHttpx:
    """`trusted` is for a server with TLS."""
    timeout = httpx2.Timeout(patience.silence, connect=patience.connect, pool=patience.connect)
    unbounded = httpx2.Limits(max_connections=None)
    client = httpx2.AsyncClient(proxy=proxy, verify=trusted or True, timeout=timeout, limits=unbounded, trust_env=False)
    return ByHttpx(base_url, client, patience.silence)


@contextlib.contextmanager
def _told_as_upstream() -> Iterator[None]:
    """Failures in the words of `Upstream`."""
    try:
        yield
    except (httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
        raise Unconnected from error
    except httpx2.TimeoutException as error:
        raise TimeoutError from error
    except (httpx2.ConnectError, httpx2.ProxyError) as error:
        raise Unreachable from error
    except httpx2.TransportError as error:
        raise BrokenOff(str(error)) from error
