"""Routes that pass the framework by: the few that are asked most.

By a profile, most of the CPU of an answer that is only relayed went into layers that do nothing for it: routing,
dependencies, exit callbacks, task groups, a tracer that collects attributes of requests that nobody samples. What an
answer must have it gets here too: its span, its line in the log and its metrics (`Observed`), and a problem document
when it fails (`Problems`). The framework keeps these routes for their description.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatbot_common.errors import (
    SEND_JSON,
    HttpProblem,
    Problem,
    UnsupportedMediaType,
    from_validation,
    is_json,
    problem_response,
)
from chatbot_common.leaving import CLIENT_LEFT
from chatbot_common.telemetry import record

log = structlog.get_logger(__name__)

ModelT = TypeVar("ModelT", bound=BaseModel)

STATUS = "chatbot.status"
"""Key in a direct request's scope: the status that was sent. Without it nothing was sent yet."""
_NAME = re.compile(r"{(\w+)}")
_CARRIED = {b"traceparent": "traceparent", b"tracestate": "tracestate", b"baggage": "baggage"}


@dataclass(frozen=True)
class Direct:
    """One route. `path` is what its metrics and spans are called by, as the framework would call them."""

    app: ASGIApp
    path: str


class Service(FastAPI):
    """A service's app, with routes that pass the framework by."""

    _exact: dict[tuple[str, str], ASGIApp]
    _templates: list[tuple[str, re.Pattern[str], ASGIApp]]

    def pass_by(self, routes: Mapping[tuple[str, str], Direct], middleware: Sequence[Middleware]) -> None:
        """Args:
        routes: by method and path; one with names in braces gets them as `path_params`, as text.
        """
        stacks = {asked: stacked(route, middleware) for asked, route in routes.items()}
        self._exact = {asked: app for asked, app in stacks.items() if "{" not in asked[1]}
        named = [(*asked, app) for asked, app in stacks.items() if "{" in asked[1]]
        self._templates = [(method, re.compile(_NAME.sub(r"(?P<\1>[^/]+)", path)), app) for method, path, app in named]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._found(scope) if scope["type"] == "http" else None
        if found is None:
            await super().__call__(scope, receive, send)
        else:
            scope["app"] = self
            await found(scope, receive, send)

    def _found(self, scope: Scope) -> ASGIApp | None:
        method, path = scope["method"], scope["path"]
        if app := self._exact.get((method, path)):
            return app
        for its, pattern, app in self._templates:
            if its == method and (match := pattern.fullmatch(path)):
                scope["path_params"] = match.groupdict()
                return app
        return None


def stacked(route: Direct, middleware: Iterable[Middleware]) -> ASGIApp:
    """The route within what each answer gets, and the service's own middleware."""
    app: ASGIApp = Problems(route.app)
    for item in reversed([Middleware(Problems), *middleware]):
        app = item.cls(app, *item.args, **item.kwargs)
    return Observed(app, route)


class Observed:
    """ASGI app: the route's span, metrics and line in the log, at a tenth of the framework's while not sampled."""

    def __init__(self, app: ASGIApp, route: Direct) -> None:
        self._app = app
        self._route = route
        self._name = route.path.replace(":path}", "}")
        self._tracer = trace.get_tracer(__name__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self._route
        carried = {_CARRIED[name]: value.decode("latin-1") for name, value in scope["headers"] if name in _CARRIED}
        parent = propagate.extract(carried, Context()) if carried else Context()
        span, started = self._started(scope, parent), perf_counter()

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope[STATUS] = message["status"]
            await send(message)

        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                await self._app(scope, receive, watch)
            finally:
                record(scope, scope.get(STATUS, 500), perf_counter() - started)
                if span.is_recording():
                    span.set_attributes(self._attributes(scope))
                    if scope.get(STATUS, 500) >= 500:
                        span.set_status(StatusCode.ERROR)

    def _started(self, scope: Scope, parent: Context) -> Span:
        """None of its own in a trace that the caller does not sample: nobody would ever see it."""
        callers = trace.get_current_span(parent)
        if (context := callers.get_span_context()).is_valid and not context.trace_flags.sampled:
            return callers
        return self._tracer.start_span(f"{scope['method']} {self._name}", parent, SpanKind.SERVER)

    def _attributes(self, scope: Scope) -> dict[str, Any]:
        return {
            "http.request.method": scope["method"],
            "http.route": self._route.path,
            "http.response.status_code": scope.get(STATUS, 500),
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
        }


class Problems:
    """ASGI app: a problem becomes the answer, unless one has begun; then the connection has to break."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            if STATUS not in scope:
                await Response(status_code=CLIENT_LEFT)(scope, receive, send)
        except Exception as error:
            if STATUS in scope:
                raise
            if isinstance(error, HTTPException):
                error = HttpProblem(error)
            if not isinstance(error, Problem):
                log.error("unhandled error", path=scope["path"], exc_info=error)
                error = Problem()
            await problem_response(scope["path"], error)(scope, receive, send)


def endpoint(function: Callable[[Request], Awaitable[ASGIApp]]) -> ASGIApp:
    """A function from the request to its response, as an ASGI app."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await function(Request(scope, receive))
        await response(scope, receive, send)

    return app


def json_of(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


async def body_of(request: Request, model: type[ModelT]) -> ModelT:
    """The JSON body. Raises the `Problem`s that the framework's reading would end in."""
    kind = request.headers.get("content-type", "")
    if not is_json(kind):
        raise UnsupportedMediaType(SEND_JSON)
    body = await request.body()
    with validated("body", kind=kind):
        return model.model_validate_json(body)


@contextmanager
def validated(*place: str, kind: str = "application/json") -> Iterator[None]:
    """A block that reads what is at this place of a request. Raises the `Problem` that a `ValidationError` is."""
    try:
        yield
    except ValidationError as error:
        found = [{**item, "loc": (*place, *item["loc"])} for item in error.errors(include_url=False)]
        raise from_validation(RequestValidationError(found), kind) from None
