"""Real operator processes: `python -m chatbot_operator` with settings of its own, watched through its probes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.operator.running import SETTINGS, WRITES
from tests.support.apiserver import ApiServer, wait_for
from tests.support.serving import free_port


@dataclass
class Operator:
    """One process, in a pod of the given name."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self, path: str) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return httpx2.get(self.url + path, timeout=5).is_success
        assert self.process.poll() is None, self.said()
        return False

    def wait_ready(self) -> None:
        wait_for(f"{self.name} to be ready", lambda: self.answers("/readyz"), 30)

    def leads(self) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return self.metric("chatbot_operator_leader") == 1
        return False

    def metric(self, name: str, **labels: str) -> float:
        """Sum over the samples that have these labels; 0 when there is none."""
        text = httpx2.get(f"{self.url}/metrics", timeout=5).text.replace("# EOF", "")
        samples = [item for family in text_string_to_metric_families(text) for item in family.samples]
        return sum(item.value for item in samples if item.name == name and labels.items() <= item.labels.items())

    def writes(self) -> float:
        """Requests that change something; renewing the Lease is a PUT, and nothing else is."""
        counted = (verb for verb in WRITES if verb != "put")
        return sum(self.metric("chatbot_operator_api_requests_total", verb=verb) for verb in counted)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def lines(self) -> list[dict[str, Any]]:
        whole = self.said().rpartition("\n")[0]  # the last line may be half written
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def patient(namespace: str) -> dict[str, Any]:
    """A Lease that is not lost while other tests keep the processors for seconds: for processes that outlive a test."""
    return {"namespace": namespace, "duration": 60}


@contextlib.contextmanager
def operator(
    server: ApiServer,
    folder: Path,
    namespace: str,
    name: str = "operator-0",
    command: Sequence[str | Path] = ("-m", "chatbot_operator"),
    kubeconfig: Path | None = None,
    **settings: Any,
) -> Iterator[Operator]:
    """A started process; killed at the end of the block if it still runs. It watches and elects in `namespace`."""
    port = free_port()
    told = SETTINGS.model_dump(mode="json") | {
        "lease": {"namespace": namespace},
        "watch_namespaces": [namespace],
        "probe_port": port,
        **settings,
    }
    file = folder / f"{name}.json"
    file.write_text(json.dumps(told), encoding="utf-8")
    environment = {
        **os.environ,
        "CHATBOT_OPERATOR_SETTINGS": str(file),
        "KUBECONFIG": str(kubeconfig or server.kubeconfig),
        "POD_NAME": name,
    }
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, *map(str, command)], env=environment, stdout=output, stderr=output
        )
    started = Operator(name, process, log, port)
    try:
        yield started
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def as_account(server: ApiServer, token: str, folder: Path) -> Path:
    """A kubeconfig with what a ServiceAccount's pod would have."""
    told = yaml.safe_load(server.kubeconfig.read_text(encoding="utf-8"))
    told["users"][0]["user"] = {"token": token}
    file = folder / "account.kubeconfig"
    file.write_text(yaml.safe_dump(told), encoding="utf-8")
    return file
