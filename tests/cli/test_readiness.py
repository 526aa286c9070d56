"""What `up` waits for, and what it goes on without, as a gateway tells it over HTTP."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from chatbot_cli import readiness
from chatbot_cli.errors import CliError

Health = dict[str, dict[str, Any]]
Serve = Callable[[Health], int]


@pytest.fixture
def gateway() -> Iterator[Serve]:
    """Serves what it is given; returns its port."""
    told: Health = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if all(one["status"] == "ok" for one in told.values()) else 503)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"status": "any", "services": told}).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    def serve(health: Health) -> int:
        told.update(health)
        return server.server_port

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield serve
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "SETTLING_SECONDS", 0.1)
    monkeypatch.setattr(readiness, "HEALTHY_SECONDS", 0.5)


def health(status: str, **checks: str) -> dict[str, Any]:
    return {"status": status, "checks": checks}


def wait(port: int) -> dict[str, str]:
    return readiness.wait_healthy(port, lambda _: None)


class TestHealthy:
    def test_all_of_it(self, gateway: Serve) -> None:
        assert wait(gateway({"gateway": health("ok", redis="ok"), "chat": health("ok", tools="ok")})) == {}

    def test_without_tools_and_providers(self, gateway: Serve) -> None:
        chat = health("degraded", tools="ToolMissing", providers="TimeoutError", redis="ok")
        lacking = wait(gateway({"gateway": health("ok"), "chat": chat}))
        assert lacking == {"chat": "tools (ToolMissing), providers (TimeoutError)"}

    @pytest.mark.parametrize(
        "bad",
        [
            health("degraded", database="TimeoutError"),
            health("degraded", conversation="ConnectError", tools="ToolMissing"),
            health("unreachable"),
            health("failing"),
        ],
        ids=["database", "another service", "unreachable", "failing"],
    )
    def test_not_without_what_was_started_here(self, gateway: Serve, bad: dict[str, Any]) -> None:
        with pytest.raises(CliError, match="not everything answers: chat"):
            wait(gateway({"gateway": health("ok"), "chat": bad}))

    def test_nobody_there(self, gateway: Serve) -> None:
        with pytest.raises(CliError, match="no answer at all"):
            wait(gateway({}))
