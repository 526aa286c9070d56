"""The native chat routes: send a message, watch a run, stop a run."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

from chatbot_common.direct import Direct, body_of, endpoint, json_of, validated
from chatbot_common.errors import InvalidRequest
from chatbot_common.identity import AskingUser, KeepingUser, asking_user
from chatbot_common.ids import uuid7
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi import Path as PathParameter
from pydantic import TypeAdapter
from starlette.responses import Response

from chatbot_chat.caching.service import CacheUse, wished
from chatbot_chat.providers.catalog import Catalog
from chatbot_chat.responding import respond, stream
from chatbot_chat.runs.events import Position
from chatbot_chat.runs.service import RunService
from chatbot_chat.schema import (
    Answer,
    Approval,
    Edit,
    Models,
    ModelView,
    Regenerate,
    RunView,
    SendRequest,
    Tools,
    ToolView,
    run_view,
)
from chatbot_chat.tools.catalog import ToolCatalog

router = APIRouter(prefix="/api/v1/chat", tags=["chat"])
messages = APIRouter(prefix="/api/v1/conversations/{conversation_id}/messages/{message_id}", tags=["chat"])
"""The gateway sends these two here: they start runs."""
conversations = APIRouter(prefix="/api/v1/conversations/{conversation_id}", include_in_schema=False)
"""And the end of a conversation, which conversation describes: what is kept of its answers is here."""

EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "The answer, or its events"}
}
ANSWER = EVENT_STREAM | {202: {"model": RunView, "description": "Tools wait until the user has agreed to `approvals`"}}


@dataclass(frozen=True, slots=True)
class Place:
    """Which message is meant, from the path."""

    conversation_id: UUID
    message_id: UUID


async def _runs(request: Request) -> RunService:
    service: RunService = request.app.state.runs
    return service


async def _catalog(request: Request) -> Catalog:
    catalog: Catalog = request.app.state.catalog
    return catalog


Runs = Annotated[RunService, Depends(_runs)]
Models_ = Annotated[Catalog, Depends(_catalog)]
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255)]
_KEY: TypeAdapter[str | None] = TypeAdapter(IdempotencyKey)


@router.post("/send", response_model=Answer, responses=ANSWER)
async def send(
    body: SendRequest,
    user: AskingUser,
    runs: Runs,
    catalog: Models_,
    use: CacheUse,
    accept: Annotated[str, Header()] = "",
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Ask the assistant. With `Accept: text/event-stream` the events of the run arrive as they happen.

    A client that goes away does not lose the answer: the run goes on and is stored. Sent again under the same
    `client_message_id`, or without one under the same `Idempotency-Key`, it attaches to the run there is.
    """
    model = catalog.named(body.model)
    turn = await runs.send(user, start_of(body, _name("send", idempotency_key)), model, body.language, use)
    return await respond(turn, runs.events(user, turn, Position()), accept)


async def _send(request: Request) -> Response:
    """As a turn is asked most, it passes the framework by."""
    user = await asking_user(request)
    told, state = request.headers, request.app.state
    with validated("header", "idempotency-key"):
        key = _KEY.validate_python(told.get("idempotency-key"))
    body, use = await body_of(request, SendRequest), wished(told.get("cache-control", ""))
    answer = await send(body, user, state.runs, state.catalog, use, told.get("accept", ""), key)
    return answer if isinstance(answer, Response) else json_of(answer)


DIRECT = {("POST", "/api/v1/chat/send"): Direct(endpoint(_send), "/api/v1/chat/send")}


@messages.post("/edit", response_model=Answer, responses=ANSWER)
async def edit(
    place: Annotated[Place, Depends()],
    body: Edit,
    user: AskingUser,
    runs: Runs,
    catalog: Models_,
    use: CacheUse,
    accept: Annotated[str, Header()] = "",
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Ask something else in a question's stead; the answer comes as from `/chat/send`. Both questions stay."""
    model = catalog.named(body.model)
    name = _name(f"edit:{place.message_id}", idempotency_key)
    start = start_of(body, name, place.conversation_id) | {"edited_message_id": str(place.message_id)}
    turn = await runs.send(user, start, model, body.language, use)
    return await respond(turn, runs.events(user, turn, Position()), accept)


@messages.post("/regenerate", response_model=Answer, responses=ANSWER)
async def regenerate(
    place: Annotated[Place, Depends()],
    user: AskingUser,
    runs: Runs,
    catalog: Models_,
    use: CacheUse,
    body: Regenerate | None = None,
    accept: Annotated[str, Header()] = "",
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Answer a question again, named by itself or by an answer of it, as `/chat/send` does. Both answers stay."""
    body = body or Regenerate()
    model = catalog.named(body.model)
    start = {
        "conversation_id": str(place.conversation_id),
        "message_id": str(place.message_id),
        "client_message_id": body.client_message_id or _name(f"regenerate:{place.message_id}", idempotency_key),
        "retry": body.retry,
    }
    turn = await runs.regenerate(user, start, model, body.language, use)
    return await respond(turn, runs.events(user, turn, Position()), accept)


@conversations.delete("", status_code=204)
async def delete_conversation(conversation_id: UUID, user: KeepingUser, runs: Runs) -> None:
    """With what was said in it; it is not given again."""
    await runs.delete_conversation(user, conversation_id)


def start_of(body: SendRequest | Edit, name: str, conversation_id: UUID | None = None) -> dict[str, Any]:
    """The turn to start; `name` is for a client that sent none, which makes the request repeatable from here on."""
    start = body.model_dump(mode="json", include={"conversation_id", "parent_message_id", "language", "retry"})
    start |= {"text": body.text, "parts": body.parts, "client_message_id": body.client_message_id or name}
    return start | ({"conversation_id": str(conversation_id)} if conversation_id else {})


def _name(route: str, idempotency_key: str | None) -> str:
    """Under which name a request without a `client_message_id` is known, should it come again."""
    if idempotency_key is None:
        return str(uuid7())
    return f"{route}:{sha256(idempotency_key.encode()).hexdigest()}"


@router.get("/runs/{run_id}")
async def get_run(run_id: UUID, user: AskingUser, runs: Runs) -> RunView:
    """How a run stands."""
    return run_view(await runs.turn(user, run_id))


@router.get("/runs/{run_id}/events", response_class=Response, responses=EVENT_STREAM)
async def run_events(
    run_id: UUID,
    user: AskingUser,
    runs: Runs,
    after: Annotated[str | None, Query(description="`seq` or `attempt-seq` of the last event seen")] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Events of a run from a position on, from any replica, also after it has ended."""
    try:
        position = Position.parse(after or last_event_id)
    except ValueError as error:
        raise InvalidRequest("after must be a number, or attempt-number such as 1-17.") from error
    turn = await runs.turn(user, run_id)
    return stream(runs.events(user, turn, position))


@router.post("/runs/{run_id}/cancel", status_code=202)
async def cancel_run(run_id: UUID, user: AskingUser, runs: Runs) -> RunView:
    """Stop a run; the text so far is kept. A run that has ended stays as it ended."""
    return run_view(await runs.cancel(user, run_id))


@router.post("/runs/{run_id}/approvals/{tool_call_id}", status_code=202, response_model=RunView, responses=EVENT_STREAM)
async def approve_call(
    run_id: UUID,
    tool_call_id: Annotated[str, PathParameter(max_length=128)],
    user: AskingUser,
    runs: Runs,
    body: Approval | None = None,
    accept: Annotated[str, Header()] = "",
) -> Any:
    """Say whether a tool may be called; the run goes on with the last answer. Each call is answered once.

    With `Accept: text/event-stream` the events of the run's next attempt follow.
    """
    turn = await runs.approve(user, run_id, tool_call_id, body.approved if body else True)
    return stream(runs.events(user, turn, Position())) if "text/event-stream" in accept else run_view(turn)


@router.get("/tools")
async def list_tools(_: AskingUser, request: Request) -> Tools:
    """What models may do in a conversation besides talking."""
    catalog: ToolCatalog = request.app.state.tools
    views = [
        ToolView(
            name=tool.spec.name,
            description=tool.spec.description,
            parameters={**tool.spec.parameters},
            asks=tool.asks,
        )
        for tool in catalog.all
    ]
    return Tools(data=views, missing=catalog.missing)


@router.get("/models")
async def list_models(_: AskingUser, catalog: Models_) -> Models:
    """Models that `model` may name."""
    return Models(
        data=[
            ModelView(
                name=name,
                default=name == catalog.default,
                context_window=catalog.model(name).context_window,
                max_output_tokens=catalog.model(name).max_output_tokens,
            )
            for name in catalog.names
        ]
    )
