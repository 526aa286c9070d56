"""`/internal/sign-in-links`: for whoever manages the platform, never routed by the gateway."""

from chatbot_common.identity import calling_service
from fastapi import APIRouter, Depends, Response

from chatbot_auth.context import InContext
from chatbot_auth.links.schema import NewLink, NewLinkRequest

router = APIRouter(
    prefix="/internal/sign-in-links", tags=["internal"], dependencies=[Depends(calling_service("operator"))]
)


@router.post("")
async def create(response: Response, context: InContext, body: NewLinkRequest | None = None) -> NewLink:
    """A token that signs its bearer in as the administrator, once."""
    response.headers["Cache-Control"] = "no-store"
    return await context.links.create()
