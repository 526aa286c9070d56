"""What people do with a bot on a cluster."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chatbot_common.ids import uuid7

from tests.e2e.cluster.cluster import Cluster
from tests.e2e.cluster.conftest import Platform

QUESTION = "When is Harbour Coworking open?"
EMAIL = "ada@example.com"
PASSWORD = "correct horse battery"


@contextmanager
def serving(cluster: Cluster, namespace: str, name: str) -> Iterator[Platform]:
    with cluster.forward(namespace, f"svc/{name}-gateway", 80) as port:
        yield Platform(cluster, f"http://127.0.0.1:{port}")


def sign_in(platform: Platform) -> str:
    """Access token of Ada, whose account is made by whoever comes first."""
    body = {"email": EMAIL, "password": PASSWORD}
    with platform.client() as client:
        response = client.post("/api/v1/auth/register", json=body)
        if response.status_code == 201:
            token: str = response.json()["access_token"]
            return token
    return log_in(platform)


def log_in(platform: Platform) -> str:
    """Access token of Ada, whose account must be there."""
    with platform.client() as client:
        response = client.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD})
        assert response.status_code == 200, response.text
        token: str = response.json()["access_token"]
        return token


def ask(platform: Platform, token: str, **headers: str) -> list[dict[str, Any]]:
    """Events of one streamed turn."""
    body = {"content": QUESTION, "client_message_id": uuid7().hex}
    told = {"Accept": "text/event-stream"} | headers
    with platform.client(token) as client, client.stream("POST", "/api/v1/chat/send", json=body, headers=told) as got:
        assert got.status_code == 200, got.read()
        assert got.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[5:]) for line in got.iter_lines() if line.startswith("data:")]


def read(platform: Platform, token: str, conversation: str) -> list[str]:
    """What was said in it, in order."""
    with platform.client(token) as client:
        response = client.get(f"/api/v1/conversations/{conversation}/messages")
        assert response.status_code == 200, response.text
        return [message["text"] for message in response.json()["data"]]
