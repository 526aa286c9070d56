"""What the tests of the operator's input and output share: a way to a real API server, and no log on the screen."""

from collections.abc import AsyncIterator, Iterator

import pytest
from chatbot_operator.cluster import Cluster
from chatbot_operator.connection import KUBECONFIG, api_client, configuration
from chatbot_operator.metrics import Metrics
from structlog.testing import capture_logs

from tests.operator.running import World
from tests.support.apiserver import ApiServer


@pytest.fixture(autouse=True)
def logged() -> "Iterator[list[dict[str, object]]]":
    """What was logged during the test."""
    with capture_logs() as lines:
        yield lines  # type: ignore[misc]


@pytest.fixture
async def world(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A fresh namespace of a real API server, and our own client of it."""
    monkeypatch.setenv(KUBECONFIG, str(api_server.kubeconfig))
    metrics = Metrics("0.1.0")
    async with api_client(await configuration(), metrics) as client:
        yield World(api_server, api_server.namespace(), Cluster(client), metrics)
