"""`/users/me/api-keys`: one's own keys, for who is signed in. The exchange is the gateway's, which never routes it."""

from uuid import UUID

from chatbot_common.identity import CurrentUser, calling_service
from fastapi import APIRouter, Depends, Response

from chatbot_auth.api_keys.schema import Exchanged, ExchangeRequest, KeyList, NewKey, NewKeyRequest
from chatbot_auth.context import InContext

router = APIRouter(prefix="/api/v1/users/me/api-keys", tags=["users"])
exchange_router = APIRouter(
    prefix="/internal/api-keys", tags=["internal"], dependencies=[Depends(calling_service("gateway"))]
)


@router.get("")
async def list_keys(user: CurrentUser, context: InContext) -> KeyList:
    """Your API keys, newest first; revoked ones are left out."""
    return await context.api_keys.of_user(user)


@router.post("", status_code=201)
async def create(body: NewKeyRequest, user: CurrentUser, context: InContext, response: Response) -> NewKey:
    """Make an API key. Its `key` is shown this once; send it as `Authorization: Bearer sk-…`."""
    response.headers["Cache-Control"] = "no-store"
    return await context.api_keys.create(user, body)


@router.delete("/{key_id}", status_code=204)
async def revoke(key_id: UUID, user: CurrentUser, context: InContext) -> None:
    """End a key, for good: within seconds nothing is answered to it any more."""
    await context.api_keys.revoke(user, key_id)


@exchange_router.post("/exchange")
async def exchange(body: ExchangeRequest, context: InContext, response: Response) -> Exchanged:
    """The token that stands for a key, by the key's digest: the key itself stays with the gateway."""
    response.headers["Cache-Control"] = "no-store"
    return await context.api_keys.exchange(body.digest)
