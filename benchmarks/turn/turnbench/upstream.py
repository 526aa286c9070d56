"""The scripted model: OpenAI's chat completions at a small part of what any gateway costs. Also a sink for traces.

`python -m turnbench.upstream PORT`. The model `slow` takes its time between chunks, so that many
streams are open at once.
"""

import asyncio
import json
import sys
from typing import Any, cast

import httptools
import uvloop

WORDS = 32
CHUNKS = WORDS + 2
"""Of one stream: the role, the words, the finish."""
SLOW_SECONDS = 2.0
"""Between two chunks: a stream is open for more than a minute, in which a thousand more can be opened."""
USAGE = {"prompt_tokens": 12, "completion_tokens": WORDS, "total_tokens": 12 + WORDS}


def _answer(head: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": choices}
    data = b"data: " + json.dumps(body | more).encode() + b"\n\n"
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _delta(delta: dict[str, str], finish: str | None = None) -> bytes:
    return _chunk([{"index": 0, "delta": delta, "finish_reason": finish}])


TEXT = "".join(f"{number} " for number in range(WORDS))
WHOLE = _answer(
    "Content-Type: application/json\r\n",
    json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "bench",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
            "usage": USAGE,
        }
    ).encode(),
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = [
    _delta({"role": "assistant", "content": ""}),
    *(_delta({"content": f"{number} "}) for number in range(WORDS)),
    _delta({}, "stop"),
]
COUNTED = _chunk([], usage=USAGE)
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
EMPTY = _answer("", b"")


class Model(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._body = b"", b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._url.endswith(b"/completions"):
            self._transport.write(EMPTY)
            return
        asked = json.loads(self._body)
        if not asked.get("stream"):
            self._transport.write(WHOLE)
            return
        counted = (asked.get("stream_options") or {}).get("include_usage")
        pieces = [STREAM_HEAD, *STREAM, *([COUNTED] if counted else []), END]
        self._write(pieces, 0, SLOW_SECONDS if asked["model"] == "slow" else 0.0)

    def _write(self, pieces: list[bytes], at: int, pause: float) -> None:
        """One piece at a time, each a write of its own, as a model's words come."""
        if self._transport.is_closing():
            return
        self._transport.write(pieces[at])
        if at + 1 < len(pieces):
            asyncio.get_running_loop().call_later(pause, self._write, pieces, at + 1, pause)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
