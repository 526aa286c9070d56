"""What an API server asks others before it writes: the projects' own configurations, led to a process beside it."""

import contextlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.support.apiserver import ApiServer, path


@contextlib.contextmanager
def asked(server: ApiServer, file: Path, port: int, authority: Path) -> Iterator[None]:
    """While the block runs, and nothing is written without an answer.

    Args:
        file: the configurations, with a Service where we have a port of loopback.
        authority: whose certificate it is that is spoken with there.
    """
    bundle = b64encode(authority.read_bytes()).decode()
    made = [item for item in yaml.safe_load_all(file.read_text(encoding="utf-8")) if item]
    for item in made:
        for hook in item["webhooks"]:
            where = hook["clientConfig"]["service"]["path"]
            hook["clientConfig"] = {"url": f"https://127.0.0.1:{port}{where}", "caBundle": bundle}
            hook["failurePolicy"] = "Fail"
        server.create(item)
    try:
        yield
    finally:
        for item in made:
            server.request("DELETE", path(item["kind"], name=item["metadata"]["name"]))
