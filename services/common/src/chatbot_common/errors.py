"""Errors a client sees: RFC 9457 problem details on the native face, OpenAI's shape under `/v1`.

A `Problem` carries its own meaning; nothing else about the failure leaves the process.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from opentelemetry import trace
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

log = structlog.get_logger(__name__)

_TYPE_NAME = re.compile(r"str|int|float|bool|uuid|(constrained|function|tagged|nullable)-.*|(list|dict|tuple)\[.*\]")
_JSON = re.compile(r"application/([^/]*\+)?json", re.IGNORECASE)
SHORTLY: Mapping[str, str] = {"Retry-After": "1"}
TYPE_PREFIX = "urn:chatbot:problem:"
OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
SEND_JSON = "Send JSON, with the header 'Content-Type: application/json'."


class Problem(Exception):
    """A failure with a stable type that a client may act on.

    Subclasses set `status`, `kind` (the last part of the type URN) and `title`.
    """

    status = 500
    kind = "internal"
    title = "Something went wrong on our side"

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def as_json(self) -> dict[str, Any]:
        """The body of RFC 9457, plus `errors` and `trace_id` where there are any."""
        body: dict[str, Any] = {"type": TYPE_PREFIX + self.kind, "title": self.title, "status": self.status}
        if self.detail:
            body["detail"] = self.detail
        if self.errors:
            body["errors"] = self.errors
        if trace_id := current_trace_id():
            body["trace_id"] = trace_id
        return body

    def as_openai(self) -> dict[str, Any]:
        """The same failure in the shape OpenAI's clients parse."""
        kind = "server_error" if self.status >= 500 else OPENAI_TYPES.get(self.status, "invalid_request_error")
        param = _parameter(self.errors[0]["pointer"]) if self.errors else None
        return {"error": {"message": str(self), "type": kind, "param": param, "code": self.kind.replace("-", "_")}}

    @property
    def openai_status(self) -> int:
        """OpenAI's clients know one status for whatever is wrong with a request, also for one that is too long."""
        return 400 if self.status == 422 else self.status


class InvalidRequest(Problem):
    status, kind, title = 422, "invalid-request", "The request is not valid"


class MalformedBody(Problem):
    status, kind, title = 400, "malformed-body", "The body is not valid JSON"


class Unauthenticated(Problem):
    status, kind, title = 401, "unauthenticated", "Sign in first"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Problem):
    status, kind, title = 403, "forbidden", "This account may not do that"


class NotFound(Problem):
    status, kind, title = 404, "not-found", "There is no such thing"


class Conflict(Problem):
    status, kind, title = 409, "conflict", "The thing has changed meanwhile"


class BodyTooLarge(Problem):
    status, kind, title = 413, "body-too-large", "The request body is too large"


class UnsupportedMediaType(Problem):
    status, kind, title = 415, "unsupported-media-type", "This kind of body is not understood here"


class TooManyRequests(Problem):
    status, kind, title = 429, "too-many-requests", "Too many requests"


class UpstreamFailed(Problem):
    status, kind, title = 502, "upstream-failed", "A part of the platform did not answer"


class Unavailable(Problem):
    status, kind, title = 503, "unavailable", "Not available right now, try again shortly"

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] = SHORTLY,
    ) -> None:
        """`headers` say when to ask again, unless others are given."""
        super().__init__(detail, errors=errors, headers=headers)


class HttpProblem(Problem):
    """What the framework raises on its own: unknown route, wrong method."""

    def __init__(self, cause: HTTPException) -> None:
        self.status, self.title = cause.status_code, cause.detail
        self.kind = cause.detail.lower().replace(" ", "-")
        super().__init__(headers=cause.headers)


def current_trace_id() -> str | None:
    """Trace id of the current span as 32 hex digits, None outside a trace."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def problem_response(path: str, problem: Problem) -> Response:
    """The response for a problem met at this path."""
    if path.startswith("/v1/"):
        return JSONResponse(problem.as_openai(), problem.openai_status, problem.headers)
    return JSONResponse(problem.as_json(), problem.status, problem.headers, media_type="application/problem+json")


def from_validation(error: RequestValidationError, content_type: str = "application/json") -> Problem:
    """Where each mistake is and what it is, never the value: it may be a password."""
    details = error.errors()
    if any(detail["type"] == "json_invalid" for detail in details):
        return MalformedBody("The body could not be parsed as JSON; check quotes, commas and braces.")
    if not is_json(content_type) and any(tuple(detail["loc"]) == ("body",) for detail in details):
        return UnsupportedMediaType(SEND_JSON)
    errors = _mistakes([(_pointer(detail["loc"]), detail) for detail in details])
    summary = "; ".join(f"{item['pointer']}: {item['detail']}" for item in errors[:3])
    return InvalidRequest(summary, errors=errors)


def is_json(content_type: str) -> bool:
    """Whether the framework reads such a body as JSON."""
    return _JSON.fullmatch(content_type.partition(";")[0].strip()) is not None


def _mistakes(found: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, str]]:
    """Each place once. A field of several types reports for each: what the type that the value has says, is meant."""
    told: dict[str, Mapping[str, Any]] = {}
    for pointer, detail in found:
        if pointer not in told or (_of_another_type(told[pointer]) and not _of_another_type(detail)):
            told[pointer] = detail
    return [
        {"pointer": pointer, "detail": _words(detail)}
        for pointer, detail in told.items()
        if not (_of_another_type(detail) and any(other.startswith(f"{pointer}/") for other in told))
    ]


def _of_another_type(detail: Mapping[str, Any]) -> bool:
    return str(detail["type"]).endswith("_type")


def _pointer(location: Sequence[str | int]) -> str:
    """JSON pointer of a field, without the names that the validator gives to the types of a union."""
    parts = [str(part) for part in location[1:]]
    return "/" + "/".join(part for part in parts if not _TYPE_NAME.fullmatch(part))


def _parameter(pointer: str) -> str | None:
    """The same place as OpenAI writes it: `messages[0].content`; None is the whole body."""
    names = [f"[{name}]" if name.isdecimal() else f".{name}" for name in pointer.split("/") if name]
    return "".join(names).removeprefix(".") or None


def _words(detail: Mapping[str, Any]) -> str:
    limits = detail.get("ctx", {})
    match detail["type"]:
        case "too_short":
            return f"This is too short: at least {limits.get('min_length')}."
        case "too_long":
            return f"This is too long: at most {limits.get('max_length')}."
        case "string_pattern_mismatch":
            return "This does not have the expected form."
        case "value_error":
            return str(detail["msg"]).removeprefix("Value error, ")
        case _:
            return str(detail["msg"])


def add_error_handlers(app: FastAPI) -> None:
    """Translate every exception that can leave an endpoint, in this one place."""

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - registered for this type only
        return problem_response(request.url.path, error)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return problem_response(request.url.path, from_validation(error, request.headers.get("content-type", "")))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        return problem_response(request.url.path, HttpProblem(error))

    async def on_crash(request: Request, error: Exception) -> Response:
        log.error("unhandled error", path=request.url.path, exc_info=error)
        return problem_response(request.url.path, Problem())

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_crash)
