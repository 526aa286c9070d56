"""Routes of the ledger: internal ones, which only the chat service calls, and one for administrators."""

from typing import Annotated

from chatbot_common.identity import CurrentAdmin, calling_service
from chatbot_common.telemetry import QUIET
from fastapi import APIRouter, Depends, Query, Request

from chatbot_conversation.usage.schema import Entries, Sums, UsagePage, UsageWindow, Windows
from chatbot_conversation.usage.service import UsageService

router = APIRouter(prefix="/internal/usage", tags=["usage"], dependencies=[Depends(calling_service("chat"))])

admin_router = APIRouter(prefix="/api/v1/admin/usage", tags=["admin"])


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


@admin_router.get("")
async def usage_by(_: CurrentAdmin, usage: Usage, window: Annotated[UsageWindow, Query()]) -> UsagePage:
    """What was answered, used, spent and thought of it: by day (newest first), or by model, user, variant or API key
    (the dearest first). Each answer counts when it was given."""
    return await usage.by(window)
