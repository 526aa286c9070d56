"""What ran last without fault, kept as a ControllerRevision, and the way back to it. Pure.

A rollout that makes no progress within `rollout.deadline` is given up: what the revision holds is rendered instead,
until the resource or the operator's own version says something new. Databases are not taken back: every version works
with the tables of the next one.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import MAX_TEXT, RolledBack, Status
from pydantic import ValidationError

from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import applied_hash, component_of, digest, generation, manifest
from chatbot_operator.reachability import waits_for_store
from chatbot_operator.readiness import overdue
from chatbot_operator.settings import Images, Settings
from chatbot_operator.world import Manifest, Observed, Step

PART = "revision"
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
    same = known is not None and (known.generation, known.version) == (generation(bot), settings.version)
    return known if same else None


def _failing(asked: Effective, observed: Observed, settled: Manifest, render: Render) -> RolledBack | None:
    """Only what was tried can fail: a Deployment that still shows what was asked for earlier says nothing of it."""
    failing = [(live, finding) for live in _deployments(observed) if (finding := overdue(live, observed))]
    # Rarely any, and rendering takes its time.
    hashes = _hashes(render(asked.bot, observed, asked.settings)) if failing else set()
    for live, finding in failing:
        if applied_hash(live) in hashes and not waits_for_store(live, observed) and not _waits_for_faqs(live, observed):
            return RolledBack(
                generation=generation(asked.bot),
                version=asked.settings.version,
                revision=settled["metadata"]["name"],
                message=_lasting(finding.message, live),
            )
    return None


def _waits_for_faqs(live: Manifest, observed: Observed) -> bool:
    """What ran before reads the same ones."""
    return bool(observed.bad_faqs) and component_of(live) == "conversation-worker"


def _lasting(message: str, live: Manifest) -> str:
    """What is true when the pod is gone that it was true of; commands that name it are left out."""
    name = live["metadata"]["name"]
    said = re.sub(rf"^Pod {re.escape(name)}-\S+", f"A pod of Deployment {name}", message)
    said = re.sub(r": kubectl (logs|describe) [^:]*$", "", said).rstrip()[: MAX_TEXT - 1]
    return said if said.endswith((".", "!", "?")) else f"{said}."


def _hashes(steps: Iterable[Step]) -> set[str]:
    return {applied_hash(item) for step in steps for item in step.manifests if item["kind"] == "Deployment"}


def _rendered(bot: ChatbotDeployment, settled: Manifest, settings: Settings, given_up: RolledBack) -> Effective:
    data = settled["data"]
    body = {
        "apiVersion": bot.api_version,
        "kind": bot.kind,
        "metadata": bot.metadata.model_dump(),
        "spec": data["spec"],
    }
    before = ChatbotDeployment.model_validate(body, by_alias=True, by_name=False)
    told = settings.model_copy(update={"images": Images.model_validate(data["images"]), "version": data["version"]})
    return Effective(before, told, given_up)


def latest(observed: Observed) -> Manifest | None:
    """The newest revision; two are there only for a moment."""
    found = [item for item in observed.children if item["kind"] == "ControllerRevision" and component_of(item) == PART]
    return max(found, key=lambda item: int(item["revision"]), default=None)


def _elsewhere(bot: ChatbotDeployment, settled: Manifest) -> bool:
    """Whether the data has moved since: what was written after that is not where it ran before."""
    stores = settled["data"]["spec"].get("stores") or {}
    return str((stores.get("postgres") or {}).get("mode", "Dev")) != bot.spec.stores.postgres.mode


def _deployments(observed: Observed) -> Iterable[Manifest]:
    return sorted(
        (item for item in observed.children if item["kind"] == "Deployment"), key=lambda item: item["metadata"]["name"]
    )


def _data(bot: ChatbotDeployment, settings: Settings) -> dict[str, Any]:
    """As the API server gives it back, so that it can be compared."""
    return {
        "spec": bot.spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "images": settings.images.model_dump(),
        "version": settings.version,
    }
