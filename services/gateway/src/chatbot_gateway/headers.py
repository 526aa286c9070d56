"""Which headers cross the door, in either direction. Functions over raw ASGI headers."""

from collections.abc import Iterable, Sequence

from opentelemetry import propagate
from starlette.types import Scope

RawHeaders = Iterable[tuple[bytes, bytes]]

# RFC 9110, 7.6.1: they belong to one connection.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# Ours to say: who is asking, and from where. Never passed on as sent; services get what we found out ourselves: address
# and scheme of the connection, or what a proxy in `settings.trusted_proxies` said of it, which the server has put into
# the scope by now. (What came as trace context goes on where we have no span of our own.)
OURS = frozenset(
    (
        b"host",
        b"content-length",
        b"expect",
        b"forwarded",
        b"x-real-ip",
        b"x-request-id",
    )
)
OUR_PREFIXES = (b"x-service-", b"x-forwarded-")
TRACE_CONTEXT = frozenset((b"traceparent", b"tracestate"))
# The front server and the edge set these themselves; CORS is the gateway's to decide.
ANSWERED_HERE = frozenset((b"date", b"server", b"x-request-id"))
ANSWERED_PREFIXES = (b"access-control-",)


def to_upstream(scope: Scope, request_id: str) -> list[tuple[bytes, bytes]]:
    """Headers of the request as a service sees them; host and the body's length are added by the client."""
    kept = [
        item for item in _end_to_end(scope["headers"]) if item[0] not in OURS and not item[0].startswith(OUR_PREFIXES)
    ]
    ours: dict[str, str] = {}
    propagate.inject(ours)
    if ours:
        kept = [item for item in kept if item[0] not in TRACE_CONTEXT]
    client = scope.get("client")
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return [
        *kept,
        *((name.encode(), value.encode()) for name, value in ours.items()),
        (b"x-request-id", request_id.encode()),
        (b"x-forwarded-for", (client[0] if client else "unknown").encode()),
        (b"x-forwarded-proto", scope["scheme"].encode()),
        (b"x-forwarded-host", host),
    ]


def to_client(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Headers of a service's answer as the client sees them."""
    return [
        (name, value)
        for name, value in _end_to_end([(name.lower(), value) for name, value in headers])
        if name not in ANSWERED_HERE and not name.startswith(ANSWERED_PREFIXES)
    ]


def _end_to_end(headers: Sequence[tuple[bytes, bytes]]) -> RawHeaders:
    named = {item.strip().lower() for name, value in headers if name == b"connection" for item in value.split(b",")}
    return [(name, value) for name, value in headers if name not in HOP_BY_HOP and name not in named]
