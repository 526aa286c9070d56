"""The status of a resource that is left as it is: one that cannot be understood, or is being deleted. Pure.

Nobody looks after what was made of it, so whether it still serves is seen from what is there, not from what is wanted.
"""

from collections.abc import Iterable

from chatbot_resource.status import Phase, Status, VersionStatus
from pydantic import ValidationError

from chatbot_operator import names
from chatbot_operator.conditions import is_true, left_conditions
from chatbot_operator.errors import invalid_spec
from chatbot_operator.history import operator_version
from chatbot_operator.readiness import count
from chatbot_operator.reasons import Reason
from chatbot_operator.settings import Settings
from chatbot_operator.views import misled
from chatbot_operator.world import Blocked, Manifest


def invalid(
    body: Manifest,
    error: ValidationError,
    children: Iterable[Manifest],
    settings: Settings,
    previous: Status | None,
    now: str,
) -> Status:
    """The status of a resource that cannot be understood: what was known of it, and what is wrong with it."""
    metadata, finding = body["metadata"], invalid_spec(error, body)
    seen = int(metadata.get("generation", 0))
    said = left_conditions(finding, _available(metadata["name"], children, finding), seen, previous, now)
    known = previous or Status(
        observed_generation=seen,
        phase="Failed",
        conditions=said,
        components=[],
        components_ready=f"0/{len(names.SERVICE_COMPONENTS)}",
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


def leaving(body: Manifest, children: Iterable[Manifest], previous: Status, now: str) -> Status:
    """The status of a resource that is being deleted: its children go when it is gone, and nobody looks after them."""
    metadata = body["metadata"]
    seen, held = int(metadata.get("generation", 0)), ", ".join(metadata.get("finalizers") or [])
    told = Blocked(Reason.BEING_DELETED, f"It is being deleted; until then it is held by metadata.finalizers: {held}.")
    said = left_conditions(told, _available(metadata["name"], children, told), seen, previous, now)
    return previous.model_copy(update={"observed_generation": seen, "phase": "Terminating", "conditions": said})


def _available(bot: str, children: Iterable[Manifest], finding: Blocked) -> bool | Blocked:
    """
    Args:
        finding: why nothing is done about what does not serve.
    """
    there = {(item["kind"], item["metadata"]["name"]): item for item in children}
    for part in names.SERVICE_COMPONENTS:
        name = names.child(bot, part)
        live = there.get(("Deployment", name))
        if live is None or not count(live, "availableReplicas"):
            return Blocked(finding.reason, f"Component {part} has no available pod. {finding.message}")
        if wrong := misled(there.get(("Service", name)), live):
            return Blocked(finding.reason, f"Service {name} {wrong}: nobody reaches {part}. {finding.message}")
    return True
