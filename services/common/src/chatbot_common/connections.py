"""Connections that a server ends in good order, so that its callers spread over its replicas.

A cluster's Service chooses a pod per connection. Callers that keep theirs alive would stay with the pods of yesterday:
one that was added gets nothing to do, one that leaves is asked until it is gone. So the server itself says
`Connection: close` with an answer, which no caller can take for a failure. A stream is never cut by this.
"""

import asyncio

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_AGE_SECONDS = 25.0
"""With the seconds until the next request on it, a busy connection has moved on within 30 s."""
CLOSE = (b"connection", b"close")


def recycled(max_age: float = MAX_AGE_SECONDS) -> type[HttpToolsProtocol]:
    """uvicorn's `http` protocol, whose connections end with the first answer begun after `max_age` seconds."""

    class Recycled(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._until = self.loop.time() + max_age

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            if self.cycle is not None and self.loop.time() > self._until:
                self.cycle.default_headers = [*self.cycle.default_headers, CLOSE]

    return Recycled


def say_goodbye(server: uvicorn.Server) -> bool:
    """From now on every answer ends its connection. False when there is no connection to end."""
    server.server_state.default_headers.append(CLOSE)
    return bool(server.server_state.connections)
