"""Asking the API server, as its administrator: what readiness and `status` need, without a kubectl per look."""

import http.client
import json
import ssl
from functools import lru_cache
from typing import Any

from localcluster.paths import Layout

SECONDS = 5.0


def get(layout: Layout, path: str) -> tuple[int, bytes]:
    """Status code and body of one request. Raises `OSError` when nothing answers."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1",
        layout.api_port,
        timeout=SECONDS,
        context=_context(layout, (layout.pki / "ca.crt").stat().st_mtime_ns),
    )
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP answer: {error!r}") from error
    finally:
        connection.close()


def answers(layout: Layout, path: str) -> bool:
    """True when this path answers 200."""
    try:
        return get(layout, path)[0] == http.HTTPStatus.OK
    except OSError:
        return False


def read(layout: Layout, path: str) -> dict[str, Any] | None:
    """The object or list at a path; None when there is none or nothing answers."""
    try:
        status, body = get(layout, path)
    except OSError:
        return None
    found: dict[str, Any] = json.loads(body) if status == http.HTTPStatus.OK else {}
    return found or None


@lru_cache(maxsize=8)
def _context(layout: Layout, _authority: int) -> ssl.SSLContext:
    """`_authority` tells one life of the cluster from the next."""
    context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
    context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
    return context
