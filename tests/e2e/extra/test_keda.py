"""What a real KEDA makes of a bot: it takes the ScaledObject, and scales by what a real Prometheus has read.

There is no kubelet, so nobody says how much cpu a pod takes: of the triggers, cpu stays without a value.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tests.e2e.extra.beside import Beside
from tests.e2e.extra.keda import running_keda
from tests.operator.conftest import world
from tests.operator.running import BOT, World
from tests.operator.test_keda import BY_CLUSTER, BY_KEDA, CHAT, autoscalers, chat
from tests.operator.test_modes import replicas, scale
from tests.support.apiserver import ApiServer, Object, playing_kubelet
from tests.support.prometheus import running_prometheus
from tests.support.serving import free_port, in_thread

__all__ = ["world"]
pytestmark = [pytest.mark.extra, pytest.mark.timeout(900)]

STREAMS = 9
"""Per pod. KEDA looks every 30 s whether anybody asks, and the cluster's own autoscaler every 15 s how much."""


@dataclass
class Pods:
    """What they would say of themselves: an ASGI app that Prometheus scrapes."""

    streams: int = 0
    asked: int = 0

    async def __call__(self, scope: Any, _: Any, send: Callable[[Any], Any]) -> None:
        if scope["type"] != "http":
            return
        lines = {"/gateway": self._gateway(), "/chat": f"chat_runs_in_flight {self.streams}\n"}
        head = [(b"content-type", b"text/plain; version=0.0.4")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": lines[scope["path"]].encode()})

    def _gateway(self) -> str:
        asked = f'http_requests_total{{endpoint="/api/v1/chat/stream",method="POST",status="503"}} {self.asked}\n'
        return asked if self.asked else 'http_requests_total{endpoint="/",method="GET",status="200"} 7\n'


class Scaled(Beside):
    def __init__(self, world: World, pods: Pods, prometheus: str) -> None:
        super().__init__(world, frozenset({"ScaledObject"}))
        self.pods = pods
        self.prometheus = prometheus

    async def until_pods(self, count: int) -> None:
        await self.until(f"{count} pods", lambda: replicas(self.world) == count)

    def condition(self, kind: str) -> tuple[str, str]:
        """Of the ScaledObject, as KEDA sees it: status and message."""
        live = self.world.get("ScaledObject", CHAT) or {}
        found = (live.get("status") or {}).get("conditions") or []
        return next(((item["status"], item.get("message", "")) for item in found if item["type"] == kind), ("", ""))

    def told(self) -> list[Object]:
        """All that autoscalers say, our own included."""
        kinds = ("ScaledObject", "HorizontalPodAutoscaler")
        return [item.get("status", {}) for kind in kinds for item in self.world.api.list(kind, self.world.namespace)]

    def steps(self) -> list[tuple[int, int]]:
        """From how many pods to how many Deployments were brought, in no order."""
        found = self.world.api.list("Event", self.world.namespace)
        told = [item["message"] for item in found if item["involvedObject"]["kind"] == "Deployment"]
        words = [text.split() for text in told if text.startswith("Scaled") and "from" in text.split()]
        return [(int(text[text.index("from") + 1]), int(text[text.index("from") + 3])) for text in words]

    def refusal(self, body: Object) -> str:
        """Why KEDA's webhook does not take it; empty when it does."""
        try:
            self.world.api.create(body, self.world.namespace)
        except httpx2.HTTPStatusError as error:
            return str(error)
        return ""


@pytest.fixture(scope="module")
def keda(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running_keda(api_server, tmp_path_factory.mktemp("keda")):
        yield


@pytest.fixture
async def scaled(keda: None, world: World) -> AsyncIterator[Scaled]:
    pods = Pods()
    with in_thread(pods) as url:
        where = url.removeprefix("http://")
        jobs = [
            {
                "job_name": part,
                "metrics_path": f"/{part}",
                "static_configs": [
                    {
                        "targets": [where],
                        "labels": {"namespace": world.namespace, "pod": f"{BOT}-{part}-5d4f8c7b9-x2x7z"},
                    }
                ],
            }
            for part in ("gateway", "chat")
        ]
        with running_prometheus(jobs) as prometheus, playing_kubelet(world.api, world.namespace):
            yield Scaled(world, pods, str(prometheus.client.base_url).rstrip("/"))


def by_keda(**scaling: Any) -> Object:
    quiet = {"scaleDown": {"stabilizationWindowSeconds": 1}}
    return chat("KEDA", minReplicas=0, maxReplicas=5, targets={"inFlightStreams": STREAMS}, behavior=quiet, **scaling)


async def test_scales_a_bot_and_hands_it_over(scaled: Scaled) -> None:
    world, run = scaled.world, scaled.run
    telemetry = {"prometheusURL": scaled.prometheus}
    scaled.pods.streams = 3 * STREAMS
    world.create_bot({"profile": "Dev", "telemetry": telemetry, "components": chat("HPA")})
    await run.until("Ready", "True")
    scale(world, 3)
    by_hand = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "by-hand"},
        "spec": {"scaleTargetRef": {"name": CHAT}, "triggers": [{"type": "cron", "metadata": {}}]},
    }
    assert "already managed by the hpa" in scaled.refusal(by_hand)

    # It takes over the number there is, which the answers being streamed ask for, too.
    run.edit(components=by_keda())
    await scaled.until("KEDA's autoscaler", lambda: autoscalers(world) == set(BY_KEDA))
    await scaled.until("ScaledObject ready", lambda: scaled.condition("Ready")[0] == "True")
    made = world.existing("HorizontalPodAutoscaler", BY_KEDA[1].split()[1])
    assert [item["type"] for item in made["spec"]["metrics"]] == ["External", "External", "Resource"]
    assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "keda-operator"
    await scaled.until("KEDA asked", lambda: bool((scaled.told()[-1].get("currentMetrics") or [{}])[0]))
    await run.until("Ready", "True")
    await run.until("AutoscalingReady", "True")
    assert replicas(world) == 3
    await scaled.settles()

    # More of them than three pods are to have.
    scaled.pods.streams = 5 * STREAMS - 3
    await scaled.until_pods(5)
    await run.until("Ready", "True")

    # Nobody asks.
    scaled.pods.streams = 0
    await scaled.until_pods(0)
    assert (await run.until("Ready", "False", "ScaledToZero")).phase == "Idle"
    await run.until("AutoscalingReady", "True")
    await scaled.settles()

    # Somebody does, and is told to come again.
    scaled.pods.asked = 1
    await scaled.until_pods(1)
    await run.until("Ready", "True")
    scaled.pods.streams = 2 * STREAMS
    await scaled.until_pods(2)

    # The number is somebody else's: it stays.
    run.edit(components=chat("HPA"))
    await scaled.until("our autoscaler", lambda: autoscalers(world) == {BY_CLUSTER})
    await run.until("Ready", "True")
    assert replicas(world) == 2
    assert not {(3, 1), (3, 2), (2, 1)} & set(scaled.steps()), "no pod went that was wanted"

    # It becomes one that the load does not ask for.
    for number in (4, 1, 5):
        run.edit(components=by_keda())
        await scaled.until("KEDA's autoscaler again", lambda: autoscalers(world) == set(BY_KEDA))
        await scaled.until("ScaledObject ready again", lambda: scaled.condition("Ready")[0] == "True")
        run.edit(components=chat("Fixed", replicas=number))
        await scaled.until("no autoscaler", lambda: not autoscalers(world))
        await run.until("Ready", "True")
        assert replicas(world) == number
    assert world.metrics.conflicts._value.get() == 0, "nothing had to be taken back"


async def test_what_keeps_it_from_scaling_is_said_in_its_words(scaled: Scaled) -> None:
    world, run = scaled.world, scaled.run
    nobody = f"http://127.0.0.1:{free_port()}"
    scaled.pods.streams = 1
    world.create_bot({"profile": "Dev", "telemetry": {"prometheusURL": nobody}, "components": by_keda()})
    await scaled.until("ScaledObject not ready", lambda: scaled.condition("Ready")[0] == "False")
    await run.until("AutoscalingReady", "False", "ScaledObjectNotReady")
    assert scaled.said("AutoscalingReady").startswith(f"ScaledObject {CHAT} is not ready: TriggerError: ")
    assert replicas(world) == 1, "no Prometheus is no reason to take pods away"

    run.edit(telemetry={"prometheusURL": scaled.prometheus})
    await scaled.until("ScaledObject ready", lambda: scaled.condition("Ready")[0] == "True")
    await run.until("AutoscalingReady", "True")

    pause = {"metadata": {"annotations": {"autoscaling.keda.sh/paused": "true"}}}
    world.api.patch("ScaledObject", world.namespace, CHAT, pause)
    await scaled.until("paused", lambda: scaled.condition("Paused")[0] == "True")
    await run.until("AutoscalingReady", "False", "ScaledObjectNotReady")
    assert "is paused by an annotation of it" in scaled.said("AutoscalingReady")
    await scaled.settles()
