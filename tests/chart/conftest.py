"""One helm for all tests of the chart, and an API server that has nothing of ours in it."""

from collections.abc import Iterator

import pytest

from tests.chart.helm import Helm, find_helm
from tests.support import optional_apis
from tests.support.apiserver import ApiServer
from tests.support.sharing import lone_api_server


@pytest.fixture(scope="session")
def helm() -> Helm:
    return find_helm()


@pytest.fixture(scope="module")
def empty_server() -> Iterator[ApiServer]:
    """With the Prometheus operator's definitions, without ours; it writes down what ServiceAccounts do."""
    with lone_api_server(empty=True) as server:
        optional_apis.install(server, optional_apis.MONITORING)
        yield server
