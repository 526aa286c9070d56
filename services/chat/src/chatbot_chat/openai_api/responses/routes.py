"""`/v1/responses`: the routes OpenAI's clients call."""

from hashlib import sha256
from typing import Annotated, Any

from chatbot_common.identity import AskingUser
from chatbot_common.ids import uuid7
from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from chatbot_chat.openai_api.responses.inputs import InputWindow
from chatbot_chat.openai_api.responses.schema import ResponseRequest
from chatbot_chat.openai_api.responses.service import ResponseService
from chatbot_chat.sse import sse_response

router = APIRouter(prefix="/v1/responses", tags=["openai"])


async def _service(request: Request) -> ResponseService:
    service: ResponseService = request.app.state.responses
    return service


Responses = Annotated[ResponseService, Depends(_service)]


@router.post("", response_model=None)
async def create_response(
    body: ResponseRequest,
    user: AskingUser,
    responses: Responses,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Response | dict[str, Any]:
    """One answer, whole, streamed, or in the background. It is stored as a turn, unless `store` is false.

    A client that goes away does not lose a stored answer. Sent again under the same `Idempotency-Key`, it attaches.
    """
    if not body.stored:
        answering = await responses.answer(user, body)
        return sse_response(answering.frames(), answering.close) if body.stream else await answering.whole()
    name = f"responses:{sha256(idempotency_key.encode()).hexdigest()}" if idempotency_key else str(uuid7())
    turn = await responses.start(user, body, name)
    if body.stream:
        return sse_response(responses.frames(user, turn))
    return responses.view(turn) if body.background else await responses.whole(user, turn)


@router.get("/{response_id}", response_model=None)
async def get_response(
    response_id: str,
    user: AskingUser,
    responses: Responses,
    stream: bool = False,
    starting_after: Annotated[int, Query(ge=-1, description="Number of the last event seen")] = -1,
) -> Response | dict[str, Any]:
    """A stored response as it stands; with `stream`, its events from a number on, also after it has ended."""
    turn = await responses.turn(user, response_id)
    return sse_response(responses.frames(user, turn, starting_after)) if stream else responses.view(turn)


@router.get("/{response_id}/input_items")
async def list_input_items(
    response_id: str, user: AskingUser, responses: Responses, window: Annotated[InputWindow, Query()]
) -> dict[str, Any]:
    """What a stored response was asked with, the newest item first unless `order` is `asc`."""
    return await responses.inputs(user, response_id, window)


@router.post("/{response_id}/cancel")
async def cancel_response(response_id: str, user: AskingUser, responses: Responses) -> dict[str, Any]:
    """Stop a stored response; the text so far is kept. One that has ended stays as it ended."""
    return await responses.cancel(user, response_id)


@router.delete("/{response_id}")
async def delete_response(response_id: str, user: AskingUser, responses: Responses) -> dict[str, Any]:
    """Erase a stored response: its answer, and its question unless something else goes on from it."""
    return await responses.delete(user, response_id)
