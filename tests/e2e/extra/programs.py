"""Others' controllers, as processes beside a bare API server, built by `make e2e-extra`; asked until they answer."""

import contextlib
import os
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx2
import pytest
from localcluster.paths import home

from tests.support.apiserver import ApiServer, wait_for


@contextlib.contextmanager
def running(
    server: ApiServer,
    name: str,
    arguments: Sequence[str],
    folder: Path,
    healthy: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Path]:
    """File of its log, from when it is healthy until the block ends.

    Skips the test where the program was never built; fails it when CHATBOT_REQUIRE_CLUSTER is set.

    Args:
        folder: where it runs, and logs.
        healthy: URL that answers with success when it is; its certificate is not looked at.
        environment: besides ours and the way to the API server.
    """
    log = folder / f"{name}.log"
    told = {**os.environ, "KUBECONFIG": str(server.kubeconfig), **(environment or {})}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own build
            [program(name), *arguments], cwd=folder, env=told, stdout=output, stderr=output
        )
    try:
        wait_for(name, _answers(process, healthy, log), 60)
        yield log
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def program(name: str) -> Path:
    found = home() / "bin" / name
    if not found.exists():
        reason = f"needs a real {name}: it is not in {found.parent}, `make e2e-extra` builds it"
        pytest.fail(reason) if os.environ.get("CHATBOT_REQUIRE_CLUSTER") else pytest.skip(reason)
    return found


def _answers(process: "subprocess.Popen[bytes]", url: str, log: Path) -> Callable[[], bool]:
    def look() -> bool:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(url, verify=_trusting()).is_success
        return False

    return look


def _trusting() -> ssl.SSLContext:
    """Whatever certificate comes: it is made by who is asked, and nothing is told to it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
