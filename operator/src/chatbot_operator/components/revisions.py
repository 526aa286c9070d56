"""What ran last without fault, kept as a ControllerRevision, and the way back to it. Pure.

A rollout that makes no progress within `rollout.deadline` is given up: what the revision holds is rendered instead,
until the resource or the operator's own version says something new, or somebody asks for it by annotation. So is an
image of a store or a migration that does not come to run in that time. Databases are not taken back: every version
works with the tables of the next one. Nor is what
keeps data and people safe, and no pod has to prove: see `KEPT`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from chatbot_resource.fields import seconds
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import MAX_RETRY, MAX_TEXT, RolledBack, Status
from pydantic import ValidationError

from chatbot_operator import names
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import annotation, applied_hash, component_of, digest, generation, manifest
from chatbot_operator.moments import age
from chatbot_operator.pod_findings import pods_finding
from chatbot_operator.reachability import waits_for_store
from chatbot_operator.readiness import image_of, is_ready, overdue, own_pods
from chatbot_operator.reasons import Reason
from chatbot_operator.settings import Images, Settings
from chatbot_operator.world import Blocked, Manifest, Observed, Step

PART = "revision"
WORKLOADS = ("Deployment", "StatefulSet", "Job")
OF_IMAGES = (Reason.IMAGE_PULL_FAILED, Reason.CONTAINER_CONFIG_ERROR, Reason.CRASH_LOOP)
"""What a wrong image shows itself by."""
KEPT = ("stores.deletionPolicy", "auth.signup", "network.policy", "network.metricsFrom")
"""What is always as the resource says now, since no pod has to prove it; see `_before`."""
Render = Callable[[ChatbotDeployment, Observed, Settings], list[Step]]
"""See plan.py."""


@dataclass(frozen=True)
class Effective:
    """What is rendered: what the resource says, or what ran before it."""

    bot: ChatbotDeployment
    settings: Settings
    rolled_back: RolledBack | None = None


def build(context: Context) -> Manifest:
    """The present state as a revision; its name is its content's."""
    data = _data(context.bot, context.settings)
    name = f"{context.bot.name}-{digest(data)[:10]}"
    body = {"data": data, "revision": generation(context.bot)}
    return manifest(context.bot, PART, "ControllerRevision", name, body)


def effective(
    bot: ChatbotDeployment, observed: Observed, previous: Status | None, settings: Settings, render: Render
) -> Effective:
    """What to render now."""
    settings = settings.at(bot.spec.version)
    asked = Effective(bot, settings)
    if not bot.spec.rollout.auto_rollback or bot.spec.mode != "Active":
        return asked
    settled = latest(observed)
    if settled is None or settled["data"] == _data(bot, settings) or _elsewhere(bot, settled):
        return asked
    given_up = _given_up(bot, previous, settings) or _failing(asked, observed, settled, render)
    if given_up is None:
        return asked
    try:
        return _rendered(bot, settled, settings, given_up)
    except (ValidationError, KeyError):  # written by an operator that knew other fields
        return asked


def _given_up(bot: ChatbotDeployment, previous: Status | None, settings: Settings) -> RolledBack | None:
    """What was given up before stays so until something else is asked for."""
    known = previous.version.rolled_back if previous else None
    asked = (generation(bot), settings.version, _retry(bot))
    return known if known and (known.generation, known.version, known.retry) == asked else None


def _retry(bot: ChatbotDeployment) -> str:
    """What was mended outside, such as an image under the same tag, shows in nothing that the resource says."""
    text = annotation(bot, names.RETRY)
    return text if len(text) <= MAX_RETRY else digest(text)[:MAX_RETRY]


def _failing(asked: Effective, observed: Observed, settled: Manifest, render: Render) -> RolledBack | None:
    """Only what was tried can fail: a Deployment that still shows what was asked for earlier says nothing of it."""
    deadline = seconds(asked.bot.spec.rollout.deadline)
    failing = [(live, finding) for live in _workloads(observed) if (finding := _failure(live, observed, deadline))]
    # Rarely any, and rendering takes its time.
    hashes = _hashes(render(asked.bot, observed, asked.settings)) if failing else set()
    for live, finding in failing:
        if applied_hash(live) in hashes:
            return RolledBack(
                generation=generation(asked.bot),
                version=asked.settings.version,
                revision=settled["metadata"]["name"],
                retry=_retry(asked.bot),
                message=_lasting(finding.message, live),
            )
    return None


def _failure(live: Manifest, observed: Observed, deadline: float) -> Blocked | None:
    if live["kind"] == "Deployment":
        waits = waits_for_store(live, observed) or _waits_for_faqs(live, observed)
        return None if waits else overdue(live, observed)
    # A store that runs what it ran before fails by something else.
    same = live["kind"] == "StatefulSet" and image_of(live) == image(observed, component_of(live))
    return None if same else _unstarted(live, observed, deadline)


def _unstarted(live: Manifest, observed: Observed, deadline: float) -> Blocked | None:
    """Of a StatefulSet or Job, whose controllers know no deadline."""
    old = [pod for pod in own_pods(live, observed) if not is_ready(pod) and age(pod, observed.at) >= deadline]
    finding = pods_finding(old, observed.at)
    return finding if finding and finding.reason in OF_IMAGES else None


def due(bot: ChatbotDeployment, observed: Observed) -> float | None:
    """Seconds until a pod that does not come to run may be given up, of which no event tells; None where none is."""
    deadline = seconds(bot.spec.rollout.deadline)
    left = [deadline - age(pod, observed.at) for pod in observed.pods if pods_finding([pod], observed.at)]
    return min((item for item in left if item > 0), default=None)


def _waits_for_faqs(live: Manifest, observed: Observed) -> bool:
    """What ran before reads the same ones."""
    return bool(observed.bad_faqs) and component_of(live) == "conversation-worker"


def _lasting(message: str, live: Manifest) -> str:
    """What is true when the pod is gone that it was true of; commands that name it are left out."""
    kind, name = live["kind"], live["metadata"]["name"]
    said = re.sub(rf"^Pod {re.escape(name)}-\S+", f"A pod of {kind} {name}", message)
    said = re.sub(r": kubectl (logs|describe) [^:]*$", "", said).rstrip()[: MAX_TEXT - 1]
    return said if said.endswith((".", "!", "?")) else f"{said}."


def _hashes(steps: Iterable[Step]) -> set[str]:
    return {applied_hash(item) for step in steps for item in step.manifests if item["kind"] in WORKLOADS}


def _rendered(bot: ChatbotDeployment, settled: Manifest, settings: Settings, given_up: RolledBack) -> Effective:
    data = settled["data"]
    told = settings.model_copy(update={"images": Images.model_validate(data["images"]), "version": data["version"]})
    return Effective(_before(bot, data["spec"]), told, given_up)


def before(context: Context) -> ChatbotDeployment | None:
    """What ran when everything had settled last; None where that is not known."""
    settled = latest(context.observed)
    try:
        return _of(context.bot, settled["data"]["spec"]) if settled else None
    except (ValidationError, KeyError):  # written by an operator that knew other fields
        return None


def _before(bot: ChatbotDeployment, spec: Manifest) -> ChatbotDeployment:
    """What ran before, but for what becomes of the data, who may sign up, and who is let in.

    Whom it reaches is as it was: it would run without its stores and models where an edit took the way with them.
    """
    now = bot.spec
    stores = (spec.get("stores") or {}) | {"deletionPolicy": now.stores.deletion_policy}
    auth = (spec.get("auth") or {}) | {"signup": now.auth.signup}
    egress = {key: value for key, value in (spec.get("network") or {}).items() if key == "egress"}
    network = now.network.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"egress"}) | egress
    spec = spec | {"stores": stores, "auth": auth}
    try:
        return _of(bot, spec | {"network": network})
    except ValidationError:  # `Off`, under the profile Production of then
        return _of(bot, spec)


def _of(bot: ChatbotDeployment, spec: Manifest) -> ChatbotDeployment:
    head = {"apiVersion": bot.api_version, "kind": bot.kind, "metadata": bot.metadata.model_dump()}
    return ChatbotDeployment.model_validate(head | {"spec": spec}, by_alias=True, by_name=False)


def latest(observed: Observed) -> Manifest | None:
    """The newest revision; two are there only for a moment."""
    found = [item for item in observed.children if item["kind"] == "ControllerRevision" and component_of(item) == PART]
    return max(found, key=lambda item: int(item["revision"]), default=None)


def image(observed: Observed, store: str) -> str:
    """What a store ran when everything had settled last; empty where that is not known."""
    data = (latest(observed) or {"data": {}})["data"]
    return str((data.get("spec", {}).get("images") or {}).get(store) or (data.get("images") or {}).get(store) or "")


def postgres_mode(revision: Manifest) -> str:
    """Where the data was when everything had settled."""
    stores = revision["data"]["spec"].get("stores") or {}
    return str((stores.get("postgres") or {}).get("mode", "Dev"))


def cluster_image(observed: Observed) -> str:
    """What the resource said of a Cluster of CloudNativePG's then; empty: nothing."""
    spec = (latest(observed) or {"data": {"spec": {}}})["data"]["spec"]
    return str((spec.get("images") or {}).get("postgres") or "")


def _elsewhere(bot: ChatbotDeployment, settled: Manifest) -> bool:
    """Whether the data has moved since: what was written after that is not where it ran before."""
    now = bot.spec.stores.postgres
    before = (settled["data"]["spec"].get("stores") or {}).get("postgres") or {}
    external = now.external.model_dump(mode="json", by_alias=True, exclude_unset=True) if now.external else None
    return postgres_mode(settled) != now.mode or (before.get("external") or None) != external


def _workloads(observed: Observed) -> Iterable[Manifest]:
    found = (item for item in observed.children if item["kind"] in WORKLOADS)
    return sorted(found, key=lambda item: (WORKLOADS.index(item["kind"]), item["metadata"]["name"]))


def _data(bot: ChatbotDeployment, settings: Settings) -> dict[str, Any]:
    """As the API server gives it back, so that it can be compared."""
    return {
        "spec": bot.spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "images": settings.images.model_dump(),
        "version": settings.version,
    }
