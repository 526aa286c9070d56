"""`/users`: the signed-in person's own account."""

from chatbot_common.identity import CurrentUser
from fastapi import APIRouter

from chatbot_auth.context import InContext
from chatbot_auth.users.schema import Me

router = APIRouter(prefix="/api/v1/users", tags=["users"])


@router.get("/me")
async def me(user: CurrentUser, context: InContext) -> Me:
    """The account of the token's owner."""
    return Me.model_validate(await context.users.me(user))
