"""What a client is told when something fails."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx2
import pytest
from chatbot_common.errors import NotFound, Unavailable, add_error_handlers
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel, ConfigDict, Field


class Credentials(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    email: str
    password: str


class Message(BaseModel):
    content: str


class Asked(BaseModel):
    messages: list[Message] = Field(default_factory=list)
    stop: str | Annotated[list[str], Field(max_length=2)] | None = None


app = FastAPI()
add_error_handlers(app)


@app.get("/missing")
@app.get("/v1/missing")
async def missing() -> None:
    raise NotFound("No conversation has this id.")


@app.get("/v1/away")
async def away() -> None:
    raise Unavailable


@app.get("/crash")
@app.get("/v1/crash")
async def crash() -> None:
    raise RuntimeError("postgresql://someone:hunter22@db")


@app.post("/login")
@app.post("/v1/login")
async def login(body: Credentials) -> None:
    raise AssertionError("the body was accepted")


@app.post("/ask")
@app.post("/v1/ask")
async def ask(body: Asked) -> None:
    raise AssertionError("the body was accepted")


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


class TestNative:
    async def test_problem(self, client: httpx2.AsyncClient) -> None:
        response = await client.get("/missing")

        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json() == {
            "type": "urn:chatbot:problem:not-found",
            "title": "There is no such thing",
            "status": 404,
            "detail": "No conversation has this id.",
        }

    async def test_unknown_route(self, client: httpx2.AsyncClient) -> None:
        response = await client.get("/nowhere")

        assert response.headers["content-type"] == "application/problem+json"
        assert (response.json()["type"], response.json()["status"]) == ("urn:chatbot:problem:not-found", 404)

    async def test_wrong_method(self, client: httpx2.AsyncClient) -> None:
        response = await client.post("/missing")

        assert (response.status_code, response.headers["allow"]) == (405, "GET")
        assert response.json()["type"] == "urn:chatbot:problem:method-not-allowed"

    async def test_crash_tells_nothing(self, client: httpx2.AsyncClient) -> None:
        response = await client.get("/crash")

        assert response.status_code == 500
        assert response.json() == {
            "type": "urn:chatbot:problem:internal",
            "title": "Something went wrong on our side",
            "status": 500,
        }

    async def test_malformed_json(self, client: httpx2.AsyncClient) -> None:
        headers = {"Content-Type": "application/json"}

        response = await client.post("/login", content=b'{"password": "hunter22"', headers=headers)

        assert (response.status_code, response.json()["type"]) == (400, "urn:chatbot:problem:malformed-body")
        assert "hunter22" not in response.text

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"email": "ada", "password": {"value": "hunter22"}}, "/password"),
            ({"email": "ada", "password": ["hunter22"]}, "/password"),
            ({"email": "ada", "password": "x", "pasword": "hunter22"}, "/pasword"),
            ({"password": "hunter22"}, "/email"),
            ("hunter22", "/"),
        ],
    )
    async def test_validation_names_the_place_and_never_the_value(
        self, client: httpx2.AsyncClient, body: object, pointer: str
    ) -> None:
        for path, status in (("/login", 422), ("/v1/login", 400)):
            response = await client.post(path, json=body)

            assert response.status_code == status
            assert "hunter22" not in response.text
        assert [error["pointer"] for error in (await client.post("/login", json=body)).json()["errors"]] == [pointer]

    @pytest.mark.parametrize(
        ("body", "mistake", "param"),
        [
            ({"stop": ["a", "b", "c"]}, "/stop: This is too long: at most 2.", "stop"),
            ({"stop": ["a", 1]}, "/stop/1: Input should be a valid string", "stop[1]"),
            ({"stop": 1}, "/stop: Input should be a valid string", "stop"),
            ({"messages": [{"content": "a"}, {}]}, "/messages/1/content: Field required", "messages[1].content"),
            ({"messages": "a"}, "/messages: Input should be a valid list", "messages"),
            ([], "/: Input should be a valid dictionary or object to extract fields from", None),
        ],
    )
    async def test_a_field_of_several_types_tells_what_was_meant(
        self, client: httpx2.AsyncClient, body: object, mistake: str, param: str | None
    ) -> None:
        assert (await client.post("/ask", json=body)).json()["detail"] == mistake
        assert (await client.post("/v1/ask", json=body)).json()["error"]["param"] == param


class TestOpenAI:
    async def test_problem(self, client: httpx2.AsyncClient) -> None:
        response = await client.get("/v1/missing")

        assert (response.status_code, response.headers["content-type"]) == (404, "application/json")
        assert response.json() == {
            "error": {
                "message": "No conversation has this id.",
                "type": "invalid_request_error",
                "param": None,
                "code": "not_found",
            }
        }

    async def test_server_error(self, client: httpx2.AsyncClient) -> None:
        for path, status in (("/v1/away", 503), ("/v1/crash", 500)):
            response = await client.get(path)

            assert response.status_code == status
            assert response.json()["error"]["type"] == "server_error"
            assert response.headers.get("retry-after") == ("1" if status == 503 else None)

    async def test_validation(self, client: httpx2.AsyncClient) -> None:
        response = await client.post("/v1/login", json={"email": "ada"})

        assert response.json()["error"]["param"] == "password"


class TestTraceId:
    async def test_is_told_inside_a_trace(self, client: httpx2.AsyncClient) -> None:
        with TracerProvider().get_tracer("test").start_as_current_span("request") as span:
            body = (await client.get("/missing")).json()

        assert body["trace_id"] == f"{span.get_span_context().trace_id:032x}"
