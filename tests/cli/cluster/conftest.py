"""`kubectl chatbot` against a real API server, with the operator's reconcile in process and pods played."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from chatbot_cli.__main__ import run
from chatbot_cli.cluster.app import app
from chatbot_operator.process import RULES
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.referrers import Referrers

from tests.operator.conftest import logged, world  # noqa: F401 - fixtures
from tests.operator.running import BOT, LOOK_SECONDS, SETTINGS, World
from tests.support.apiserver import ApiServer, Object, playing_kubelet


@dataclass
class Said:
    code: int
    out: str
    err: str


Plugin = Callable[..., Said]
"""Runs a command in the namespace of the test."""


@pytest.fixture
def anywhere(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plugin:
    """Runs a command as a user whose kubectl is set up for the API server."""
    monkeypatch.setenv("PATH", str(api_server.layout.bin))
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    monkeypatch.setenv("GOGC", "off")  # each kubectl lives for a moment only

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        code = run(list(arguments), app)
        told = capsys.readouterr()
        return Said(code, told.out, told.err)

    return call


@pytest.fixture
def plugin(anywhere: Plugin, world: World) -> Plugin:  # noqa: F811
    return lambda *arguments: anywhere(*arguments, "-n", world.namespace)


@pytest.fixture
def reconciler(world: World) -> Reconciler:  # noqa: F811
    """The whole plan, as the operator's process has it that `Installed` tells of."""
    lease = SETTINGS.lease.model_copy(update={"namespace": world.namespace})
    return Reconciler(world.cluster, SETTINGS.model_copy(update={"lease": lease}), world.metrics, Referrers(), RULES)


@pytest.fixture
def kubelet(world: World) -> Iterator[None]:  # noqa: F811
    """Whatever is called `broken` never starts."""

    def starts(pod: Object) -> bool:
        return "broken" not in pod["spec"]["containers"][0]["image"]

    with playing_kubelet(world.api, world.namespace, starts):
        yield


@pytest.fixture
def operator(world: World) -> "Installed":  # noqa: F811
    """What the chart and a running operator leave in the cluster, for this namespace alone."""
    installed = Installed(world)
    installed.install()
    installed.renew()
    return installed


@dataclass
class Installed:
    world: World

    def install(self) -> None:
        settings = SETTINGS.model_dump(mode="json")
        settings |= {"watch_namespaces": [self.world.namespace], "lease": {"namespace": self.world.namespace}}
        labels = {"app.kubernetes.io/part-of": "chatbot-platform"}
        metadata = {"name": "chatbot-operator", "labels": labels}
        data = {"settings.json": json.dumps(settings)}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        self.world.api.create(body, self.world.namespace)

    def renew(self, ago: float = 0, holder: str = "operator-0") -> None:
        """The Lease was renewed so many seconds ago."""
        when = (datetime.now(UTC) - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": when}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "chatbot-operator"}}
        self.world.api.apply(body | {"spec": spec}, self.world.namespace)


async def converge(world: World, reconciler: Reconciler, kind: str = "Ready", status: str = "True") -> None:  # noqa: F811
    """Reconcile until a condition of the current generation says so."""
    for _ in range(200):
        await reconciler(world.key)
        bot = world.bot()
        told = bot.get("status") or {}
        found = [item["status"] for item in told.get("conditions") or [] if item["type"] == kind]
        if found == [status] and told["observedGeneration"] == bot["metadata"]["generation"]:
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise AssertionError(f"{BOT}: {kind} never became {status}: {world.bot().get('status')}")
