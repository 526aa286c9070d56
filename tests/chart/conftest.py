"""One helm for all tests of the chart."""

import pytest

from tests.chart.helm import Helm, find_helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    return find_helm()
