"""Internal routes of turns: only the chat service calls them, the gateway never routes here."""

from typing import Annotated
from uuid import UUID

from chatbot_common.direct import Direct, body_of, endpoint, json_of
from chatbot_common.errors import NotFound
from chatbot_common.identity import AskingUser, asking_user, calling_service
from chatbot_common.telemetry import QUIET
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from chatbot_conversation.turns.schema import (
    Approval,
    Leases,
    Regenerate,
    Renewal,
    StartTurn,
    StoredReply,
    StoreReply,
    Told,
    Turn,
)
from chatbot_conversation.turns.service import TurnService

_by_chat = calling_service("chat")
router = APIRouter(prefix="/internal/turns", tags=["turns"], dependencies=[Depends(_by_chat)])


async def _service(request: Request) -> TurnService:
    service: TurnService = request.app.state.turns
    return service


Turns = Annotated[TurnService, Depends(_service)]


@router.post("")
async def start_turn(body: StartTurn, user: AskingUser, turns: Turns) -> Turn:
    """Start a turn for the user, or find the one this client message id started."""
    return await turns.start(user.id, body)


@router.post("/regenerations")
async def regenerate(body: Regenerate, user: AskingUser, turns: Turns) -> Turn:
    """Start another answer to a question of the user, or find the one this client message id started."""
    return await turns.regenerate(user.id, body)


@router.post("/leases")
async def renew_leases(body: Renewal, turns: Turns, request: Request) -> Leases:
    """Keep the caller's turns alive, and learn whose process has died."""
    request.scope[QUIET] = True
    return await turns.renew(body)


@router.get("")
async def latest_turn(conversation_id: UUID, user: AskingUser, turns: Turns) -> Turn | None:
    """How the newest turn of a conversation of the user stands; null where nothing was asked yet."""
    return await turns.latest(user.id, conversation_id)


@router.get("/{turn_id}")
async def get_turn(turn_id: UUID, user: AskingUser, turns: Turns) -> Turn:
    """How a turn of the user stands."""
    return await turns.get(user.id, turn_id)


@router.get("/{turn_id}/told")
async def get_told(turn_id: UUID, user: AskingUser, turns: Turns) -> Told:
    """What a turn of the user was asked with."""
    return await turns.told(user.id, turn_id)


@router.delete("/{turn_id}", status_code=204)
async def delete_turn(turn_id: UUID, user: AskingUser, turns: Turns) -> None:
    """Erase a turn of the user."""
    await turns.delete(user.id, turn_id)


@router.post("/{turn_id}/approvals")
async def approve(turn_id: UUID, body: Approval, user: AskingUser, turns: Turns) -> Turn:
    """Store the user's answer to a call that waits for it; the last one starts the next attempt."""
    return await turns.approve(user.id, turn_id, body)


@router.put("/{turn_id}/reply")
async def store_reply(turn_id: UUID, body: StoreReply, turns: Turns) -> StoredReply:
    """Store how an attempt ended. The user's token may have expired by now: the user is the turn's."""
    return await turns.store_reply(turn_id, body)


# A turn asks three times, so these three pass the framework by.


async def _start(request: Request) -> Response:
    await _by_chat(request)
    user = await asking_user(request)
    return json_of(await start_turn(await body_of(request, StartTurn), user, await _service(request)))


async def _renew(request: Request) -> Response:
    await _by_chat(request)
    return json_of(await renew_leases(await body_of(request, Renewal), await _service(request), request))


async def _store(request: Request) -> Response:
    await _by_chat(request)
    try:
        turn_id = UUID(request.path_params["turn_id"])
    except ValueError:
        raise NotFound("There is no such turn.") from None
    return json_of(await store_reply(turn_id, await body_of(request, StoreReply), await _service(request)))


DIRECT = {
    ("POST", "/internal/turns"): Direct(endpoint(_start), "/internal/turns"),
    ("POST", "/internal/turns/leases"): Direct(endpoint(_renew), "/internal/turns/leases"),
    ("PUT", "/internal/turns/{turn_id}/reply"): Direct(endpoint(_store), "/internal/turns/{turn_id}/reply"),
}
