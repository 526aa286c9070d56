"""Internal routes of the ledger: only the chat service calls them."""

from typing import Annotated

from chatbot_common.identity import calling_service
from chatbot_common.telemetry import QUIET
from fastapi import APIRouter, Depends, Request

from chatbot_conversation.usage.schema import Entries, Sums, Windows
from chatbot_conversation.usage.service import UsageService

router = APIRouter(prefix="/internal/usage", tags=["usage"], dependencies=[Depends(calling_service("chat"))])


async def _service(request: Request) -> UsageService:
    service: UsageService = request.app.state.usage
    return service


Usage = Annotated[UsageService, Depends(_service)]


@router.post("", status_code=204)
async def enter(body: Entries, usage: Usage, request: Request) -> None:
    """Enter what answers have used that no turn stores. Sent again, nothing is entered twice."""
    request.scope[QUIET] = True
    await usage.enter(body)


@router.post("/sums")
async def sums(body: Windows, usage: Usage) -> Sums:
    """What was spent in each window, as far as it was entered."""
    return await usage.sums(body)
