"""The operator's parts against a real API server: a namespace, a small plan, and a count of what was written."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
from chatbot_operator import names, staying
from chatbot_operator.cluster import Cluster
from chatbot_operator.components.metadata import manifest
from chatbot_operator.components.revisions import Effective
from chatbot_operator.components.rotation import Rotation
from chatbot_operator.left import invalid, leaving
from chatbot_operator.metrics import Metrics
from chatbot_operator.outside import Outside
from chatbot_operator.process import RULES
from chatbot_operator.queue import Key
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.referrers import Referrers
from chatbot_operator.rules import Rules
from chatbot_operator.settings import Settings
from chatbot_operator.world import Manifest, Observed, Reference, Step
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import Condition, Status, VersionStatus

from tests.support.apiserver import ApiServer, Object, path, wait_for
from tests.support.patience import within
from tests.support.serving import free_port

BOT = "harbour"
WRITES = ("post", "put", "patch", "delete")

SETTINGS = Settings.model_validate(
    {
        "version": "0.1.0",
        "images": {
            **{name: f"chatbot-{name}:0.1.0" for name in ("gateway", "auth", "chat", "conversation", "postgres")},
            "redis": "chatbot-valkey:0.1.0",
            "weaviate": "semitechnologies/weaviate:1.39.0",
        },
        "lease": {"namespace": "default"},
    }
)


@dataclass
class World:
    """One namespace, and the operator's way to it."""

    api: ApiServer
    namespace: str
    cluster: Cluster
    metrics: Metrics

    @property
    def key(self) -> Key:
        return self.namespace, BOT

    def create_bot(self, spec: Object | None = None, name: str = BOT) -> Object:
        body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment"}
        return self.api.create(body | {"metadata": {"name": name}, "spec": spec or {"profile": "Dev"}}, self.namespace)

    def bot(self) -> Object:
        return self.existing("ChatbotDeployment", BOT)

    def get(self, kind: str, name: str) -> Object | None:
        return self.api.get(kind, self.namespace, name)

    def existing(self, kind: str, name: str) -> Object:
        found = self.get(kind, name)
        assert found is not None, f"{kind} {name}"
        return found

    def events(self) -> list[tuple[str, str]]:
        """Reason and message of each that tells of the resource."""
        found = self.api.list("Event", self.namespace)
        return [
            (item["reason"], item.get("message", ""))
            for item in found
            if item["involvedObject"]["kind"] == "ChatbotDeployment"
        ]

    def writes(self) -> int:
        """Requests sent so far that change something, or try to."""
        samples = [sample for family in self.metrics.api_requests.collect() for sample in family.samples]
        return int(
            sum(item.value for item in samples if item.name.endswith("_total") and item.labels["verb"] in WRITES)
        )

    def reconciler(self, plan: "SmallPlan | None" = None, rules: Rules | None = None) -> Reconciler:
        """With no memory of earlier ones, as after a restart."""
        rules = rules or (plan or SmallPlan()).rules()
        return Reconciler(self.cluster, SETTINGS, self.metrics, Referrers(), rules)


Build = Callable[[ChatbotDeployment, Observed], list[Step]]


@dataclass
class SmallPlan:
    """A plan as small as a test needs it. By default one ConfigMap and one Deployment."""

    build: Build = field(default_factory=lambda: lambda bot, _: [step("chat", config(bot), deployment(bot))])
    references: frozenset[Reference] = frozenset()
    secrets: Callable[[ChatbotDeployment, Observed], list[Manifest]] = lambda _, __: []
    reason: str = "Settled"
    ready: str = "True"

    def rules(self) -> Rules:
        return Rules(
            references=lambda _: self.references,
            missing_secrets=lambda bot, observed: self.secrets(bot, observed),
            rotate=lambda _, __: Rotation(),
            effective=lambda bot, _, __, settings: Effective(bot, settings),
            plan=lambda bot, observed, *_: self.build(bot, observed),
            wanted=staying.wanted,
            status_of=self._status,
            invalid=invalid,
            leaving=leaving,
        )

    def _status(
        self,
        bot: ChatbotDeployment,
        steps: list[Step],
        _: Observed,
        __: Settings,
        previous: Status | None,
        now: str,
        *___: Any,
    ) -> Status:
        blocked = next((item.blocked for item in steps if item.blocked), None)
        reason, message = (blocked.reason, blocked.message) if blocked else (self.reason, "")
        ready = "False" if blocked else self.ready
        return status(bot.metadata.model_extra or {}, reason, message, ready, previous, now)


def status(metadata: Any, reason: str, message: str, ready: str, previous: Status | None, now: str) -> Status:
    old = next((item for item in previous.conditions if item.type == "Ready"), None) if previous else None
    since = old.last_transition_time if old and old.status == ready else now
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": message}
    generation = int(metadata.get("generation", 1))
    return Status(
        observed_generation=generation,
        phase="Ready" if ready == "True" else "Degraded",
        conditions=[
            Condition.model_validate(condition | {"lastTransitionTime": since, "observedGeneration": generation})
        ],
        components=[],
        components_ready="0/0",
        url="",
        model="",
        version=VersionStatus(),
        operator_version="0.1.0",
    )


def step(name: Any, *manifests: Manifest, blocked: Any = None) -> Step:
    return Step(name, manifests, blocked)


def config(bot: ChatbotDeployment, text: str = "one", name: str = "harbour-chat-config") -> Manifest:
    return manifest(bot, "chat", "ConfigMap", name, {"data": {"text": text}, "immutable": False})


def deployment(bot: ChatbotDeployment, image: str = "chat:1", replicas: int | None = 1, part: str = "chat") -> Manifest:
    labels = {names.NAME: "chatbot", names.INSTANCE: bot.name, names.COMPONENT: part}
    spec: Manifest = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": part, "image": image}]}},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return manifest(bot, part, "Deployment", f"{bot.name}-{part}", {"spec": spec})


@contextlib.contextmanager
def webhook_down(world: World, *resources: str) -> Iterator[None]:
    """Who must be asked before any of these is written in the namespace does not answer.

    Args:
        resources: in the core group; ConfigMaps are always among them.
    """
    where = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    hook = {
        "name": "down.example.com",
        "clientConfig": {"url": f"https://127.0.0.1:{free_port()}/"},
        "rules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps", *resources]}
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    name = f"down-{world.namespace}"
    world.api.request("POST", where, {"metadata": {"name": name}, "webhooks": [hook]})
    try:
        wait_for("the webhook to be asked", lambda: not _taken(world))
        yield
    finally:
        world.api.request("DELETE", f"{where}/{name}")
        wait_for("it to be asked no more", lambda: _taken(world))


def _taken(world: World) -> bool:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "try"}}
    try:
        world.api.request("POST", f"{path('ConfigMap', world.namespace)}?dryRun=All", body)
    except httpx2.HTTPStatusError:
        return False
    return True


SECONDS = 60
LOOK_SECONDS = 0.5
"""Between two reconciles of who waits: each asks for all there is, and keeps the control plane from getting on."""


def scaler(bot: str) -> Object:
    """Somebody's autoscaler of a Deployment that is not there, with the labels of a resource."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nobody"}
    metadata = {"name": "busy", "labels": {names.BOT: bot}}
    spec = {"maxReplicas": 2, "scaleTargetRef": target}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}


def measured(replicas: int, active: str = "True") -> Object:
    """What its controller writes every 15 seconds."""
    condition = {"type": "ScalingActive", "status": active, "reason": "Measured", "message": f"is {active}"}
    return {"currentReplicas": replicas, "desiredReplicas": replicas, "conditions": [condition]}


class Run:
    """One resource, reconciled again and again as events would have it."""

    def __init__(
        self, world: World, apis: Callable[[], frozenset[str]] = frozenset, outside: Outside | None = None
    ) -> None:
        self.world = world
        self.reconcile = Reconciler(
            world.cluster, SETTINGS, world.metrics, Referrers(), RULES, apis=apis, outside=outside
        )

    async def until(self, kind: str, status: str, reason: str | None = None) -> Status:
        """Until a condition of the present generation says so."""
        async with within(SECONDS):
            while True:
                await self.reconcile(self.world.key)
                told = self.status()
                found = next(item for item in told.conditions if item.type == kind)
                if found.status == status and reason in (None, found.reason):
                    return told
                await asyncio.sleep(LOOK_SECONDS)

    async def rests(self) -> None:
        """Until looking again, also after a restart, writes nothing. Autoscalers may still say their first words."""
        async with within(SECONDS):
            while True:
                before = self.world.writes()
                await self.reconcile(self.world.key)
                await Run(self.world).reconcile(self.world.key)
                if self.world.writes() == before:
                    return

    def status(self) -> Status:
        return Status.model_validate(self.world.bot()["status"])

    def edit(self, **spec: Any) -> None:
        self.world.api.patch("ChatbotDeployment", self.world.namespace, BOT, {"spec": spec})

    @staticmethod
    def ready(told: Status) -> tuple[str, str]:
        """Status and reason of Ready."""
        return next((item.status, item.reason) for item in told.conditions if item.type == "Ready")

    def secret(self, name: str) -> Manifest:
        return self.world.existing("Secret", f"{BOT}-{name}")
