"""Who is calling: users by auth's keys, services by their own."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import jwt
import pytest
from chatbot_common import identity as module
from chatbot_common.app import Probes, create_service
from chatbot_common.errors import Unauthenticated, Unavailable
from chatbot_common.identity import (
    AskingUser,
    CurrentAdmin,
    CurrentUser,
    Identity,
    ServiceIdentity,
    UserVerifier,
    calling_service,
)
from chatbot_common.ids import uuid7
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import APIRouter, Depends

from tests.support.identity import BOT, Keys

router = APIRouter()


@router.get("/me")
async def me(user: CurrentUser) -> dict[str, str]:
    return {"id": str(user.id), "role": user.role}


@router.get("/models")
async def models(user: AskingUser) -> dict[str, str]:
    return {"key": str(user.key and user.key.id)}


@router.get("/admin")
async def admin(user: CurrentAdmin) -> dict[str, str]:
    return {"id": str(user.id)}


@router.get("/internal")
async def internal(caller: str = Depends(calling_service("gateway", "operator"))) -> dict[str, str]:
    return {"caller": caller}


class Published:
    """A key set that counts its readers."""

    def __init__(self, *pairs: tuple[str, Keys]) -> None:
        self.keys = dict(pairs)
        self.reads = 0
        self.reachable = True

    async def fetch(self) -> dict[str, Any]:
        self.reads += 1
        await asyncio.sleep(0)
        if not self.reachable:
            raise OSError("auth is away")
        return {
            "keys": [
                {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": keys.user.public_text}
                for kid, keys in self.keys.items()
            ]
        }

    def verifier(self) -> UserVerifier:
        return UserVerifier(self.fetch, BOT, BOT)


def service(name: str, keys: Keys) -> ServiceIdentity:
    return ServiceIdentity(name, keys.services[name].private_text, keys.public)


def renamed(token: str, keys: Keys, kid: str) -> str:
    """The same claims, signed under another key id."""
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, keys.user.private, algorithm="EdDSA", headers={"kid": kid})


@pytest.fixture
async def client(keys: Keys) -> AsyncIterator[httpx2.AsyncClient]:
    who = Identity(Published(("k1", keys)).verifier(), service("chat", keys))
    app = create_service("chat", identity=who, probes=Probes(), routers=[router])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as client:
        yield client


class TestUser:
    async def test_signed_in(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        user_id = uuid7()

        response = await client.get("/me", headers=keys.bearer(user_id))

        assert response.json() == {"id": str(user_id), "role": "user"}

    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer a.b.c", "Bearer \xff"])
    async def test_no_token(self, client: httpx2.AsyncClient, header: str | None) -> None:
        headers = {} if header is None else {b"Authorization": header.encode("latin-1")}

        response = await client.get("/me", headers=headers)

        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")

    @pytest.mark.parametrize(
        "claims",
        [
            {"exp": int(time.time()) - 1},
            {"aud": "another-bot"},
            {"iss": "another-issuer"},
            {"type": "refresh"},
            {"type": "service"},
            {"role": "root"},
            {"sub": "not-a-uuid"},
            {"sid": None},
        ],
    )
    async def test_wrong_claims(self, client: httpx2.AsyncClient, keys: Keys, claims: dict[str, Any]) -> None:
        token = keys.access_token(**claims)

        response = await client.get("/me", headers={"Authorization": f"Bearer {token}"})

        assert response.status_code == 401
        assert token not in response.text

    async def test_missing_claim(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        claims = jwt.decode(keys.access_token(), options={"verify_signature": False})
        for name in claims:
            rest = {key: value for key, value in claims.items() if key != name}
            token = jwt.encode(rest, keys.user.private, algorithm="EdDSA", headers={"kid": "k1"})

            assert (await client.get("/me", headers={"Authorization": f"Bearer {token}"})).status_code == 401, name

    async def test_forged(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        claims = jwt.decode(keys.access_token(), options={"verify_signature": False})
        forged = [
            Keys().access_token(),
            jwt.encode(claims, "", algorithm="none", headers={"kid": "k1"}),
            # The public key as an HMAC secret: the classic confusion of algorithms.
            jwt.encode(claims, keys.user.public_text.ljust(64), algorithm="HS256", headers={"kid": "k1"}),
        ]

        for token in forged:
            assert (await client.get("/me", headers={"Authorization": f"Bearer {token}"})).status_code == 401

    async def test_signature_of_a_verified_token_removed(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        token = keys.access_token()
        assert (await client.get("/me", headers={"Authorization": f"Bearer {token}"})).status_code == 200

        cut = token.rpartition(".")[0] + "."

        assert (await client.get("/me", headers={"Authorization": f"Bearer {cut}"})).status_code == 401

    async def test_verified_token_expires_all_the_same(self, keys: Keys) -> None:
        verifier = Published(("k1", keys)).verifier()
        token = keys.access_token(exp=int(time.time()) + 1)
        await verifier.verify(token)

        await asyncio.sleep(2)

        with pytest.raises(Unauthenticated, match="expired"):
            await verifier.verify(token)


class TestApiKey:
    async def test_passes_where_its_scope_is_named(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        ada, key = uuid7(), uuid7()
        asking = {"Authorization": f"Bearer {keys.key_token(ada, key)}"}
        assert (await client.get("/models", headers=asking)).json() == {"key": str(key)}
        assert (await client.get("/models", headers=keys.bearer(ada))).json() == {"key": "None"}

    @pytest.mark.parametrize(("path", "scope"), [("/me", "chat"), ("/models", "conversations"), ("/models", "")])
    async def test_passes_nowhere_else(self, client: httpx2.AsyncClient, keys: Keys, path: str, scope: str) -> None:
        headers = {"Authorization": f"Bearer {keys.key_token(uuid7(), scope=scope)}"}
        assert (await client.get(path, headers=headers)).status_code == 403

    async def test_is_never_an_administrator(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        key = {"type": "key", "key_id": str(uuid7()), "key_name": "ci", "scope": "chat conversations"}
        headers = {"Authorization": f"Bearer {keys.access_token(role='admin', **key)}"}
        assert (await client.get("/admin", headers=headers)).status_code == 403

    @pytest.mark.parametrize("claims", [{"key_id": "one"}, {"role": "owner"}, {"type": "access", "sid": None}])
    async def test_wrong_claims(self, client: httpx2.AsyncClient, keys: Keys, claims: dict[str, Any]) -> None:
        key = {"type": "key", "key_id": str(uuid7()), "key_name": "ci", "scope": "chat"}
        headers = {"Authorization": f"Bearer {keys.access_token(**key | claims)}"}
        assert (await client.get("/models", headers=headers)).status_code == 401


class TestAdmin:
    async def test_administrator(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        assert (await client.get("/admin", headers=keys.bearer(role="admin"))).status_code == 200

    async def test_user(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        assert (await client.get("/admin", headers=keys.bearer())).status_code == 403

    async def test_nobody(self, client: httpx2.AsyncClient) -> None:
        assert (await client.get("/admin")).status_code == 401


class TestKeys:
    async def test_unknown_key_ids_cause_one_request(self, keys: Keys) -> None:
        published = Published(("k1", keys))
        verifier = published.verifier()
        await verifier.verify(keys.access_token())

        for number in range(5):
            with pytest.raises(Unauthenticated, match="unknown key"):
                await verifier.verify(renamed(keys.access_token(), keys, f"made-up-{number}"))

        assert published.reads == 1

    async def test_many_at_once_cause_one_request(self, keys: Keys) -> None:
        published = Published(("k1", keys))
        verifier = published.verifier()

        await asyncio.gather(*(verifier.verify(keys.access_token()) for _ in range(10)))

        assert published.reads == 1

    async def test_new_key_is_found(self, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "JWKS_REFETCH_SECONDS", 0.05)
        published, successor = Published(("k1", keys)), Keys()
        verifier = published.verifier()
        await verifier.verify(keys.access_token())
        published.keys["k2"] = successor

        await asyncio.sleep(0.06)
        await verifier.verify(renamed(successor.access_token(), successor, "k2"))

        assert published.reads == 2

    async def test_known_keys_outlive_auth(self, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "JWKS_REFETCH_SECONDS", 0.05)
        published = Published(("k1", keys))
        verifier = published.verifier()
        await verifier.verify(keys.access_token())
        published.reachable = False
        await asyncio.sleep(0.06)

        for number in range(3):
            with pytest.raises(Unavailable, match="cannot be read"):  # who knows whether it is a new one
                await verifier.verify(renamed(keys.access_token(), keys, f"made-up-{number}"))

        assert published.reads == 2
        await verifier.verify(keys.access_token())

    async def test_new_key_is_found_as_soon_as_auth_is_back(self, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "JWKS_REFETCH_SECONDS", 0.05)
        published, successor = Published(("k1", keys)), Keys()
        verifier = published.verifier()
        await verifier.verify(keys.access_token())
        monkeypatch.setattr(module, "JWKS_REFETCH_SECONDS", 30)
        monkeypatch.setattr(module, "JWKS_RETRY_SECONDS", 0.05)
        published.keys["k2"], published.reachable = successor, False
        token = renamed(successor.access_token(), successor, "k2")
        await asyncio.sleep(0.06)
        with pytest.raises(Unavailable):
            await verifier.verify(token)

        published.reachable = True
        await asyncio.sleep(0.06)
        await verifier.verify(token)

        with pytest.raises(Unauthenticated, match="unknown key"):
            await verifier.verify(renamed(keys.access_token(), keys, "made-up"))

    async def test_before_auth_is_there(self, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "JWKS_RETRY_SECONDS", 0.05)
        published = Published(("k1", keys))
        published.reachable = False
        verifier = published.verifier()

        for _ in range(3):
            with pytest.raises(Unavailable):
                await verifier.verify(keys.access_token())
        assert published.reads == 1

        published.reachable = True
        await asyncio.sleep(0.06)
        await verifier.verify(keys.access_token())


class TestService:
    async def test_caller(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        token = service("gateway", keys).token("chat")

        response = await client.get("/internal", headers={"X-Service-Authorization": f"Bearer {token}"})

        assert response.json() == {"caller": "gateway"}

    async def test_signs_anew_for_each_callee_and_after_a_while(
        self, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gateway = service("gateway", keys)
        first = gateway.token("chat")
        assert gateway.token("chat") == first
        assert gateway.token("auth") != first

        later = time.time() + module.SERVICE_TOKEN_REUSED_SECONDS + 1
        monkeypatch.setattr(module.time, "time", lambda: later)
        assert gateway.token("chat") != first

    async def test_wrong_audience(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        headers = keys.service_headers("gateway", "conversation")

        assert (await client.get("/internal", headers=headers)).status_code == 401

    async def test_not_among_the_allowed(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        assert (await client.get("/internal", headers=keys.service_headers("auth", "chat"))).status_code == 403

    async def test_signed_by_another_service(self, keys: Keys) -> None:
        impostor = ServiceIdentity("gateway", keys.services["auth"].private_text, keys.public)

        with pytest.raises(Unauthenticated):
            service("chat", keys).verify(impostor.token("chat"))

    async def test_unknown_service(self, keys: Keys) -> None:
        with pytest.raises(Unauthenticated):
            service("chat", keys).verify(Keys(services=keys.services | {"x": keys.user}).service_token("x", "chat"))

    @pytest.mark.parametrize("claims", [{"exp": 1}, {"type": "access"}, {"iss": ["gateway"]}, {"aud": None}])
    async def test_wrong_claims(self, keys: Keys, claims: dict[str, Any]) -> None:
        now = int(time.time())
        good = {"iss": "gateway", "aud": "chat", "iat": now, "exp": now + 60, "type": "service"}
        key: Ed25519PrivateKey = keys.services["gateway"].private
        assert service("chat", keys).verify(jwt.encode(good, key, algorithm="EdDSA")) == "gateway"

        with pytest.raises(Unauthenticated):
            service("chat", keys).verify(_signed(good | claims, key))

    async def test_users_token_is_none(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        headers = {"X-Service-Authorization": f"Bearer {keys.access_token(role='admin')}"}

        assert (await client.get("/internal", headers=headers)).status_code == 401

    async def test_services_token_is_no_users(self, client: httpx2.AsyncClient, keys: Keys) -> None:
        headers = {"Authorization": f"Bearer {keys.service_token('gateway', 'chat')}"}

        assert (await client.get("/me", headers=headers)).status_code == 401


def _signed(claims: dict[str, Any], key: Ed25519PrivateKey) -> str:
    """Also what PyJWT refuses to write."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), key, algorithm="EdDSA")
