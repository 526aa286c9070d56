"""A running auth service and what tests do with it over HTTP."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import jwt
from chatbot_auth.main import create_app
from chatbot_auth.settings import Settings
from fastapi import FastAPI

from tests.support.configuration import mapping
from tests.support.identity import Keys
from tests.support.patience import within
from tests.support.serving import serving

PASSWORD = "correct horse battery"
ADMIN_EMAIL = "admin@example.com"
ADMIN_PASSWORD = "the first administrator"
ORIGIN = {"Origin": "https://bot.example.com"}

_numbers = itertools.count()


def auth_mapping(keys: Keys, database_url: str, **overrides: Any) -> dict[str, Any]:
    """Everything auth is told, secrets too."""
    secrets = {
        "database_url": database_url,
        "signing_keys": keys.signing_keys,
        "admin_password": ADMIN_PASSWORD,
    }
    return mapping("auth", keys) | secrets | overrides


def auth_settings(keys: Keys, database_url: str, **overrides: Any) -> Settings:
    return Settings.model_validate(auth_mapping(keys, database_url, **overrides))


@dataclass
class Auth:
    """One replica."""

    app: FastAPI
    client: httpx2.AsyncClient
    keys: Keys

    async def post(self, path: str, body: dict[str, Any] | None = None, **options: Any) -> httpx2.Response:
        return await self.client.post(f"/api/v1/auth/{path}", json=body, **options)

    async def register(self, **fields: Any) -> httpx2.Response:
        return await self.post("register", {"email": new_email(), "password": PASSWORD} | fields)

    async def login(self, email: str, password: str = PASSWORD, **options: Any) -> httpx2.Response:
        return await self.post("login", {"email": email, "password": password}, **options)

    async def refresh(self, token: str) -> httpx2.Response:
        return await self.post("refresh", {"refresh_token": token})

    async def me(self, access_token: str) -> httpx2.Response:
        return await self.client.get("/api/v1/users/me", headers={"Authorization": f"Bearer {access_token}"})

    async def create_user(self, access_token: str, body: dict[str, str]) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {access_token}"}
        return await self.client.post("/api/v1/admin/users", json=body, headers=headers)

    async def new_link(self, service: str = "operator") -> httpx2.Response:
        headers = self.keys.service_headers(service, "auth")
        return await self.client.post("/internal/sign-in-links", json={}, headers=headers)

    async def link(self) -> str:
        """Token of a new link, once the administrator is there."""
        async with within(10):
            while (response := await self.new_link()).status_code == 503:
                await asyncio.sleep(0.02)
        assert response.status_code == 200, response.text
        return str(response.json()["token"])


@contextlib.asynccontextmanager
async def running(keys: Keys, database_url: str, **overrides: Any) -> AsyncIterator[Auth]:
    app = create_app(auth_settings(keys, database_url, **overrides))
    async with serving(app) as url, httpx2.AsyncClient(base_url=url, timeout=20) as client:
        yield Auth(app, client, keys)


def new_email() -> str:
    return f"ada{next(_numbers)}@example.com"


def claims(access_token: str) -> dict[str, Any]:
    return jwt.decode(access_token, options={"verify_signature": False})


def problem(response: httpx2.Response, status: int, kind: str) -> dict[str, Any]:
    """The body of a problem, after checking that it is this one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:chatbot:problem:{kind}"
    return body
