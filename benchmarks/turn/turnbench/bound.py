"""The bound: what relaying costs when nothing else is done. A raw ASGI app on uvicorn and aiohttp's client, one hop.

No identity, no limits, no metrics, no traces: no gateway in Python that does any of these can be as fast.
`uvicorn turnbench.bound:app`, with the upstream in `$BOUND_UPSTREAM`.
"""

import os
from typing import Any

from aiohttp import ClientSession, DummyCookieJar, TCPConnector

UPSTREAM = os.environ["BOUND_UPSTREAM"]
PASSED = ("content-type", "content-length")
_session: list[ClientSession] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await _relay(scope, await _body(receive), send)
        return
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            _session.append(
                ClientSession(connector=TCPConnector(limit=0), cookie_jar=DummyCookieJar(), auto_decompress=False)
            )
            await send({"type": "lifespan.startup.complete"})
        else:
            await _session[0].close()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _body(receive: Any) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def _relay(scope: Any, body: bytes, send: Any) -> None:
    headers = {"Content-Type": "application/json"}
    async with _session[0].post(UPSTREAM + scope["path"], data=body, headers=headers) as answer:
        kept = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(name, value) for name, value in kept if name.decode() in PASSED],
            }
        )
        async for piece in answer.content.iter_any():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
