"""Each component as it was seen, and why it has not settled. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components import conversation
from chatbot_operator.components.context import Context
from chatbot_operator.conditions import PASSING
from chatbot_operator.reachability import lost
from chatbot_operator.readiness import count, current, deployment_finding, desired, lower_bound, rest, settled
from chatbot_operator.reasons import STUCK, Reason
from chatbot_operator.world import Blocked, Manifest, Observed, Step, StepName

COMPONENTS: dict[names.Component, StepName] = {
    "gateway": "gateway",
    "auth": "auth",
    "chat": "chat",
    "conversation": "conversation",
    "conversation-worker": "conversation",
}
"""Each component and the step that makes it."""
UNEXPLAINED = PASSING | {Reason.PROGRESS_DEADLINE_EXCEEDED}
"""Findings of a Deployment that say less than its pods may."""


@dataclass(frozen=True)
class View:
    """One component as it was seen."""

    part: names.Component
    live: Manifest | None
    wanted: Manifest | None
    finding: Blocked | None
    """Why it has not settled; None: it has."""
    unreached: Blocked | None = None
    """Why nobody reaches its pods, however many serve; None: its Service leads to them."""
    lost: Mapping[names.Store, Blocked] = field(default_factory=dict)
    """Stores that keep it from settling."""


def views_of(context: Context, steps: list[Step], stores: Mapping[names.Store, Blocked | None]) -> list[View]:
    """
    Args:
        stores: what is wrong with each by itself.
    """
    bot, observed = context.bot, context.observed
    found = [_reading(context, _waiting(context, _view(bot, part, steps, observed, stores))) for part in COMPONENTS]
    return [_by_service(bot, view, steps, observed) for view in found]


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


def _by_service(bot: ChatbotDeployment, view: View, steps: list[Step], observed: Observed) -> View:
    """It may not be made anew or taken back: while paused, when it is refused, when somebody fights for it."""
    if view.live is None or view.part not in names.SERVICE_COMPONENTS:
        return view
    name = names.child(bot.name, view.part)
    wrong = misled(observed.child("Service", name), view.live)
    if not wrong:
        return view
    step = next(step for step in steps if step.name == COMPONENTS[view.part])
    why = step.blocked if step.blocked and f"Service {name}" in step.blocked.message else None
    unreached = why or Blocked(Reason.NOT_CREATED, f"Service {name} {wrong}: nobody reaches {view.part}.")
    return replace(view, finding=view.finding or unreached, unreached=unreached)


def misled(service: Manifest | None, deployment: Manifest) -> str:
    """What is wrong with a Service, so that callers do not reach the pods of a Deployment; empty: nothing.

    By what is there, not by what is wanted: both may be of an earlier version, and fit.
    """
    if service is None:
        return "does not exist"
    spec, pod = service["spec"], deployment["spec"]["template"]["spec"]
    if spec.get("type") == "ExternalName":
        return f"leads to {spec.get('externalName')}"
    if spec.get("selector") != deployment["spec"]["selector"]["matchLabels"]:
        return "does not select its pods"
    port = next((item for item in spec.get("ports") or () if item["port"] == names.SERVICE_PORT), None)
    if port is None:
        return f"has no port {names.SERVICE_PORT}"
    target, ports = port.get("targetPort", port["port"]), [item.get("ports") or () for item in pod["containers"]]
    listening = any(target in (item.get("name"), item["containerPort"]) for items in ports for item in items)
    return "" if listening else f"leads to port {target}, which its pods do not have"


def _waiting(context: Context, view: View) -> View:
    """What would run again waits for its data, which the mode alone does not say."""
    if not context.moving or context.bot.spec.mode != "Active" or not view.finding:
        return view
    if view.finding.reason != Reason.HIBERNATED:
        return view
    return replace(view, finding=Blocked(Reason.WAITING_FOR_STORE, "Waits until the data of Postgres has been copied."))


def _reading(context: Context, view: View) -> View:
    """The worker is not ready before it has read the FAQs, and says so to nobody."""
    bad = conversation.bad_faqs(context)
    concerned = bad and view.part == "conversation-worker" and view.finding and view.finding.reason in UNEXPLAINED
    return replace(view, finding=bad) if concerned else view


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
    return deployment_finding(part, live, observed) or step.blocked or _rolling(live, observed)


def _rolling(live: Manifest, observed: Observed) -> Blocked:
    """What is still waited for: numbers alone may read as if all were done."""
    name, wanted = live["metadata"]["name"], max(desired(live), lower_bound(live, observed))
    if not current(live):
        return Blocked(Reason.ROLLING_OUT, f"Deployment {name} was changed.")
    there, updated, ready = (count(live, field) for field in ("replicas", "updatedReplicas", "readyReplicas"))
    # Old pods are ready as a rule; more than all new ones are not waited for.
    unready = min(there - ready, updated)
    awaited = {"more to be made": wanted - updated, "more to be ready": unready, "old to end": there - updated}
    waits = ", ".join(f"{number} {what}" for what, number in awaited.items() if number > 0)
    text = f"Deployment {name}: of {wanted} replicas {updated} are new, {ready} pods are ready"
    return Blocked(
        Reason.ROLLING_OUT, f"{text}; waits for {waits}." if waits else f"{text}; it is not as the resource says."
    )
