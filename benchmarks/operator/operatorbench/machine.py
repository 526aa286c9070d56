"""What runs during a measurement: etcd, API server, played controllers or kubelets, and the real operator process."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml
from localcluster import control_plane, processes
from localcluster.paths import Layout, home, node_ip
from prometheus_client.parser import text_string_to_metric_families

from operatorbench.api import APPLY, Api, connected

ROOT = Path(__file__).parents[3]
NAMESPACE = "chatbot-operator"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
PREFIX = "chatbot_operator_"
WRITES = ("post", "patch", "delete")
"""PUT renews the Lease, and nothing else is written by it."""
MB = 1 << 20
START_SECONDS = 60


class Failed(Exception):
    """The measurement cannot go on; its text says why."""


@dataclass(frozen=True)
class Machine:
    layout: Layout
    api: Api

    def server_cpu(self) -> float:
        """CPU seconds that the API server and etcd have taken so far."""
        running = processes.alive(self.layout)
        return sum(_cpu(psutil.Process(running[name].pid)) for name in ("etcd", "kube-apiserver"))


@asynccontextmanager
async def machine(play: str) -> AsyncIterator[Machine]:
    """A fresh cluster with our definition in it, and nothing else. Ends what it started.

    Args:
        play: see players.py. With `pods` the real controllers make pods; else there are none.
    """
    programs = home() / "bin"
    if absent := [name for name in PROGRAMS if not (programs / name).exists()]:
        raise Failed(f"{', '.join(absent)} not in {programs}: build them with `make cluster-build`")
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        layout = Layout(Path(folder), programs, free_port(), free_port(), node_ip())
        try:
            control_plane.start(layout, scheduler=False)
            if play != "pods":
                processes.stop(layout, ["kube-controller-manager"])
            with _player(layout, play):
                async with connected(layout) as api:
                    await _install(api)
                    yield Machine(layout, api)
        finally:
            control_plane.stop(layout)


@contextmanager
def _player(layout: Layout, play: str) -> Iterator[None]:
    command = [sys.executable, "-m", "operatorbench.players", play, str(layout.run), str(layout.api_port)]
    paths = os.pathsep.join([str(ROOT / "benchmarks/operator"), str(ROOT / "k8s/local"), *_python_path()])
    with _started(command, layout.logs / "player.log", {"PYTHONPATH": paths}):
        yield


async def _install(api: Api) -> None:
    where = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        body = yaml.safe_load(file.read_text(encoding="utf-8"))
        path = f"{where}/{body['metadata']['name']}?fieldManager=bench&force=true"
        await api.request("PATCH", path, body, APPLY)
    async with asyncio.timeout(START_SECONDS):
        while not await api.answers("/apis/chatbot-operator.io/v1alpha1/chatbotdeployments"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await api.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})


class Operator:
    """One process of it, seen through its metrics and through the kernel."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self._process = process
        self._metrics = f"http://127.0.0.1:{port}/metrics"
        self._seen = psutil.Process(process.pid)
        self._log = log
        self.started = time.monotonic()

    @property
    def cpu(self) -> float:
        """CPU seconds so far."""
        return _cpu(self._seen)

    @property
    def memory(self) -> float:
        """Resident MB."""
        return float(self._seen.memory_info().rss / MB)

    @property
    def peak_memory(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

    def runs(self) -> None:
        """Raises `Failed`, with the end of its log, when it does not."""
        if self._process.poll() is not None:
            raise Failed(f"the operator has ended:\n{self._log.read_text(encoding='utf-8')[-3000:]}")

    async def metrics(self) -> "Metrics":
        self.runs()
        try:
            async with aiohttp.ClientSession() as session, session.get(self._metrics) as response:
                return Metrics(await response.text())
        except aiohttp.ClientConnectionError:
            return Metrics("")

    async def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self._process.wait, 30)


class Metrics:
    """One scrape."""

    def __init__(self, text: str) -> None:
        families = text_string_to_metric_families(text.replace("# EOF", ""))
        self._samples = [sample for family in families for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """Over the samples that have these labels; 0 when there is none."""
        return sum(
            item.value for item in self._samples if item.name == PREFIX + name and labels.items() <= item.labels.items()
        )

    def calls(self) -> dict[str, int]:
        """Requests to the API server by verb."""
        name = f"{PREFIX}api_requests_total"
        verbs = {item.labels["verb"] for item in self._samples if item.name == name}
        return {verb: int(self.sum("api_requests_total", verb=verb)) for verb in sorted(verbs)}

    @property
    def writes(self) -> int:
        return sum(count for verb, count in self.calls().items() if verb in WRITES)


@contextmanager
def operator(layout: Layout, **settings: Any) -> Iterator[Operator]:
    """A started process with settings as in production but for those given; killed at the end if it still runs."""
    port = free_port()
    names = ("gateway", "auth", "chat", "conversation", "postgres", "redis", "weaviate")
    told = {
        "version": "0.1.0",
        "images": {name: f"chatbot-{name}:0.1.0" for name in names},
        "lease": {"namespace": NAMESPACE},
        "probe_port": port,
        **settings,
    }
    file, log = layout.run / f"operator-{port}.json", layout.logs / f"operator-{port}.log"
    file.write_text(json.dumps(told), encoding="utf-8")
    variables = {
        "CHATBOT_OPERATOR_SETTINGS": str(file),
        "KUBECONFIG": str(layout.kubeconfig),
        "POD_NAME": f"operator-{port}",
        "PYTHONPATH": os.pathsep.join(_python_path()),
    }
    with _started([sys.executable, "-m", "chatbot_operator"], log, variables) as process:
        yield Operator(process, port, log)


@contextmanager
def _started(command: list[str], log: Path, variables: dict[str, str]) -> "Iterator[subprocess.Popen[bytes]]":
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=os.environ | variables, stdout=output, stderr=output)  # noqa: S603
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def _python_path() -> list[str]:
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
