"""`/users`: the signed-in person's own account. `/admin/users`: everybody's, for administrators."""

from chatbot_common.identity import CurrentAdmin, CurrentUser
from fastapi import APIRouter

from chatbot_auth.context import InContext
from chatbot_auth.users.schema import Me, RegisterRequest

router = APIRouter(prefix="/api/v1/users", tags=["users"])
admin_router = APIRouter(prefix="/api/v1/admin/users", tags=["admin"])


@router.get("/me")
async def me(user: CurrentUser, context: InContext) -> Me:
    """The account of the token's owner."""
    return Me.model_validate(await context.users.me(user))


@admin_router.post("", status_code=201)
async def create(body: RegisterRequest, admin: CurrentAdmin, context: InContext) -> Me:
    """Create an account for somebody, also where sign-up is closed. It signs in with the password given here."""
    return Me.model_validate(await context.users.create_for(admin, body))
