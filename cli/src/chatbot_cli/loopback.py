"""Plain HTTP to our own processes on loopback: light enough for the start-up, and deaf to any proxy."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chatbot_cli.ports import HOST


@dataclass(frozen=True)
class Answer:
    """A response; `body` is None where it was not JSON."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def request(
    port: int,
    method: str,
    path: str,
    *,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = 3.0,
) -> Answer | None:
    """Send one request; None when nobody answers in time."""
    connection = http.client.HTTPConnection(HOST, port, timeout=seconds)
    content = None if body is None else json.dumps(body)
    kind = {} if content is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, path, content, {**kind, **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, _json(response.read()))
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None
