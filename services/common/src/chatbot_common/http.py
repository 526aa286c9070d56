"""Calls from one service to another: one client per callee, made at start-up, carrying our own identity."""

from collections.abc import Generator
from typing import Any

import httpx2

from chatbot_common.errors import Problem, Unavailable, UpstreamFailed
from chatbot_common.identity import SERVICE_HEADER, ServiceIdentity

TIMEOUT = httpx2.Timeout(30, connect=3)


class ServiceAuth(httpx2.Auth):
    """Adds this service's token for one callee to every request."""

    def __init__(self, identity: ServiceIdentity, callee: str) -> None:
        self._identity = identity
        self.callee = callee

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers[SERVICE_HEADER] = f"Bearer {self._identity.token(self.callee)}"
        yield request


def service_client(
    base_url: str,
    identity: ServiceIdentity,
    callee: str,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> httpx2.AsyncClient:
    """A client for one callee. `transport` lets a test put the real app behind it, in process."""
    return httpx2.AsyncClient(
        base_url=base_url, auth=ServiceAuth(identity, callee), timeout=TIMEOUT, transport=transport
    )


class UpstreamProblem(Problem):
    """A callee's own 4xx, passed on with its status, type and words."""

    def __init__(self, body: dict[str, Any], status: int) -> None:
        self.status = status
        self.kind = str(body.get("type", "")).rpartition(":")[2] or "upstream-failed"
        self.title = str(body.get("title", "The request was refused"))
        super().__init__(body.get("detail"), errors=body.get("errors", ()))


async def call(
    client: httpx2.AsyncClient, method: str, path: str, *, user_token: str | None = None, **kwargs: Any
) -> Any:
    """Send one request and return its JSON.

    Args:
        user_token: access token of the user on whose behalf this is; without it the callee sees only the service.

    Raises:
        UpstreamProblem: the callee answered 4xx.
        UpstreamFailed: the callee failed, or answered something unreadable.
        Unavailable: the callee could not be reached in time, or said that it cannot work right now.
    """
    callee = client.auth.callee if isinstance(client.auth, ServiceAuth) else "other"
    headers = {"Authorization": f"Bearer {user_token}"} if user_token else {}
    try:
        response = await client.request(method, path, headers=headers, **kwargs)
    except httpx2.TransportError as error:
        raise Unavailable(f"The {callee} service cannot be reached.") from error
    if response.status_code == 503:
        raise Unavailable(f"The {callee} service cannot work right now; try again shortly.")
    if response.status_code >= 500:
        raise UpstreamFailed(f"The {callee} service failed ({response.status_code}).")
    try:
        body = response.json() if response.content else None
    except ValueError as error:
        raise UpstreamFailed(f"The {callee} service answered something that is not JSON.") from error
    if response.is_error:
        raise UpstreamProblem(body if isinstance(body, dict) else {}, response.status_code)
    return body
