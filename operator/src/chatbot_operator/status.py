"""What is reported of a resource: computed from what was observed, never from what was done. Pure."""

from collections.abc import Iterable, Mapping

from chatbot_resource.llm import resolve_llm
from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import MAX_TEXT, ComponentStatus, Phase, RolledBack, Status

from chatbot_operator import credentials, names, store_findings, whereabouts
from chatbot_operator.components import autoscaling, conversation, dependencies, exposure
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import applied_hash, generation, uid
from chatbot_operator.conditions import Findings, conditions, is_true, paused
from chatbot_operator.history import finished, given_up_finding, operator_version, versions
from chatbot_operator.readiness import count, current, desired
from chatbot_operator.reasons import MISSING, STUCK, Reason
from chatbot_operator.settings import Settings
from chatbot_operator.staying import held_back
from chatbot_operator.views import COMPONENTS, View, views_of
from chatbot_operator.world import Blocked, Manifest, Observed, Step, StepName

BESIDE: frozenset[StepName] = frozenset({"monitoring", "revision"})
"""Steps by which no pod runs: what becomes of them decides nothing about the bot itself."""
StoreFindings = Mapping[names.Store, Blocked | None]


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
    stores = store_findings.stores(context, steps)
    views = views_of(context, steps, stores)
    found = _findings(context, steps, stores, views, previous)
    said = conditions(bot, found, previous, now)
    ready = is_true(said, "Ready")
    return Status(
        observed_generation=generation(bot),
        phase=_phase(bot, ready, found, views),
        conditions=said,
        components=[_component(view, previous) for view in views],
        components_ready=_settled(views),
        url=exposure.url(bot),
        endpoints=whereabouts.endpoints(bot),
        model=str(resolve_llm(bot.spec.llm).default),
        version=versions(bot, settings, previous, rolled_back, ready=ready, now=now),
        migrations=finished(steps, observed, previous),
        stores=whereabouts.stores(context, found.stores),
        secrets=credentials.told(context, now, previous),
        operator_version=operator_version(),
    )


def _findings(
    context: Context, steps: list[Step], stores: StoreFindings, views: list[View], previous: Status | None
) -> Findings:
    bot = context.bot
    migrating = store_findings.migrations(context, steps)
    lacked = store_findings.lacked(context, views, migrating, previous)
    found = Findings(
        secrets=_secrets(steps) or conversation.bad_faqs(context),
        stores={name: finding or lacked.get(name) for name, finding in stores.items()},
        migrations=migrating,
        components={view.part: view.finding for view in views},
        blocked=next((step.blocked for step in steps if step.blocked and step.name not in BESIDE), None),
        available=_without_postgres(context, stores) or _available(views, previous),
        autoscaling=autoscaling.finding(context),
        autoscaled=bool(autoscaling.autoscalers(context)),
        route=exposure.finding(context),
        dependencies=_dependencies(context, steps),
        rolled_back=given_up_finding(bot, context.rolled_back),
        deleted=next((step.blocked for step in steps if step.blocked and _deleted(step.blocked)), None),
    )
    return paused(found, held_back(steps, context.observed, uid(bot))) if bot.spec.mode == "Paused" else found


def _deleted(finding: Blocked) -> bool:
    return finding.reason == Reason.BEING_DELETED


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


def _without_postgres(context: Context, stores: StoreFindings) -> Blocked | None:
    """What keeps a Postgres of ours from having a ready pod: those that need it say so only seconds later."""
    live = context.observed.child("StatefulSet", names.child(context.bot.name, "postgres"))
    away = live is not None and current(live) and not count(live, "readyReplicas")
    return stores["postgres"] if away else None


def _available(views: Iterable[View], previous: Status | None) -> bool | Blocked:
    """Whether every component that somebody waits for has a pod that serves and is reached; else what keeps the first.

    The worker answers nobody: without it the rest serves on, and is not Ready. A Deployment that was changed a moment
    ago still tells of its earlier form: then what was known stays.
    """
    views = [view for view in views if view.part in names.SERVICE_COMPONENTS]
    if previous and any(view.live and not current(view.live) for view in views):
        known = next((item for item in previous.conditions if item.type == "Available"), None)
        if known is not None:
            return True if known.status == "True" else Blocked(known.reason, known.message)
    for view in views:
        serving = view.live is not None and current(view.live) and count(view.live, "availableReplicas")
        if not serving:
            return view.finding or Blocked(Reason.ROLLING_OUT, f"Component {view.part} has no available pod.")
        if view.unreached:
            return view.unreached
    return True


def _phase(bot: ChatbotDeployment, ready: bool, found: Findings, views: Iterable[View]) -> Phase:
    cause = found.cause
    if found.deleted:
        return "Terminating"
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


def _settled(views: Iterable[View]) -> str:
    """Of the four components; the worker is a part of conversation."""
    left = {COMPONENTS[view.part] for view in views if view.finding}
    total = len(names.SERVICE_COMPONENTS)
    return f"{total - len(left)}/{total}"


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
        # All are new to the Deployment, but the Deployment is not what is wanted while its step waits, or lacks what it
        # would be made of.
        old = view.wanted is None or applied_hash(view.wanted) != applied_hash(view.live)
        return count(view.live, "readyReplicas"), 0 if old else count(view.live, "updatedReplicas")
    known = next((item for item in previous.components if item.name == view.part), None) if previous else None
    return (known.ready, 0) if known else (0, 0)


def _config_hash(workload: Manifest) -> str:
    volumes = workload["spec"]["template"]["spec"].get("volumes") or []
    named = (volume["configMap"]["name"] for volume in volumes if volume["name"] == "config" and "configMap" in volume)
    return str(next(named, "")).rpartition("-")[2]
