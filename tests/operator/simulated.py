"""A cluster in memory for the operator's pure part: it keeps what is applied and lets it become ready when told."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chatbot_operator import names, staying
from chatbot_operator import plan as planning
from chatbot_operator.components import secrets
from chatbot_operator.components.cloudnativepg import HIBERNATION
from chatbot_operator.components.context import Context
from chatbot_operator.components.lost_status import whereabouts
from chatbot_operator.components.metadata import applied_hash, component_of
from chatbot_operator.components.revisions import Effective
from chatbot_operator.process import RULES
from chatbot_operator.world import Answer, Manifest, Observed, Reference, Step
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import Condition, Status

from tests.operator.running import SETTINGS

NOW = "2026-11-21T06:00:00Z"
LATER = "2026-11-21T07:00:00Z"
UID = "11111111-1111-4111-8111-111111111111"
Name = tuple[str, str]


def make_bot(spec: Mapping[str, Any] | None = None, generation: int = 1, uid: str = UID) -> ChatbotDeployment:
    return ChatbotDeployment.model_validate(body(spec, generation, uid))


def body(spec: Mapping[str, Any] | None = None, generation: int = 1, uid: str = UID) -> Manifest:
    """The resource as the API server gives it."""
    return {
        "apiVersion": "chatbot-operator.io/v1alpha1",
        "kind": "ChatbotDeployment",
        "metadata": {"name": "demo", "namespace": "team", "uid": uid, "generation": generation},
        "spec": {"profile": "Dev"} if spec is None else dict(spec),
    }


def name_of(item: Manifest) -> Name:
    return item["kind"], item["metadata"]["name"]


def fixed_secrets(bot: ChatbotDeployment) -> list[Manifest]:
    """Generated Secrets whose values are always the same, for pictures of manifests."""
    made = []
    for manifest in secrets.missing(bot, Observed()):
        name = manifest["metadata"]["name"]
        values = {key: b64encode(f"{name}:{key}".encode()).decode() for key in manifest["data"]}
        made.append(manifest | {"data": values})
    return made


@dataclass
class Cluster:
    """Everything that belongs to one resource."""

    bot: ChatbotDeployment = field(default_factory=make_bot)
    children: dict[Name, Manifest] = field(default_factory=dict)
    pods: list[Manifest] = field(default_factory=list)
    references: dict[Reference, str | None] = field(default_factory=dict)
    """What users own; whatever is not here has a digest of its name."""
    status: Status | None = None
    apis: frozenset[str] = frozenset()
    answers: dict[str, Answer] = field(default_factory=dict)
    """What pods that are not ready say of themselves, by their names."""
    bad_faqs: str = ""
    at: str = ""
    """When it is looked at; empty: long after everything."""

    @property
    def observed(self) -> Observed:
        found = {item: self._digest(item) for item in planning.references(self.bot)}
        seen = Observed(
            tuple(self.children.values()),
            tuple(self.pods),
            found,
            self.apis,
            answers=self.answers,
            bad_faqs=self.bad_faqs,
            at=self.at,
        )
        told = self.status.model_dump(mode="json", by_alias=True) if self.status else None
        return replace(seen, data=whereabouts(Context(self.bot, seen, SETTINGS), told))

    @property
    def chosen(self) -> Effective:
        return RULES.effective(self.bot, self.observed, self.status, SETTINGS)

    def plan(self, chosen: Effective | None = None) -> list[Step]:
        chosen = chosen or self.chosen
        return RULES.plan(chosen.bot, self.observed, chosen.settings, chosen.rolled_back)

    def manifests(self) -> dict[Name, Manifest]:
        """Everything wanted now, of blocked steps too."""
        return {name_of(item): item for step in self.plan() for item in step.manifests}

    def reconcile(self) -> list[Step]:
        """What reconcile.py does, without its care: create Secrets, plan, apply, prune, report."""
        for made in secrets.missing(self.bot, self.observed):
            self._put(made)
        chosen = self.chosen
        steps = self.plan(chosen)
        for step in steps:
            for manifest in () if step.blocked else step.manifests:
                self._put(manifest)
        wanted = staying.wanted(steps, self.observed)
        self.children = {
            name: item for name, item in self.children.items() if name in wanted or not self._is_owned(item)
        }
        self.report(steps, chosen=chosen)
        return steps

    def report(self, steps: list[Step] | None = None, now: str = NOW, chosen: Effective | None = None) -> Status:
        """With the steps that were taken, or those of another look."""
        chosen = chosen or self.chosen
        steps = self.plan(chosen) if steps is None else steps
        self.status = RULES.status_of(
            chosen.bot, steps, self.observed, chosen.settings, self.status, now, chosen.rolled_back
        )
        return self.status

    def condition(self, kind: str) -> Condition:
        assert self.status is not None
        return next(item for item in self.status.conditions if item.type == kind)

    def settle(self, *parts: str) -> None:
        """Controllers do their work: everything runs, or what belongs to the parts named."""
        for item in self.children.values():
            if not parts or component_of(item) in parts:
                self._settle(item)

    def converge(self) -> "Cluster":
        """Until a reconcile leaves everything as it is."""
        for _ in range(10):
            before = dict(self.children)
            self.reconcile()
            self.settle()
            if before == self.children and all(step.blocked is None for step in self.plan()):
                self.report()
                return self
        raise AssertionError([step for step in self.plan() if step.blocked])

    def edit(self, **spec: Any) -> None:
        """The user changes top-level fields of the spec."""
        written = self.bot.spec.model_dump(mode="json", by_alias=True, exclude_unset=True) | spec
        generation = getattr(self.bot.metadata, "generation", 0) + 1
        self.bot = make_bot(written, generation)

    def child(self, kind: str, name: str) -> Manifest:
        return self.children[kind, name]

    def pod(self, part: str, name: str, status: Mapping[str, Any], **labels: str) -> None:
        """A pod of a part."""
        own = {
            "app.kubernetes.io/name": "chatbot",
            "app.kubernetes.io/instance": "demo",
            "app.kubernetes.io/component": part,
        }
        named = {key.replace("_", "-"): value for key, value in labels.items()}
        metadata = {"name": name, "labels": own | named}
        self.pods.append({"kind": "Pod", "metadata": metadata, "spec": {"containers": []}, "status": dict(status)})

    def _digest(self, item: Reference) -> str | None:
        return self.references.get(item, None if item.optional else f"digest of {item.kind} {item.name} {item.key}")

    def _is_owned(self, item: Manifest) -> bool:
        owner = self.bot.metadata.uid  # type: ignore[attr-defined]
        return any(reference["uid"] == owner for reference in item["metadata"].get("ownerReferences", []))

    def _put(self, manifest: Manifest) -> None:
        """Server-side apply, as far as it matters here: a Secret's data stays, a changed spec is a new generation."""
        name = name_of(manifest)
        live = self.children.get(name)
        if live is not None and applied_hash(live) == applied_hash(manifest):
            return
        if live is not None and live["kind"] in ("Job", "ControllerRevision"):
            return
        generation = live["metadata"]["generation"] + 1 if live else 1
        uid = live["metadata"]["uid"] if live else f"uid of {' '.join(name)}"
        kept = {key: live[key] for key in ("status", "data") if key in live} if live else {}
        metadata = manifest["metadata"] | {"uid": uid, "generation": generation, "resourceVersion": "1"}
        if name[0] == "Secret" and live is not None:  # what others noted on it stays; ours is not looked at here
            noted = (live["metadata"].get("annotations") or {}) | (metadata.get("annotations") or {})
            metadata |= {"annotations": noted, **_kept(live["metadata"], "creationTimestamp")}
        if name[0] == "Cluster" and "imageName" in manifest["spec"]:
            fields = {"f:spec": {"f:imageName": {}}}
            entry = {"manager": names.FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields}
            metadata |= {"managedFields": [entry]}
        self.children[name] = kept | manifest | {"metadata": metadata}

    def _settle(self, item: Manifest) -> None:
        seen = {"observedGeneration": item["metadata"].get("generation")}
        if item["kind"] in ("Deployment", "StatefulSet"):
            told = item["spec"].get("replicas")
            pods = self._scaled(item["metadata"]["name"]) if told is None else told
            counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), pods)
            self._become(item, seen | counts)
        elif item["kind"] == "Cluster":
            self._become(item, cluster_status(item))
        elif item["kind"] == "Database":
            self._become(item, seen | {"applied": True})
        elif item["kind"] == "HorizontalPodAutoscaler":
            self._become(item, {"conditions": [{"type": "ScalingActive", "status": "True", "reason": "Measured"}]})
        elif item["kind"] == "Job":
            self._become(item, {"conditions": [{"type": "Complete", "status": "True"}], "completionTime": NOW})

    def _scaled(self, name: str) -> int:
        """As an autoscaler does it that nothing presses."""
        scaler = self.children.get(("HorizontalPodAutoscaler", name))
        scaled = self.children.get(("ScaledObject", name))
        if scaled:
            return max(1, int(scaled["spec"]["minReplicaCount"]))
        return int(scaler["spec"]["minReplicas"]) if scaler else 1

    def _become(self, item: Manifest, status: Mapping[str, Any]) -> None:
        self.children[name_of(item)] = item | {"status": dict(status)}


def cluster_status(item: Manifest) -> Manifest:
    """What CloudNativePG 1.27 writes of a Cluster that is as it should be, as far as it is read here."""
    conditions = [{"type": "Ready", "status": "True", "reason": "ClusterIsReady"}]
    asleep = item["metadata"].get("annotations", {}).get(HIBERNATION) == "on"
    if asleep:
        conditions.append({"type": HIBERNATION, "status": "True", "reason": "Hibernated"})
    instances = item["spec"]["instances"]
    ready = {} if asleep else {"readyInstances": instances}
    return {"phase": "Cluster in healthy state", "instances": instances, "conditions": conditions} | ready


def _kept(metadata: Manifest, name: str) -> Manifest:
    return {name: metadata[name]} if name in metadata else {}


def without(observed: Observed, kind: str, name: str) -> Observed:
    return replace(observed, children=tuple(item for item in observed.children if name_of(item) != (kind, name)))
