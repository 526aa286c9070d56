"""Fixtures every test may use. Stores are real; nothing but loopback can be reached."""

import atexit
import faulthandler
import gc
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
from hypothesis import HealthCheck, settings

from tests.support.apiserver import ApiServer
from tests.support.identity import Keys
from tests.support.serving import in_thread
from tests.support.sharing import FOLDER, begin, lone_api_server, shared_api_server
from tests.support.stores import Postgres, running_postgres, running_valkey
from tests.support.weaviate import Weaviate, running_weaviate

END = "-----END CERTIFICATE-----\n"
TESTS = Path(__file__).parent
LONGEST = """
operator/test_process cli/test_up e2e/test_laptop operator/test_keda chart/test_least_privilege
e2e/test_metrics common/test_copying cli/cluster/test_plan operator/test_modes contract/test_key_rotation
conversation/test_vectors operator/test_bad_input chart/test_install operator/test_apis chat/test_surviving
conversation/test_knowledge operator/test_failover operator/test_rollback cli/cluster/test_restart
auth/test_process operator/test_namespaces common/test_redis operator/test_watches chat/test_send
conversation/test_worker images/test_postgres operator/test_credentials operator/test_plan
"""
"""Files of half a minute and more, the longest first: all others fill what is left at the end of a run."""

ENDING = 300.0
"""Seconds in which a test, and what it shared with others, ends."""


def trust_hardly_anybody() -> None:
    """Only loopback is reached, and each HTTP client reads all authorities that it may trust when it is made. With one
    of them instead of all, tests of services need a third less time; what they start inherits it."""
    with tempfile.NamedTemporaryFile("w", prefix="chatbot-ca-", suffix=".pem", delete=False) as file:
        file.write(certifi.contents().split(END, 1)[0] + END)
    atexit.register(os.unlink, file.name)
    os.environ["SSL_CERT_FILE"] = file.name


trust_hardly_anybody()


# Threads of linear algebra wait by looking again and again, in every worker and service: on two cores that is time of
# those who have work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


# How long an example takes says nothing here: tests run beside each other, and the host beside all of them.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_configure(config: pytest.Config) -> None:
    # A shell that runs this in its background has Ctrl-C ignored, and so would all be whom tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if FOLDER not in os.environ:
        config.add_cleanup(begin())
    # Until all modules are imported there is nothing to collect, and afterwards they stay.
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers take files in this order."""
    ranks = {TESTS / f"{name}.py": rank for rank, name in enumerate(LONGEST.split())}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """What ends a test has no timeout: where it hangs, the worker is ended, and says where it was."""
    faulthandler.dump_traceback_later(ENDING, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with running_valkey() as url:
        yield url


@pytest.fixture(scope="session")
def weaviate() -> Iterator[Weaviate]:
    """Skipped where it was never built, see `make cluster-build`."""
    with running_weaviate() as server:
        yield server


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """The one of all workers. Skipped where it was never built, see `make cluster-build`."""
    with shared_api_server() as server:
        yield server


@pytest.fixture(scope="module")
def own_api_server() -> Iterator[ApiServer]:
    """Of this file alone, for tests that change what kinds there are; they leave it as it was."""
    with lone_api_server() as server:
        yield server


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys()


@pytest.fixture(scope="session")
def auth_url(keys: Keys) -> Iterator[str]:
    """Base URL of something that serves the public keys of `keys`, as auth does."""
    with in_thread(keys.jwks_app()) as url:
        yield url


@pytest.fixture(autouse=True)
def no_outside_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that would reach a real provider fails instead of spending money."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
