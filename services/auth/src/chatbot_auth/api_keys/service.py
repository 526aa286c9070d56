"""Making API keys, revoking them, and telling the gateway whom one stands for."""

import time
from dataclasses import dataclass
from uuid import UUID

import structlog
from chatbot_common.database import Database
from chatbot_common.errors import NotFound, Unauthenticated
from chatbot_common.identity import User

from chatbot_auth.api_keys import store
from chatbot_auth.api_keys.schema import Exchanged, Key, KeyBudget, KeyList, NewKey, NewKeyRequest, amount, micros
from chatbot_auth.errors import KeyNameTaken, TooManyKeys
from chatbot_auth.opaque import digest, new_token
from chatbot_auth.sessions import store as sessions
from chatbot_auth.sessions.keys import SigningKeys
from chatbot_auth.tables import ApiKey

log = structlog.get_logger(__name__)

PREFIX = "sk-"
SHOWN = len(PREFIX) + 8
"""Characters by which a key is told from others; the rest of it has 208 random bits still."""
PER_USER = 20


@dataclass(frozen=True, slots=True)
class ApiKeys:
    database: Database
    signing: SigningKeys

    async def of_user(self, user: User) -> KeyList:
        async with self.database.objects(readonly=True) as session:
            keys = [_view(row) for row in await store.of_user(session, user.id)]
        first, last = (keys[0].id, keys[-1].id) if keys else (None, None)
        return KeyList(data=keys, first_id=first, last_id=last)

    async def create(self, user: User, request: NewKeyRequest) -> NewKey:
        """A session that has ended makes none: its access token lives on for minutes, and a key may live for ever.

        Raises:
            Unauthenticated: the account is gone or disabled, or the session has ended.
            TooManyKeys, KeyNameTaken
        """
        secret = PREFIX + new_token()
        row = _row(user.id, request, secret)
        async with self.database.objects() as session:
            if await store.lock_owner(session, user.id) is None:
                raise Unauthenticated("This account does not exist any more.")
            # After the lock, so that it sees what whoever held the account until now has ended.
            if not await sessions.is_live(session, user.session_id):
                raise Unauthenticated("You are signed out; sign in again.")
            await store.revoke_expired(session, user.id)  # they hold neither a name nor a place
            held = await store.of_user(session, user.id)
            if len(held) >= PER_USER:
                raise TooManyKeys(f"You have {PER_USER} API keys; revoke one before you make another.")
            if request.name.lower() in (key.name.lower() for key in held):
                raise KeyNameTaken
            await store.add(session, row)
        log.info("api key created", user_id=str(user.id), key_id=str(row.id), scopes=row.scopes)
        return NewKey(**_view(row).model_dump(), key=secret)

    async def revoke(self, user: User, key_id: UUID) -> None:
        """Raises `NotFound`, also for somebody else's."""
        async with self.database.objects() as session:
            if not await store.revoke(session, user.id, key_id):
                raise NotFound("There is no such API key.")
        log.info("api key revoked", user_id=str(user.id), key_id=str(key_id))

    async def exchange(self, key_hash: str) -> Exchanged:
        """A token for the owner of the key with this digest, which ends with the key at the latest."""
        async with self.database.objects() as session:
            live = await store.live(session, bytes.fromhex(key_hash))
            if live is None:
                return Exchanged(access_token=None)
            if live.stale:
                await store.note_use(session, live.key.id)
        expires_at = int(time.time()) + self.signing.seconds
        if live.key.expires_at is not None:
            expires_at = min(expires_at, int(live.key.expires_at.timestamp()))
        return Exchanged(access_token=self.signing.key_token(live.account, live.key, expires_at), expires_at=expires_at)


def _row(user_id: UUID, request: NewKeyRequest, secret: str) -> ApiKey:
    budget = request.budget
    return ApiKey(
        user_id=user_id,
        name=request.name,
        prefix=secret[:SHOWN],
        key_hash=digest(secret),
        scopes=sorted(set(request.scopes)),
        expires_at=request.expires_at,
        tokens_per_day=budget.tokens_per_day,
        tokens_per_month=budget.tokens_per_month,
        cost_per_day=micros(budget.cost_per_day),
        cost_per_month=micros(budget.cost_per_month),
    )


def _view(row: ApiKey) -> Key:
    budget = KeyBudget(
        tokens_per_day=row.tokens_per_day,
        tokens_per_month=row.tokens_per_month,
        cost_per_day=amount(row.cost_per_day),
        cost_per_month=amount(row.cost_per_month),
    )
    told = {name: getattr(row, name) for name in Key.model_fields if name != "budget"}
    return Key.model_validate(told | {"budget": budget})
