"""What can go wrong when talking to the API server, told apart by what to do about it. Made in cluster.py only."""

import contextlib
import json
from typing import Any

from kubernetes.aio.client.exceptions import ApiException

CONFLICT, INVALID, TOO_MANY, SERVER_ERROR = 409, 422, 429, 500
ENTITY_TOO_LARGE = 413
LONGEST_AWAY = 300.0
"""Seconds that a server is stayed away from at its own word: a proxy that asks for a day would hide what is edited."""
FENCED = "this pod is not the leader"
"""Part of what the chart's fencing policy says. For a moment a new leader is compared with the Lease of the old one."""
NEW_KIND = "cannot find RESTMapping"
"""Part of what is said of an owner whose definition was installed a moment ago, where owners must be permitted."""
TOO_LARGE = ("request is too large", "sending message larger than max", "send message larger than max")
"""Words of etcd and of its client for an object that has no room in it; the API server answers 500 with them."""
WEBHOOK = "failed calling webhook"
"""Part of the API server's words for an admission webhook that is down. It answers 500, and serves all else."""


class ApiFault(Exception):
    """An answer that is not what was asked for. `str()` is the API server's own message."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class NotFound(ApiFault):
    """The object, or its namespace, is not there."""


class Conflict(ApiFault):
    """Somebody else was faster: read again, then decide again."""


class AlreadyExists(Conflict):
    """Only when creating."""


class Refused(ApiFault):
    """Forbidden, invalid, against a policy or asked of a webhook that is down: it concerns this one object alone."""


class Invalid(Refused):
    """It would say what an object of its kind cannot say."""

    def __init__(self, message: str, reason: str = "", fields: tuple[str, ...] = ()) -> None:
        super().__init__(message, reason)
        self.fields = fields
        """What is wrong, as `spec.ports[1].name`."""


class TooLarge(Refused):
    """The store behind the API server has no room for an object of this size, however often it is sent."""


class Unnoticed(Refused):
    """The check of who may own looks for new definitions twice a minute, and until then refuses what ours would own."""


class NamespaceGoing(ApiFault):
    """Nothing can be made in a namespace that is being deleted."""


class Unavailable(ApiFault):
    """Overloaded, broken or unreachable: the same again will help later."""

    def __init__(self, message: str, reason: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, reason)
        self.retry_after = retry_after
        """Seconds the API server asked us to stay away."""


def translate(error: ApiException) -> ApiFault:
    status = _body(error)
    code = error.status or 0
    message = str(status.get("message") or error.reason or f"HTTP {code}")
    reason = str(status.get("reason") or code)
    if WEBHOOK in message:
        return Refused(message, reason)
    if code == ENTITY_TOO_LARGE or any(words in message for words in TOO_LARGE):
        return TooLarge(message, reason)
    if NEW_KIND in message:
        return Unnoticed(message, reason)
    if code == CONFLICT:
        return (AlreadyExists if reason == "AlreadyExists" else Conflict)(message, reason)
    # 401: a token that ran out; the next request has a fresh one. 410: pages of a list that took too long.
    if code >= SERVER_ERROR or code in (TOO_MANY, 401, 408, 410) or FENCED in message:
        return Unavailable(message, reason, _retry_after(error, status))
    if code == 404:
        return NotFound(message, reason)
    if "NamespaceTerminating" in _causes(status, "reason"):
        return NamespaceGoing(message, reason)
    if code == INVALID:
        return Invalid(message, reason, tuple(_causes(status, "field")))
    return Refused(message, reason)


def _body(error: ApiException) -> dict[str, Any]:
    """The `Status` object of the answer; proxies answer without one."""
    with contextlib.suppress(ValueError, TypeError):
        found = json.loads(error.body or "")
        if isinstance(found, dict):
            return found
    return {}


def _causes(status: dict[str, Any], what: str) -> list[str]:
    details = status.get("details") or {}
    return [str(cause.get(what)) for cause in details.get("causes") or []]


def _retry_after(error: ApiException, status: dict[str, Any]) -> float:
    told = (error.headers or {}).get("Retry-After") or (status.get("details") or {}).get("retryAfterSeconds")
    try:
        return min(LONGEST_AWAY, max(0.0, float(told or 0)))
    except ValueError:  # a date: no API server sends one, a proxy might
        return 0.0
