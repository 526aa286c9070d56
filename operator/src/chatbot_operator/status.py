"""What is reported of a resource: computed from what was observed, never from what was done. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version as installed

from chatbot_resource.llm import resolve_llm
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import (
    ComponentStatus,
    Phase,
    RolledBack,
    Status,
    StoresStatus,
    VersionStatus,
)
from pydantic import ValidationError

from chatbot_operator import names
from chatbot_operator.cnpg import store_finding
from chatbot_operator.components import (
    autoscaling,
    dependencies,
    exposure,
    moving,
    postgres,
    reads,
    redis,
    rotation,
)
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import applied_hash, component_of, generation
from chatbot_operator.conditions import PASSING, Findings, conditions, invalid_conditions, is_true, paused
from chatbot_operator.errors import invalid_spec
from chatbot_operator.history import finished, given_up_finding, versions
from chatbot_operator.reachability import lost
from chatbot_operator.readiness import (
    count,
    current,
    deployment_finding,
    desired,
    job_finding,
    rest,
    settled,
)
from chatbot_operator.reasons import MISSING, STUCK, Reason
from chatbot_operator.settings import Settings
from chatbot_operator.world import Blocked, Manifest, Observed, Step, StepName

COMPONENTS: dict[names.Component, StepName] = {
    "gateway": "gateway",
    "auth": "auth",
    "chat": "chat",
    "conversation": "conversation",
    "conversation-worker": "conversation",
}
"""Each component and the step that makes it."""
BESIDE: frozenset[StepName] = frozenset({"monitoring", "revision"})
"""Steps by which no pod runs: what becomes of them decides nothing about the bot itself."""
UNEXPLAINED = PASSING | {Reason.PROGRESS_DEADLINE_EXCEEDED}
"""Findings of a Deployment that say less than its pods may."""
MAX_TEXT = 1024


@dataclass(frozen=True)
class View:
    """One component as it was seen."""

    part: names.Component
    live: Manifest | None
    wanted: Manifest | None
    finding: Blocked | None
    """Why it has not settled; None: it has."""
    reached: bool = True
    """Whether a Service leads to its pods."""
    lost: Mapping[names.Store, Blocked] = field(default_factory=dict)
    """Stores that keep it from settling."""


def status_of(
    bot: ChatbotDeployment,
    steps: list[Step],
    observed: Observed,
    settings: Settings,
    previous: Status | None,
    now: str,
    rolled_back: RolledBack | None = None,
) -> Status:
    """The status to write.

    Args:
        previous: what was written last; its transition times stay where nothing flipped.
        now: RFC 3339, in seconds.
        rolled_back: what was asked for, where something else is rendered.
    """
    context = Context(bot, observed, settings, rolled_back)
    stores = _stores(context, steps)
    views = [_waiting(context, _view(bot, part, steps, observed, stores)) for part in COMPONENTS]
    if bot.spec.mode == "Paused":
        views = [_without_service(bot, view, steps, observed) for view in views]
    found = Findings(
        secrets=_secrets(steps),
        stores={name: finding or _lost(name, views) for name, finding in stores.items()},
        migrations=_migrations(steps, observed),
        components={view.part: view.finding for view in views},
        blocked=next((step.blocked for step in steps if step.blocked and step.name not in BESIDE), None),
        available=_available(views, previous),
        autoscaling=autoscaling.finding(context),
        autoscaled=bool(autoscaling.autoscalers(context)),
        route=exposure.finding(context),
        dependencies=_dependencies(context, steps),
        rolled_back=given_up_finding(rolled_back),
    )
    if bot.spec.mode == "Paused":
        found = paused(found)
    said = conditions(bot, found, previous, now)
    ready = is_true(said, "Ready")
    return Status(
        observed_generation=generation(bot),
        phase=_phase(bot, ready, found, views),
        conditions=said,
        components=[_component(view, previous) for view in views],
        components_ready=f"{sum(view.finding is None for view in views)}/{len(views)}",
        url=exposure.url(bot),
        model=str(resolve_llm(bot.spec.llm).default),
        version=versions(bot, settings, previous, rolled_back, ready=ready, now=now),
        migrations=finished(steps, observed, previous),
        stores=StoresStatus(postgres=moving.located(context)),
        secrets=rotation.told(bot, observed, now),
        operator_version=operator_version(),
    )


def invalid(body: Manifest, error: ValidationError, settings: Settings, previous: Status | None, now: str) -> Status:
    """The status of a resource that cannot be understood: what was known of it, and what is wrong with it."""
    metadata = body["metadata"]
    seen = int(metadata.get("generation", 0))
    said = invalid_conditions(invalid_spec(error, body), seen, previous, now)
    known = previous or Status(
        observed_generation=seen,
        phase="Failed",
        conditions=said,
        components=[],
        components_ready=f"0/{len(COMPONENTS)}",
        url=f"http://{metadata['name']}-gateway.{metadata['namespace']}.svc",
        model="",
        version=VersionStatus(target=settings.version),
        operator_version=operator_version(),
    )
    phase: Phase = "Degraded" if is_true(said, "Available") else "Failed"
    return known.model_copy(
        update={
            "observed_generation": seen,
            "phase": phase,
            "conditions": said,
            "operator_version": operator_version(),
        }
    )


@cache
def operator_version() -> str:
    return installed("chatbot-operator")


def _view(
    bot: ChatbotDeployment,
    part: names.Component,
    steps: list[Step],
    observed: Observed,
    stores: Mapping[names.Store, Blocked | None],
) -> View:
    name = names.child(bot.name, part)
    live = observed.child("Deployment", name)
    step = next(step for step in steps if step.name == COMPONENTS[part])
    wanted = next(
        (item for item in step.manifests if item["kind"] == "Deployment" and item["metadata"]["name"] == name), None
    )
    finding = _finding(part, step, wanted, live, observed)
    if live is None or finding is None or finding.reason not in UNEXPLAINED:
        return View(part, live, wanted, finding)
    # What is wrong with a store that we run is said by its own condition, and passes with it.
    gone = {store: why for store, why in lost(bot, part, live, observed).items() if stores[store] is None}
    return View(part, live, wanted, next(iter(gone.values()), finding), lost=gone)


def _without_service(bot: ChatbotDeployment, view: View, steps: list[Step], observed: Observed) -> View:
    """While paused it is not made anew: its pods are ready, and nobody reaches them."""
    name = names.child(bot.name, view.part)
    wanted = any(_is(item, "Service", name) for step in steps for item in step.manifests)
    if not wanted or observed.child("Service", name):
        return view
    finding = view.finding or Blocked(Reason.NOT_CREATED, f"Service {name} does not exist.")
    return replace(view, finding=finding, reached=False)


def _is(item: Manifest, kind: str, name: str) -> bool:
    return bool(item["kind"] == kind and item["metadata"]["name"] == name)


def _waiting(context: Context, view: View) -> View:
    """What would run again waits for its data, which the mode alone does not say."""
    if not context.moving or context.bot.spec.mode != "Active" or not view.finding:
        return view
    if view.finding.reason != Reason.HIBERNATED:
        return view
    return replace(view, finding=Blocked(Reason.WAITING_FOR_STORE, "Waits until the data of Postgres has been copied."))


def _finding(
    part: names.Component, step: Step, wanted: Manifest | None, live: Manifest | None, observed: Observed
) -> Blocked | None:
    if step.blocked and step.blocked.reason in STUCK:
        return step.blocked
    if live is None:
        return step.blocked or Blocked(Reason.NOT_CREATED, f"Deployment of {part} does not exist yet.")
    if wanted is not None and (resting := rest(wanted, live)):
        return resting
    if wanted is not None and settled(wanted, observed):
        return None
    return deployment_finding(part, live, observed) or step.blocked or _rolling(live)


def _rolling(live: Manifest) -> Blocked:
    name, wanted = live["metadata"]["name"], desired(live)
    if not current(live):
        return Blocked(Reason.ROLLING_OUT, f"Deployment {name} was changed.")
    updated, ready = count(live, "updatedReplicas"), count(live, "readyReplicas")
    text = f"Deployment {name}: of {wanted} replicas {updated} are new and {ready} ready."
    return Blocked(Reason.ROLLING_OUT, text)


def _secrets(steps: Iterable[Step]) -> Blocked | None:
    """What is missing of the Secrets and texts that anything reads."""
    return next(
        (step.blocked for step in steps if step.blocked and (step.name == "secrets" or step.blocked.reason in MISSING)),
        None,
    )


def _dependencies(context: Context, steps: Iterable[Step]) -> Blocked | None:
    """What the cluster lacks, or does not take of what others look with; under the reason of the first."""
    refused = (step.blocked for step in steps if step.blocked and step.name == "monitoring")
    found = [*dependencies.lacking(context), *refused]
    return Blocked(found[0].reason, " ".join(one.message for one in found)) if found else None


def _stores(context: Context, steps: list[Step]) -> dict[names.Store, Blocked | None]:
    """What is wrong with each, whoever needs it."""
    bot, observed = context.bot, context.observed
    return {
        "postgres": reads.missing("auth and conversation", postgres.external(bot), context)
        or _store("postgres", steps, observed, moving.RUN_BY.get(bot.spec.stores.postgres.mode))
        or _copying(context, steps),
        "redis": reads.missing("gateway and chat", redis.external(bot), context) or _store("redis", steps, observed),
        "weaviate": _store("weaviate", steps, observed),
    }


def _lost(store: names.Store, views: Iterable[View]) -> Blocked | None:
    """The first component that cannot use it."""
    return next((view.lost[store] for view in views if store in view.lost), None)


def _store(
    store: names.Store, steps: Iterable[Step], observed: Observed, kind: str | None = "StatefulSet"
) -> Blocked | None:
    for step in steps:
        for item in step.manifests:
            if item["kind"] == kind and component_of(item) == store:
                return step.blocked or store_finding(item, observed)
    return None


def _copying(context: Context, steps: Iterable[Step]) -> Blocked | None:
    """What is worse comes first: a copy that goes on must not hide one that failed."""
    if not context.moving or context.observed.data is None:
        return None
    kind = moving.RUN_BY.get(context.observed.data.mode)
    if former := _store("postgres", steps, context.observed, kind):
        return former
    found = [_copy_finding(step, context) for step in steps if step.name == "copy"]
    stuck = (finding for finding in found if finding and finding.reason in STUCK)
    done = Blocked(Reason.COPYING_DATA, "The data has been copied.")
    return next(stuck, None) or next(filter(None, found), None) or done


def _copy_finding(step: Step, context: Context) -> Blocked | None:
    finding = step.blocked or job_finding(_job(step), context.observed)
    if finding and finding.reason == Reason.MIGRATION_FAILED:
        mode = context.observed.data.mode if context.observed.data else ""
        text = f"{finding.message} The data is where it was: spec.stores.postgres.mode may go back to {mode}."
        return Blocked(Reason.COPY_FAILED, text)
    if finding and finding.reason in (Reason.MIGRATING, Reason.NOT_CREATED):
        name = _job(step)["metadata"]["name"]
        return Blocked(Reason.COPYING_DATA, f"Job {name} copies the data; until then no component runs.")
    return finding


def _migrations(steps: Iterable[Step], observed: Observed) -> Blocked | None:
    """What is worse comes first: a database that waits must not hide one that failed."""
    found = [
        finding
        for step in steps
        if step.name == "migrations"
        and (step.blocked or step.manifests)
        and (finding := step.blocked or job_finding(_job(step), observed))
    ]
    return next((finding for finding in found if finding.reason in STUCK), next(iter(found), None))


def _job(step: Step) -> Manifest:
    return next(item for item in step.manifests if item["kind"] == "Job")


def _available(views: Iterable[View], previous: Status | None) -> bool | Blocked:
    """Whether every component has a pod that serves; else what keeps the first from it.

    A Deployment that was changed a moment ago still tells of its earlier form: then what was known stays.
    """
    views = list(views)
    if previous and any(view.live and not current(view.live) for view in views):
        known = next((item for item in previous.conditions if item.type == "Available"), None)
        if known is not None:
            return True if known.status == "True" else Blocked(known.reason, known.message)
    for view in views:
        serving = view.live is not None and current(view.live) and count(view.live, "availableReplicas")
        if not serving or not view.reached:
            return view.finding or Blocked(Reason.ROLLING_OUT, f"Component {view.part} has no available pod.")
    return True


def _phase(bot: ChatbotDeployment, ready: bool, found: Findings, views: Iterable[View]) -> Phase:
    cause = found.cause
    if cause and cause.reason in STUCK:
        return "Degraded" if found.available is True else "Failed"
    if bot.spec.mode == "Paused":
        return "Paused"
    if cause and cause.reason == Reason.HIBERNATED:
        return "Hibernated"
    if cause and cause.reason == Reason.SCALED_TO_ZERO:
        return "Idle"
    if ready:
        return "Ready"
    return "Progressing" if any(view.live for view in views) else "Pending"


def _component(view: View, previous: Status | None) -> ComponentStatus:
    live = view.live
    shown = live or view.wanted
    ready, updated = _counts(view, previous)
    return ComponentStatus(
        name=view.part,
        image=shown["spec"]["template"]["spec"]["containers"][0]["image"] if shown else "",
        desired=desired(live) if live else 0,
        ready=ready,
        updated=updated,
        config_hash=_config_hash(shown) if shown else "",
        reason=f"{view.finding.reason}: {view.finding.message}"[:MAX_TEXT] if view.finding else "",
    )


def _counts(view: View, previous: Status | None) -> tuple[int, int]:
    """Ready and updated pods; what was known of them, while the Deployment tells of an earlier form."""
    if view.live is None:
        return 0, 0
    if current(view.live):
        # All are new to the Deployment, but the Deployment is not what is wanted while its step waits.
        old = view.wanted is not None and applied_hash(view.wanted) != applied_hash(view.live)
        return count(view.live, "readyReplicas"), 0 if old else count(view.live, "updatedReplicas")
    known = next((item for item in previous.components if item.name == view.part), None) if previous else None
    return (known.ready, 0) if known else (0, 0)


def _config_hash(workload: Manifest) -> str:
    volumes = workload["spec"]["template"]["spec"].get("volumes") or []
    named = (volume["configMap"]["name"] for volume in volumes if volume["name"] == "config" and "configMap" in volume)
    return str(next(named, "")).rpartition("-")[2]
